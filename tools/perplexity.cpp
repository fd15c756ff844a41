#include <algorithm>
#include <iterator>
#include <limits>
#include <ostream>

#include "formats/rope_config.h"
#include "lib/error.h"
#include "lib/nearest_word.h"
#include "tools/commands.h"
#include "tools/common_options.h"
#include "tools/served_context.h"
#include "tools/sweep_options.h"
#include "tools/text_input.h"
#include "tools/units.h"
#include "tools/window_scores.h"
#include "verify/perplexity.h"

namespace ropewalk::tools {
namespace {

struct PerplexityOptions {
  std::vector<std::string> sources;
  std::optional<std::string> contexts;
  std::string protocols = "tokens";
  std::optional<int> stride, windows;
  TextOptions text;
  SourceOptions modifiers;
  DeviceChoice device;
  CommonOptions common;
};

void declare(CommandLine& line, PerplexityOptions& options) {
  line.positionals(options.sources, "SOURCE", "models to put side by side", 1);
  line.option("-c,--context,--ctx-size", options.contexts, "N[,N...]",
              "contexts, e.g. 4096 or 4k,8k,16k (default: the first source's)");
  line.option("--protocol", options.protocols, "P[,P...]",
              "tokens, yarn, hf or llama.cpp (default tokens). How windows are cut and averaged: tokens: exp of the "
              "mean over scored tokens; yarn: mean of windows, one BOS each, stride 256; hf: transformers' guide; "
              "llama.cpp: second half of each chunk. "
              "Each protocol has its own table");
  line.option("--stride", options.stride, 1, 1 << 30, "S", "tokens between windows (default: by protocol)");
  line.option("--windows", options.windows, 1, 1'000'000, "K", "only the first K windows");
  declare_text(line, options.text);
  declare_modifiers(line, options.modifiers);
  declare_unmerged(line, options.modifiers);
  declare_device(line, options.device);
  declare_common(line, options.common);
  line.example("ropewalk perplexity base base+rope=yarn,factor=8 tuned -f text.txt -c 256,1k,2k",
               "a Markdown table for a model card");
  line.example("ropewalk perplexity model -f a.txt -f b.txt -c 2k --protocol yarn,llama.cpp",
               "the YaRN repository's number and llama-perplexity's");
}

std::vector<verify::Protocol> parse_protocols(const std::string& text) {
  std::vector<verify::Protocol> protocols;
  for (const std::string& part : split_list(text)) {
    const auto protocol = verify::protocol_from_name(part);
    if (!protocol) {
      const auto near = nearest_word(part, {"tokens", "yarn", "hf", "llama.cpp"});
      throw Error(ErrorKind::usage, {}, "unknown --protocol '" + part + "'",
                  near ? "did you mean " + *near + "?" : "use tokens, yarn, hf or llama.cpp");
    }
    add_once(protocols, *protocol, "--protocol", part);
  }
  return protocols;
}

/// Error(usage) for windows that leave out what the protocol scores. `lead`: ids of a window that are not the text's, 0
/// where that is not known yet.
void check_windows(const std::vector<verify::Protocol>& protocols, const std::vector<int>& contexts,
                   std::optional<int> stride, int lead) {
  using verify::Protocol;
  for (Protocol protocol : protocols)
    for (int context : contexts) {
      const std::string which = std::string("protocol ") + verify::protocol_name(protocol);
      if (protocol == Protocol::llama_cpp && context < 3)
        throw Error(ErrorKind::usage, {}, which + " scores the second half of a chunk, and one of 2 has none",
                    "give -c of at least 3");
      if (!stride || protocol == Protocol::yarn) continue;  // yarn: a long stride is the repository's --truncate
      if (protocol == Protocol::llama_cpp && *stride != context)
        throw Error(ErrorKind::usage, {},
                    "--stride is " + std::to_string(*stride) + ", and " + which + " has no overlap",
                    "leave --stride out or take another protocol");
      const int longest = context - (protocol == Protocol::tokens ? lead : 0);  // hf has BOS in its first window alone
      if (*stride > longest)
        throw Error(ErrorKind::usage, {},
                    "--stride is " + std::to_string(*stride) + ", and a window of " + std::to_string(context) +
                        " holds " + plural(static_cast<std::uint64_t>(longest), "token") + " of the text: " + which +
                        " would leave tokens out",
                    "give a --stride of at most " + std::to_string(longest) + ", or leave it out");
    }
}

using Documents = std::vector<std::vector<std::int32_t>>;  // ids

/// The ids of windows [first, last), counted through all plans.
std::vector<verify::Window> windows_of(const std::vector<verify::WindowPlan>& plans, const Documents& documents,
                                       std::size_t first, std::size_t last) {
  std::vector<verify::Window> windows;
  std::size_t before = 0;
  for (const verify::WindowPlan& plan : plans) {
    const std::size_t begin = std::clamp(first, before, before + plan.spans.size()) - before,
                      end = std::clamp(last, before, before + plan.spans.size()) - before;
    std::ranges::move(verify::window_ids(plan, documents, begin, end), std::back_inserter(windows));
    before += plan.spans.size();
  }
  return windows;
}

/// One source under one protocol at every context: the windows of all lengths share one sweep, as far as memory allows.
std::vector<verify::PerplexityResult> evaluate(const Checkpoint& model, const Documents& documents,
                                               const std::vector<int>& contexts, verify::Protocol protocol,
                                               std::optional<std::int32_t> bos, SweepDevice& device,
                                               const PerplexityOptions& options, const Io& io) {
  const std::size_t most =
      options.windows ? static_cast<std::size_t>(*options.windows) : std::numeric_limits<std::size_t>::max();
  std::vector<verify::WindowPlan> plans;
  for (int context : contexts)
    plans.push_back(verify::plan_windows(documents, context, options.stride.value_or(0), protocol, bos, most));
  std::vector<std::size_t> lengths;
  for (const verify::WindowPlan& plan : plans)
    for (const verify::WindowSpan& span : plan.spans) lengths.push_back(static_cast<std::size_t>(span.size()));
  const auto scores = score_windows(
      model, lengths, [&](std::size_t first, std::size_t last) { return windows_of(plans, documents, first, last); },
      device, options.common, io);
  std::vector<verify::PerplexityResult> results;
  auto at = scores.begin();
  for (const verify::WindowPlan& plan : plans) {
    const auto end = at + static_cast<std::ptrdiff_t>(plan.spans.size());
    results.push_back(verify::summarise(plan, {at, end}));
    at = end;
  }
  return results;
}

Json result_json(const std::string& source, const verify::PerplexityResult& result) {
  Json positions = Json::array();
  for (const verify::PositionBucket& bucket : result.positions)
    positions.push_back({{"from", bucket.from}, {"to", bucket.to}, {"nll", bucket.nll}, {"tokens", bucket.tokens}});
  return {{"source", source},
          {"context", result.context},
          {"stride", result.stride},
          {"protocol", verify::protocol_name(result.protocol)},
          {"perplexity", result.perplexity},
          {"nll", result.nll},
          {"tokens", result.tokens},
          {"windows", result.windows},
          {"positions", positions}};
}

/// "256", or "255 to 2047" where each context or source has its own.
std::string stride_text(const std::vector<verify::PerplexityResult>& results) {
  const auto [least, most] = std::minmax_element(results.begin(), results.end(),
                                                 [](const auto& a, const auto& b) { return a.stride < b.stride; });
  return std::to_string(least->stride) + (least->stride == most->stride ? "" : " to " + std::to_string(most->stride));
}

struct Opened {
  formats::Source source;
  Documents documents;
  std::optional<std::int32_t> bos;
};

/// "1024 tokens", or "1000 to 1024 tokens" where sources cut the text into more or fewer.
std::string tokens_text(const std::vector<Opened>& opened) {
  std::uint64_t least = std::numeric_limits<std::uint64_t>::max(), most = 0;
  for (const Opened& one : opened) {
    const std::uint64_t tokens = count_ids(one.documents);
    least = std::min(least, tokens), most = std::max(most, tokens);
  }
  return (least == most ? "" : std::to_string(least) + " to ") + plural(most, "token");
}

int run_perplexity(const PerplexityOptions& options, Io& io) {
  check_reports(options.common);
  std::vector<int> contexts = options.contexts ? parse_contexts(*options.contexts) : std::vector<int>{};
  const auto protocols = parse_protocols(options.protocols);
  if (options.sources.size() > 1 && (!options.modifiers.adapters.empty() || options.modifiers.rope))
    throw Error(ErrorKind::usage, {},
                "-a and --rope belong to one SOURCE, and there are " + std::to_string(options.sources.size()),
                "write it to the one it is for: SOURCE+ADAPTER or SOURCE+rope=SPEC");
  check_windows(protocols, contexts, options.stride, 0);
  SweepDevice device = choose_device(options.device);
  const Corpus corpus = read_corpus(options.text, io);
  Output output{.command = "perplexity"};
  if (options.sources.size() == 1) output.source = source_text(options.sources.front(), options.modifiers);
  std::vector<Opened> opened;
  for (const std::string& text : options.sources) {
    Opened one{open_source(text, options.modifiers, options.common, io), {}, std::nullopt};
    one.documents = corpus_ids(corpus, one.source.checkpoint);
    one.bos = leading_bos(one.source.checkpoint, corpus);
    output.warnings.insert(output.warnings.end(), one.source.checkpoint.warnings.begin(),
                           one.source.checkpoint.warnings.end());
    for (std::string& line : bos_warnings(one.source.checkpoint, corpus, one.documents, one.bos)) {
      warn(line, options.common, io);
      output.warnings.push_back(std::move(line));
    }
    if (!opened.empty() && one.documents != opened.front().documents) {
      output.warnings.push_back("'" + text + "' cuts the text into other tokens than '" + options.sources.front() +
                                "': their perplexities are of different things");
      warn(output.warnings.back(), options.common, io);
    }
    opened.push_back(std::move(one));
  }
  if (std::ranges::all_of(opened, [](const Opened& one) { return one.source.adapters.empty(); }))
    check_unmerged(options.modifiers, opened.front().source);
  if (contexts.empty()) contexts = {context_of(std::nullopt, opened.front().source.checkpoint)};
  for (const Opened& one : opened) {  // before any weight is read
    check_windows(protocols, contexts, options.stride, one.bos ? 1 : 0);
    for (std::size_t i = 0; i < one.documents.size(); ++i)
      with_path(corpus.names[i], [&] {
        for (verify::Protocol protocol : protocols)
          for (int context : contexts)
            verify::plan_windows({one.documents[i]}, context, options.stride.value_or(0), protocol, one.bos, 1);
      });
    const int longest = *std::max_element(contexts.begin(), contexts.end());
    if (const auto line = past_served(one.source.checkpoint, longest, "'" + one.source.spec.text + "'")) {
      output.warnings.push_back(*line);
      warn(*line, options.common, io);
    }
  }

  const std::uint64_t tokens = count_ids(opened.front().documents);
  output.body = {{"corpus", corpus_json(corpus, tokens)}, {"results", Json::array()}};
  for (verify::Protocol protocol : protocols) {
    Table table{{{"perplexity"}}, {}};
    for (int context : contexts) table.columns.push_back({std::to_string(context), true});
    std::vector<verify::PerplexityResult> all;
    for (const Opened& one : opened) {
      const auto results =
          evaluate(one.source.checkpoint, one.documents, contexts, protocol, one.bos, device, options, io);
      std::vector<std::string> row = {one.source.spec.text};
      for (const auto& result : results) {
        row.push_back(fixed_text(result.perplexity, 3));
        output.body["results"].push_back(result_json(one.source.spec.text, result));
      }
      table.rows.push_back(std::move(row));
      all.insert(all.end(), results.begin(), results.end());
    }
    output.text(std::string("protocol ") + verify::protocol_name(protocol) + ", stride " + stride_text(all) + "; " +
                corpus.path + ", " + tokens_text(opened) + ", sha256 " + corpus.sha256 + on_device(device) +
                unmerged_text(options.modifiers));
    output.table(std::move(table));
  }
  output.body["device"] = device_json(device);
  output.body["unmerged"] = options.modifiers.unmerged;
  emit(output, options.common, io);
  return 0;
}

}  // namespace

Command perplexity_command() {
  return make_command("perplexity", "perplexity by context, several sources side by side", declare, run_perplexity);
}

}  // namespace ropewalk::tools
