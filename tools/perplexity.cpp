#include <algorithm>
#include <iterator>
#include <limits>
#include <ostream>

#include "formats/rope_config.h"
#include "lib/error.h"
#include "lib/nearest_word.h"
#include "tools/commands.h"
#include "tools/common_options.h"
#include "tools/perplexity_charts.h"
#include "tools/perplexity_results.h"
#include "tools/placed_gates.h"
#include "tools/served_context.h"
#include "tools/sweep_options.h"
#include "tools/text_input.h"
#include "tools/units.h"
#include "verify/perplexity.h"

namespace ropewalk::tools {
namespace {

struct PerplexityOptions {
  std::vector<std::string> sources;
  std::optional<std::string> contexts;
  std::string protocols = "tokens";
  std::optional<int> stride, windows, last, min_tokens, samples;
  bool truncate = false;
  std::optional<std::string> compare, baseline;
  std::vector<std::string> max, min;
  TextOptions text;
  SourceOptions modifiers;
  DeviceChoice device;
  KeptSweeps kept;
  CommonOptions common;
};

void declare(CommandLine& line, PerplexityOptions& options) {
  line.positionals(options.sources, reads("SOURCE"), "models to put side by side", 1);
  line.option("-c,--context,--ctx-size", options.contexts, "N[,N...]",
              "contexts, e.g. 4096 or 4k,8k,16k (default: the first source's)");
  line.option("--protocol", options.protocols, "P[,P...]",
              "tokens, yarn, hf or llama.cpp (default tokens). How windows are cut and averaged: tokens: exp of the "
              "mean over scored tokens; yarn: mean of windows, one BOS each, stride 256; hf: transformers' guide; "
              "llama.cpp: second half of each chunk. "
              "Each protocol has its own table");
  line.option("--stride", options.stride, 1, 1 << 30, "S", "tokens between windows (default: by protocol)");
  line.flag("--truncate", options.truncate,
            "yarn: one window of each document, its beginning, as the repository's --truncate");
  line.option("--windows", options.windows, 1, 1'000'000, "K", "only the first K windows");
  line.context_option("--min-tokens", options.min_tokens, "N",
                      "leave out documents of fewer tokens, e.g. 64k, and say how many");
  line.option("--samples", options.samples, 1, 1'000'000'000, "K", "only the first K documents");
  line.option("--positions", options.last, 1, 1 << 30, "N", "also the perplexity at the last N positions of a context");
  line.option(
      "--baseline", options.baseline, reads("BASE"),
      "the model before its context was extended: gives short_context_tax, how much more the perplexity is within "
      "BASE's context");
  line.option(
      "--compare", options.compare, reads("FILE.json"),
      "published figures, as perplexity --json writes them: joins them where protocol, stride and text are the same");
  line.option("--max", options.max, "NAME[@N]=V",
              "upper bound on ppl, ppl_last (of --positions) or short_context_tax, at one context or all. Repeatable");
  line.option("--min", options.min, "NAME[@N]=V", "lower bound. Repeatable");
  declare_text(line, options.text);
  declare_modifiers(line, options.modifiers);
  declare_unmerged(line, options.modifiers);
  declare_device(line, options.device);
  declare_kept_sweeps(line, options.kept);
  declare_common(line, options.common);
  line.example("ropewalk perplexity base base+rope=yarn,factor=8 tuned -f text.txt -c 256,1k,2k",
               "a Markdown table for a model card");
  line.example("ropewalk perplexity model -f a.txt -f b.txt -c 2k --protocol yarn,llama.cpp",
               "the YaRN repository's number and llama-perplexity's");
  line.example(
      "ropewalk perplexity tuned -f proof-pile.jsonl.zst --min-tokens 64k --samples 10 --protocol yarn --truncate "
      "-c 4k,64k --baseline base --max ppl@64k=4.6 --max short_context_tax=5%",
      "a release's gate");
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

/// Error(usage) for windows that leave out what the protocol scores. `lead`: ids of a window that are not the text's,
/// nullopt where that is not known yet: BOS at most.
void check_windows(const std::vector<verify::Protocol>& protocols, const std::vector<int>& contexts,
                   std::optional<int> stride, std::optional<int> lead) {
  using verify::Protocol;
  if (contexts.empty()) return;
  const int shortest = *std::ranges::min_element(contexts);
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
      const bool leads = protocol == Protocol::tokens;  // hf has BOS in its first window alone
      const int longest = context - (leads ? lead.value_or(0) : 0);
      if (*stride > longest)  // what is advised passes at every context, and with a BOS
        throw Error(ErrorKind::usage, {},
                    "--stride is " + std::to_string(*stride) + ", and a window of " + std::to_string(context) +
                        " holds " + (lead ? "" : "at most ") + plural(static_cast<std::uint64_t>(longest), "token") +
                        " of the text: " + which + " would leave tokens out",
                    "give a --stride of at most " +
                        std::to_string(std::max(1, shortest - (leads ? lead.value_or(1) : 0))) + ", or leave it out");
    }
}

/// "1024 tokens", or "1000 to 1024 tokens" where sources cut the text into more or fewer.
std::string tokens_text(const std::vector<Opened>& opened) {
  std::uint64_t least = std::numeric_limits<std::uint64_t>::max(), most = 0;
  for (const Opened& one : opened) {
    const std::uint64_t tokens = count_ids(one.documents);
    least = std::min(least, tokens), most = std::max(most, tokens);
  }
  return (least == most ? "" : std::to_string(least) + " to ") + plural(most, "token");
}

void check_truncate(const PerplexityOptions& options, const std::vector<verify::Protocol>& protocols) {
  if (!options.truncate) return;
  if (options.stride) throw Error(ErrorKind::usage, {}, "--stride and --truncate were both given", "give one of them");
  if (std::ranges::any_of(protocols, [](verify::Protocol one) { return one != verify::Protocol::yarn; }))
    throw Error(ErrorKind::usage, {}, "--truncate is of protocol yarn, and --protocol is " + options.protocols,
                "give --protocol yarn");
}

/// Error(usage) for more positions than every context has.
void check_last(std::optional<int> last, const std::vector<int>& contexts) {
  for (const int context : contexts)
    if (last && *last >= context)
      throw Error(ErrorKind::usage, {},
                  "--positions is " + std::to_string(*last) + ", and of a context of " + std::to_string(context) +
                      " at most " + std::to_string(context - 1) + " are scored",
                  "give fewer positions or larger contexts");
}

std::vector<PlacedGate> gates_of(const PerplexityOptions& options, const std::vector<int>& contexts) {
  return placed_gates(options.max, options.min,
                      {{"ppl"},
                       {"ppl_last", FigureKind::number, options.last ? "" : "--positions N"},
                       {"short_context_tax", FigureKind::change, options.baseline ? "" : "--baseline BASE"}},
                      lengths_as_places(contexts));
}

/// Leaves of a corpus, and of its ids, the documents that --min-tokens and --samples leave: the same ones for every
/// source. What it left out.
std::string choose_documents(const PerplexityOptions& options, Documents& encoded, Corpus& corpus) {
  if (!options.min_tokens && !options.samples) return "";
  const std::size_t needed = options.min_tokens ? static_cast<std::size_t>(*options.min_tokens) : 0,
                    most = options.samples ? static_cast<std::size_t>(*options.samples) : encoded.size();
  Corpus kept{.path = corpus.path, .bundled = corpus.bundled};
  Documents kept_ids;
  std::size_t short_ones = 0;
  for (std::size_t i = 0; i < encoded.size() && kept.names.size() < most; ++i) {
    if (encoded[i].size() < needed) {
      ++short_ones;
      continue;
    }
    kept.names.push_back(corpus.names[i]);
    if (corpus.given_ids()) kept.ids.push_back(std::move(corpus.ids[i]));
    else kept.documents.push_back(std::move(corpus.documents[i]));
    kept_ids.push_back(std::move(encoded[i]));
  }
  if (kept.names.empty())
    throw Error(ErrorKind::bad_input, {.path = corpus.path},
                "no document has the " + plural(needed, "token") + " of --min-tokens", "give longer documents");
  kept.sha256 = text_hash(kept);
  const std::string line = "; " + plural(kept.names.size(), "document") + " of " + std::to_string(encoded.size()) +
                           (short_ones > 0 ? ", " + std::to_string(short_ones) + " too short" : "");
  corpus = std::move(kept), encoded = std::move(kept_ids);
  return line;
}

/// Opens a source, its text in its own ids.
Opened open_one(const std::string& text, bool is_baseline, const PerplexityOptions& options, const Corpus& corpus,
                Output& output, const Io& io) {
  const SourceOptions none;
  Opened one{
      open_source(text, to_encode(is_baseline ? none : options.modifiers, !corpus.given_ids()), options.common, io),
      {},
      std::nullopt,
      is_baseline,
      true};
  one.documents = corpus_ids(corpus, one.source.checkpoint);
  one.bos = leading_bos(one.source.checkpoint, corpus);
  const auto& warnings = one.source.checkpoint.warnings;
  output.warnings.insert(output.warnings.end(), warnings.begin(), warnings.end());
  return one;
}

void say(std::string line, Output& output, const CommonOptions& common, const Io& io) {
  warn(line, common, io);
  output.warnings.push_back(std::move(line));
}

std::string no_verdict(const PerplexityOptions& options) {
  return options.max.empty() && options.min.empty() ? "perplexity without --max or --min" : "";
}

int run_perplexity(const PerplexityOptions& options, Io& io) {
  check_reports(options.common, {.sarif = true, .drawings = true});
  std::vector<int> contexts = options.contexts ? parse_contexts(*options.contexts) : std::vector<int>{};
  const auto protocols = parse_protocols(options.protocols);
  if (options.sources.size() > 1 && (!options.modifiers.adapters.empty() || options.modifiers.rope))
    throw Error(ErrorKind::usage, {},
                "-a and --rope belong to one SOURCE, and there are " + std::to_string(options.sources.size()),
                "write it to the one it is for: SOURCE+ADAPTER or SOURCE+rope=SPEC");
  check_windows(protocols, contexts, options.stride, std::nullopt);
  check_truncate(options, protocols);
  check_last(options.last, contexts);
  if (!contexts.empty()) (void)gates_of(options, contexts);
  SweepDevice device = choose_device(options.device);
  keep_sweeps(options.kept, options.common, device, io);
  const auto published = options.compare ? parse_published(*options.compare, read_text(*options.compare, io))
                                         : std::vector<PublishedFigure>{};
  Corpus corpus = read_corpus(options.text, io);
  Output output{.command = "perplexity"};
  if (options.sources.size() == 1) output.source = source_text(options.sources.front(), options.modifiers);
  const WindowOptions windows{options.stride, options.windows, options.last, options.truncate};
  std::vector<Opened> opened;
  opened.push_back(open_one(options.sources.front(), false, options, corpus, output, io));
  const std::string chosen = choose_documents(options, opened.front().documents, corpus);
  for (std::size_t i = 1; i < options.sources.size(); ++i)
    opened.push_back(open_one(options.sources[i], false, options, corpus, output, io));
  if (options.baseline) opened.push_back(open_one(*options.baseline, true, options, corpus, output, io));
  for (const Opened& one : opened) {
    for (std::string& line : bos_warnings(one.source.checkpoint, corpus, one.documents, one.bos))
      say(std::move(line), output, options.common, io);
    if (one.documents != opened.front().documents)
      say("'" + one.source.spec.text + "' cuts the text into other tokens than '" + options.sources.front() +
              "': their perplexities are of different things",
          output, options.common, io);
  }
  for (Opened& one : opened) {
    const Opened& base = opened.back();
    one.as_baseline = !options.baseline || (one.documents == base.documents && one.bos == base.bos);
    if (!one.as_baseline)
      say("'" + one.source.spec.text + "' and the baseline '" + base.source.spec.text +
              "' take the text in other tokens: there is no short_context_tax",
          output, options.common, io);
  }
  if (std::ranges::all_of(opened, [](const Opened& one) { return one.source.adapters.empty(); }))
    check_unmerged(options.modifiers, opened.front().source);
  if (contexts.empty()) contexts = {context_of(std::nullopt, opened.front().source.checkpoint)};
  check_last(options.last, contexts);
  const std::vector<PlacedGate> gates = gates_of(options, contexts);
  for (const Opened& one : opened) {  // before any weight is read
    check_windows(protocols, contexts, options.stride, one.bos ? 1 : 0);
    for (std::size_t i = 0; i < one.documents.size(); ++i)
      with_path(corpus.names[i], [&] {
        for (verify::Protocol protocol : protocols)
          for (int context : contexts)
            verify::plan_windows({one.documents[i]}, context, windows.asked_stride(), protocol, one.bos, 1);
      });
    const int longest = *std::max_element(contexts.begin(), contexts.end());
    if (one.is_baseline) continue;  // is asked for what it serves
    if (const auto line = past_served(one.source.checkpoint, longest, "'" + one.source.spec.text + "'"))
      say(*line, output, options.common, io);
  }
  for (const PublishedFigure& figure : published)
    if (std::ranges::none_of(protocols, [&](auto one) { return figure.protocol == verify::protocol_name(one); }))
      say(figure.source + " of " + *options.compare + " is of protocol " + figure.protocol + ", which is not evaluated",
          output, options.common, io);

  const std::uint64_t tokens = count_ids(opened.front().documents);
  output.body = {{"corpus", corpus_json(corpus, tokens)}, {"results", Json::array()}, {"published", Json::array()}};
  std::vector<PlacedFigure> figures;
  for (verify::Protocol protocol : protocols) {
    ProtocolResults results{protocol, {}};
    for (const Opened& one : opened)
      results.sources.push_back(evaluate(one, contexts, protocol, windows, device, options.common, io));
    const std::size_t said = output.warnings.size();
    add_tables(results, contexts, windows, published, corpus.sha256,
               "; " + corpus.path + chosen + ", " + tokens_text(opened) + ", sha256 " + corpus.sha256 +
                   on_device(device) + unmerged_text(options.modifiers),
               output);
    for (std::size_t i = said; i < output.warnings.size(); ++i) warn(output.warnings[i], options.common, io);
    add_json(results, windows, output);
    std::ranges::move(figures_of(results, protocols.size() > 1), std::back_inserter(figures));
    std::vector<PerplexityRow> rows;
    for (const SourceResults& one : results.sources) {
      PerplexityRow& row = rows.emplace_back(PerplexityRow{one.source, {}});
      for (const auto& result : one.results)
        if (result) row.results.push_back(*result);
      if (row.results.empty()) rows.pop_back();
    }
    if (!rows.empty()) std::ranges::move(perplexity_drawings(rows), std::back_inserter(output.drawings));
  }
  return judge_and_emit({gates, std::move(figures), "context", options.modifiers.unmerged}, device, options.common, io,
                        output);
}

}  // namespace

Command perplexity_command() {
  return make_command("perplexity", "perplexity by context, several sources side by side", declare, run_perplexity,
                      {.no_verdict = no_verdict});
}

}  // namespace ropewalk::tools
