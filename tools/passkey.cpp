#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numeric>

#include "formats/rope_config.h"
#include "lib/nearest_word.h"
#include "lib/split_mix.h"
#include "tools/commands.h"
#include "tools/common_options.h"
#include "tools/describe.h"
#include "tools/heat_map.h"
#include "tools/placed_gates.h"
#include "tools/served_context.h"
#include "tools/text_input.h"
#include "tools/units.h"
#include "tools/window_scores.h"
#include "verify/binomial.h"
#include "verify/passkey.h"

namespace ropewalk::tools {
namespace {

struct PasskeyOptions {
  std::vector<std::string> sources;
  std::optional<std::string> contexts, svg;
  std::string depths = "0,25,50,75,100", haystack = "grass";
  int iterations = 4, n_keys = 1, seed = 1;
  std::vector<std::string> min;
  TextOptions text;
  SourceOptions modifiers;
  DeviceChoice device;
  KeptSweeps kept;
  CommonOptions common;
};

void declare(CommandLine& line, PasskeyOptions& options) {
  line.positionals(options.sources, reads("SOURCE"), "models to put side by side", 1);
  line.option("-c,--context,--ctx-size", options.contexts, "N[,N...]",
              "lengths of prompt and answer, e.g. 4k,16k,64k (default: the first source's context)");
  line.option("--depths", options.depths, "D[,D...]",
              "where the key stands, in percent of the haystack, or 'random', drawn for each key as the published "
              "protocol does (default 0,25,50,75,100)");
  line.option("--iterations", options.iterations, 1, 100'000, "K", "keys for each length and depth (default 4)");
  line.option("--num-keys", options.n_keys, 1, 1000, "K",
              "keys in the haystack, of which one is asked for (default 1)");
  line.option(
      "--haystack", options.haystack, "grass|text|keys",
      "what it is hidden in (default grass): grass: the sentences of landmark attention and the YaRN repository; "
      "text: -f, or a bundled novel; keys: nothing but other keys");
  line.option("--seed", options.seed, 0, 2'147'483'647, "N", "of keys and of random depths (default 1)");
  line.option("--min", options.min, "accuracy[@N]=V",
              "fail where fewer are found, at every length or at N, e.g. 0.9 or 90%. Repeatable");
  line.option("--svg", options.svg, writes("FILE"), "draw accuracy by length and depth");
  line.option("-f,--file", options.text.files, reads("TEXT"), "text for --haystack text, UTF-8; - is standard input");
  declare_modifiers(line, options.modifiers);
  declare_unmerged(line, options.modifiers);
  declare_device(line, options.device);
  declare_kept_sweeps(line, options.kept);
  declare_common(line, options.common);
  line.example("ropewalk passkey base tuned -c 4k,8k,16k --svg passkey.svg", "which of the two finds it, and where");
  line.example("ropewalk passkey model.gguf -c 64k --depths random --iterations 20 --min accuracy=0.9",
               "the published protocol as a gate");
}

/// nullopt: random.
std::optional<std::vector<double>> parse_depths(const std::string& text) {
  if (text == "random") return std::nullopt;
  std::vector<double> depths;
  for (std::string part : split_list(text)) {
    const std::string asked = part;
    if (part.ends_with('%')) part.pop_back();
    std::size_t end = 0;
    double percent = -1;
    try {
      percent = std::stod(part, &end);
    } catch (const std::exception&) {
    }
    if (end != part.size() || !(percent >= 0 && percent <= 100))
      throw Error(ErrorKind::usage, {}, "--depths has '" + asked + "'",
                  "give percentages such as 0,50,100, separated by commas, or 'random'");
    add_once(depths, percent / 100, "--depths", asked);
  }
  return depths;
}

verify::Haystack parse_haystack(const std::string& name) {
  if (const auto haystack = verify::haystack_from_name(name)) return *haystack;
  const auto near = nearest_word(name, {"grass", "text", "keys"});
  throw Error(ErrorKind::usage, {}, "unknown --haystack '" + name + "'",
              near ? "did you mean " + *near + "?" : "use grass, text or keys");
}

std::vector<PlacedGate> parse_gates(const std::vector<std::string>& texts, const std::vector<int>& contexts) {
  return placed_gates({}, texts, {{"accuracy", FigureKind::share}}, lengths_as_places(contexts));
}

/// What is asked, of all sources alike: [context][depth][iteration].
std::vector<verify::PasskeyTask> tasks_of(const PasskeyOptions& options, const std::vector<int>& contexts,
                                          const std::optional<std::vector<double>>& depths, std::string_view text) {
  std::vector<verify::PasskeyTask> tasks;
  const std::size_t n_depths = depths ? depths->size() : 1;
  for (int context : contexts)
    for (std::size_t depth = 0; depth < n_depths; ++depth)
      for (int iteration = 0; iteration < options.iterations; ++iteration) {
        std::uint64_t seed = static_cast<std::uint64_t>(options.seed);
        for (const std::uint64_t part : {static_cast<std::uint64_t>(context), static_cast<std::uint64_t>(depth),
                                         static_cast<std::uint64_t>(iteration)})
          seed = mixed(seed, part);
        const double at = depths ? (*depths)[depth] : static_cast<double>(mixed(seed, 0) >> 11) * 0x1p-53;
        tasks.push_back({context, at, seed, options.n_keys, *verify::haystack_from_name(options.haystack), text});
      }
  return tasks;
}

/// Answers of one length, or of one depth of it.
struct Cell {
  std::uint64_t asked = 0, correct = 0, right = 0, ids = 0, unjudged = 0;
  double nll = 0;
  void add(const verify::PasskeyAnswer& answer) {
    ++asked, correct += answer.correct ? 1 : 0, right += answer.right, ids += answer.n, nll += answer.nll;
    unjudged += answer.judged ? 0 : 1;
  }
  /// Of answers, or of their ids. NaN where one is no number: the model is damaged, and has no figures.
  double share(std::uint64_t part, std::uint64_t whole) const {
    return unjudged ? std::nan("") : static_cast<double>(part) / static_cast<double>(whole);
  }
  double accuracy() const { return share(correct, asked); }
  Json json() const {
    return {{"asked", asked},
            {"correct", correct},
            {"accuracy", accuracy()},
            {"token_accuracy", share(right, ids)},
            {"answer_nll", unjudged ? std::nan("") : nll / static_cast<double>(ids)}};
  }
};
struct SourceCells {
  std::string name;
  std::vector<Cell> lengths;             // [context]
  std::vector<std::vector<Cell>> cells;  // [context][depth]
  std::vector<Json> questions;           // [context], an array each
  std::string file = {};                 // that says what the source is
};

/// One source's answers; the windows of all lengths share a sweep, as far as memory allows.
SourceCells answer_all(const formats::Source& source, const std::vector<verify::PasskeyTask>& tasks,
                       std::size_t n_contexts, std::size_t n_depths, SweepDevice& device, const CommonOptions& common,
                       const Io& io) {
  const auto tokenizer = formats::Tokenizer::create(vocabulary_of(source.checkpoint));
  const std::vector<std::int32_t> lead = leading_ids(source.checkpoint, Corpus{});
  std::vector<verify::PasskeyWindow> windows;
  std::vector<std::size_t> lengths;
  for (const verify::PasskeyTask& task : tasks) {
    windows.push_back(verify::passkey_window(task, *tokenizer, lead));
    lengths.push_back(windows.back().ids.size());
  }
  const auto scores = score_windows(
      source.checkpoint, lengths,
      [&](std::size_t first, std::size_t last) {
        std::vector<verify::Window> ids;
        for (std::size_t at = first; at < last; ++at) ids.push_back(windows[at].ids);
        return ids;
      },
      device, common, io);
  SourceCells out{source.spec.text, std::vector<Cell>(n_contexts), {}, std::vector<Json>(n_contexts, Json::array())};
  out.file = described_by(source);
  out.cells.assign(n_contexts, std::vector<Cell>(n_depths));
  const std::size_t each = tasks.size() / (n_contexts * n_depths);
  for (std::size_t task = 0; task < tasks.size(); ++task) {
    const verify::PasskeyAnswer answer = verify::passkey_answer(windows[task], scores[task], *tokenizer);
    const std::size_t context = task / (each * n_depths), depth = task / each % n_depths;
    out.lengths[context].add(answer), out.cells[context][depth].add(answer);
    out.questions[context].push_back({{"depth", tasks[task].depth},
                                      {"answer", windows[task].answer},
                                      {"haystack_units", windows[task].units},
                                      {"tokens", windows[task].first + windows[task].n},
                                      {"correct", answer.correct},
                                      {"answer_nll", answer.judged ? answer.nll / double(answer.n) : std::nan("")}});
  }
  return out;
}

std::string depth_text(double depth) { return number_text(depth * 100, 4) + "%"; }

/// What the figures are of: printed, and in the drawing's title.
std::string protocol_text(const PasskeyOptions& options, const Corpus& corpus) {
  std::string out = "passkey in " + options.haystack;
  if (!corpus.path.empty()) out += " (" + corpus.path + ", sha256 " + corpus.sha256.substr(0, 16) + ")";
  if (options.n_keys > 1) out += ", one of " + plural(static_cast<std::uint64_t>(options.n_keys), "key");
  return out + ", " + plural(static_cast<std::uint64_t>(options.iterations), "key") + " asked for " +
         (options.depths == "random" ? "at random depths" : "at each depth") + ", seed " + std::to_string(options.seed);
}

void show(Output& output, const std::vector<SourceCells>& all, const std::vector<int>& contexts,
          const std::optional<std::vector<double>>& depths) {
  Table summary{{{"passkey"}}, {}};
  for (int context : contexts) summary.columns.push_back({std::to_string(context), true});
  for (const SourceCells& source : all) {
    std::vector<std::string> row = {source.name};
    for (const Cell& cell : source.lengths) row.push_back(percent_text(cell.accuracy()));
    summary.rows.push_back(std::move(row));
  }
  output.csv = summary;
  output.table(std::move(summary));
  if (!depths) return;
  for (const SourceCells& source : all) {
    Table table{{{"depth in " + source.name, true}}, {}};
    for (int context : contexts) table.columns.push_back({std::to_string(context), true});
    for (std::size_t depth = 0; depth < depths->size(); ++depth) {
      std::vector<std::string> row = {depth_text((*depths)[depth])};
      for (std::size_t context = 0; context < contexts.size(); ++context)
        row.push_back(percent_text(source.cells[context][depth].accuracy()));
      table.rows.push_back(std::move(row));
    }
    output.table(std::move(table));
  }
}

Json results_json(const std::vector<SourceCells>& all, const std::vector<int>& contexts,
                  const std::optional<std::vector<double>>& depths) {
  Json results = Json::array();
  for (const SourceCells& source : all)
    for (std::size_t context = 0; context < contexts.size(); ++context) {
      Json one = source.lengths[context].json();
      one["source"] = source.name, one["context"] = contexts[context];
      one["depths"] = Json::array();
      for (std::size_t depth = 0; depths && depth < depths->size(); ++depth) {
        one["depths"].push_back(source.cells[context][depth].json());
        one["depths"].back()["depth"] = (*depths)[depth];
      }
      one["questions"] = source.questions[context];
      results.push_back(std::move(one));
    }
  return results;
}

std::vector<HeatMap> heat_maps_of(const std::vector<SourceCells>& all, const std::vector<int>& contexts,
                                  const std::optional<std::vector<double>>& depths) {
  std::vector<HeatMap> maps;
  for (const SourceCells& source : all) {
    HeatMap& map = maps.emplace_back(HeatMap{source.name, {}, {}, {}});
    for (int context : contexts) map.columns.push_back(std::to_string(context));
    const std::size_t n_depths = depths ? depths->size() : 1;
    for (std::size_t depth = 0; depth < n_depths; ++depth) {
      map.rows.push_back(depths ? depth_text((*depths)[depth]) : "any");
      map.share.emplace_back();
      for (const auto& cells : source.cells) map.share.back().push_back(cells[depth].accuracy());
    }
  }
  return maps;
}

std::vector<PlacedFigure> figures_of(const std::vector<SourceCells>& all, const std::vector<int>& contexts) {
  std::vector<PlacedFigure> figures;
  for (const SourceCells& source : all)
    for (std::size_t context = 0; context < contexts.size(); ++context) {
      const Cell& cell = source.lengths[context];
      figures.push_back({source.name, "accuracy", std::to_string(contexts[context]), contexts[context], cell.accuracy(),
                         FigureKind::share});
      figures.back().file = source.file;
      if (cell.unjudged == 0)
        figures.back().interval = verify::share_interval(double(cell.correct), double(cell.asked));
    }
  return figures;
}

/// A line for each length at which a model computes no numbers.
std::vector<std::string> damage(const std::vector<SourceCells>& all, const std::vector<int>& contexts) {
  std::vector<std::string> lines;
  for (const SourceCells& source : all)
    for (std::size_t context = 0; context < contexts.size(); ++context)
      if (const Cell& cell = source.lengths[context]; cell.unjudged > 0)
        lines.push_back("'" + source.name + "' at " + std::to_string(contexts[context]) + ": " +
                        plural(cell.unjudged, "answer") + " of " + std::to_string(cell.asked) +
                        " with a loss that is no number: this length has no figures, the model is damaged");
  return lines;
}

/// What a haystack of text is made of.
Corpus haystack_text(const PasskeyOptions& options, const Io& io) {
  if (parse_haystack(options.haystack) == verify::Haystack::text) return read_corpus(options.text, io);
  if (!options.text.files.empty())
    throw Error(ErrorKind::usage, {}, "-f is a text to hide keys in, and --haystack is " + options.haystack,
                "add --haystack text, or leave -f out");
  return {};
}

void check(const PasskeyOptions& options) {
  check_reports(options.common, {.sarif = true, .drawings = true});
  if (options.svg && std::filesystem::path(*options.svg).extension() != ".svg")
    throw Error(ErrorKind::usage, {}, "--svg '" + *options.svg + "' is no name of a drawing", "give NAME.svg");
  if (options.svg) PendingFile probe(*options.svg, 1, {.overwrite = options.common.overwrite, .sync = false});
  if (parse_haystack(options.haystack) == verify::Haystack::keys && options.n_keys != 1)
    throw Error(ErrorKind::usage, {}, "--num-keys was given, and --haystack keys has as many as fit",
                "leave --num-keys out");
  if (options.sources.size() > 1 && (!options.modifiers.adapters.empty() || options.modifiers.rope))
    throw Error(ErrorKind::usage, {},
                "-a and --rope belong to one SOURCE, and there are " + std::to_string(options.sources.size()),
                "write it to the one it is for: SOURCE+ADAPTER or SOURCE+rope=SPEC");
}

std::string no_verdict(const PasskeyOptions& options) { return options.min.empty() ? "passkey without --min" : ""; }

int run_passkey(const PasskeyOptions& options, Io& io) {
  check(options);
  std::vector<int> contexts = options.contexts ? parse_contexts(*options.contexts) : std::vector<int>{};
  const auto depths = parse_depths(options.depths);
  SweepDevice device = choose_device(options.device);
  keep_sweeps(options.kept, options.common, device, io);
  const Corpus corpus = haystack_text(options, io);
  std::string text;
  for (const std::string& document : corpus.documents) text += document;

  Output output{.command = "passkey"};
  if (options.sources.size() == 1) output.source = source_text(options.sources.front(), options.modifiers);
  std::vector<formats::Source> sources;
  for (const std::string& name : options.sources) {
    sources.push_back(open_source(name, to_encode(options.modifiers), options.common, io));
    const auto& warnings = sources.back().checkpoint.warnings;
    output.warnings.insert(output.warnings.end(), warnings.begin(), warnings.end());
  }
  if (std::ranges::all_of(sources, [](const formats::Source& one) { return one.adapters.empty(); }))
    check_unmerged(options.modifiers, sources.front());
  if (contexts.empty()) contexts = {context_of(std::nullopt, sources.front().checkpoint)};
  const std::vector<PlacedGate> gates = parse_gates(options.min, contexts);
  const int longest = *std::ranges::max_element(contexts);
  for (const formats::Source& source : sources)
    if (const auto line = past_served(source.checkpoint, longest, "'" + source.spec.text + "'")) {
      output.warnings.push_back(*line);
      warn(*line, options.common, io);
    }

  const auto tasks = tasks_of(options, contexts, depths, text);
  std::vector<SourceCells> all;
  for (const formats::Source& source : sources)
    all.push_back(answer_all(source, tasks, contexts.size(), depths ? depths->size() : 1, device, options.common, io));
  for (std::string& line : damage(all, contexts)) {
    warn(line, options.common, io);
    output.warnings.push_back(std::move(line));
  }

  output.body = {{"haystack", options.haystack},
                 {"text", corpus.path.empty() ? Json() : Json{{"path", corpus.path}, {"sha256", corpus.sha256}}},
                 {"keys", options.n_keys},
                 {"iterations", options.iterations},
                 {"seed", options.seed},
                 {"random_depths", !depths},
                 {"results", results_json(all, contexts, depths)}};
  output.text(
      protocol_text(options, corpus) + on_device(device) + unmerged_text(options.modifiers) +
      "\nteacher-forced: found means that greedy decoding gives the key and ends it there; the published protocol "
      "takes the first number in ten tokens, which is a little laxer");
  show(output, all, contexts, depths);
  output.drawings = {heat_maps(protocol_text(options, {}), "tokens", "depth", heat_maps_of(all, contexts, depths))};
  if (options.svg)
    write_file(*options.svg, output.drawings.front().svg, {.overwrite = options.common.overwrite, .sync = false});
  return judge_and_emit({gates, figures_of(all, contexts), "context", options.modifiers.unmerged}, device,
                        options.common, io, output);
}

}  // namespace

Command passkey_command() {
  return make_command("passkey", "finds a key hidden in a long text: accuracy by length and depth", declare,
                      run_passkey, {.no_verdict = no_verdict});
}

}  // namespace ropewalk::tools
