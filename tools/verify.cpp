#include <algorithm>
#include <cmath>

#include "lib/error.h"
#include "tools/commands.h"
#include "tools/common_options.h"
#include "tools/describe.h"
#include "tools/gate_options.h"
#include "tools/served_context.h"
#include "tools/sweep_options.h"
#include "tools/text_input.h"
#include "tools/units.h"
#include "verify/gates.h"
#include "verify/structure.h"
#include "verify/weights.h"

namespace ropewalk::tools {
namespace {

struct VerifyOptions {
  std::string candidate, against, level = "logits";
  std::optional<int> context, windows;
  GateOptions gates;
  bool keep_going = false;
  TextOptions text;
  SourceOptions modifiers;
  DeviceChoice device;
  CommonOptions common;
};

void declare(CommandLine& line, VerifyOptions& options) {
  line.positional(options.candidate, "CANDIDATE", "the export to judge, by its own bytes and its consumer's rules");
  line.option("--against", options.against, "SOURCE", "what it was made from");
  line.context_option("-c,--context,--ctx-size", options.context, "N",
                      "context to judge at, tokens (default: the source's)");
  line.option("--level", options.level, "structure|weights|logits",
              "how far to go (default logits). Levels run cheapest first and stop at the first that fails");
  line.flag("--keep-going", options.keep_going, "run all levels even if one fails");
  line.option("--windows", options.windows, 1, 1'000'000, "K",
              "windows of N tokens (default: 4096 tokens' worth, at least one)");
  declare_gates(line, options.gates);
  declare_text(line, options.text);
  declare_modifiers(line, options.modifiers);
  declare_merge(line, options.modifiers);
  declare_device(line, options.device);
  declare_common(line, options.common);
  line.example("ropewalk verify model-q8_0.gguf --against base+adapter -c 64k",
               "exit code 1 and the position where they part, if they do");
  line.example("ropewalk verify out.gguf --against model --max kl_mean@4k:=0.01 --report verify.xml",
               "a gate on the positions past 4096, and JUnit for CI");
}

enum class Level { structure, weights, logits };

Level parse_level(const std::string& text) {
  if (text == "structure") return Level::structure;
  if (text == "weights") return Level::weights;
  if (text == "logits") return Level::logits;
  throw Error(ErrorKind::usage, {}, "--level is '" + text + "'", "give structure, weights or logits");
}

/// Windows of exactly `context` ids, BOS first where the tokenizer adds one, in order from the documents' beginnings.
/// Error(bad_input) if there are fewer than asked for.
std::vector<verify::Window> cut_windows(const std::vector<std::vector<std::int32_t>>& documents, int context,
                                        std::optional<int> wanted, std::optional<std::int32_t> bos) {
  const int count = wanted.value_or(context >= 4096 ? 1 : (4096 + context - 1) / context);
  const auto step = static_cast<std::size_t>(context - (bos ? 1 : 0));
  std::vector<verify::Window> windows;
  std::uint64_t tokens = 0;
  for (const auto& document : documents) {
    tokens += document.size();
    for (std::size_t begin = 0; begin + step <= document.size() && windows.size() < static_cast<std::size_t>(count);
         begin += step) {
      verify::Window& window = windows.emplace_back();
      if (bos) window.push_back(*bos);
      window.insert(window.end(), document.begin() + static_cast<std::ptrdiff_t>(begin),
                    document.begin() + static_cast<std::ptrdiff_t>(begin + step));
    }
  }
  const std::size_t needed = wanted ? static_cast<std::size_t>(count) : 1;
  if (windows.size() < needed)
    throw Error(ErrorKind::bad_input, {},
                "the text has " + plural(tokens, "token") + ", " + plural(needed, "window") + " of " +
                    std::to_string(context) + (needed == 1 ? " needs " : " need ") + std::to_string(needed * step),
                "give a longer text with -f, a smaller -c or fewer --windows");
  return windows;
}

Json gates_json(const std::vector<verify::Gate>& gates) {
  Json list = Json::array();
  for (const verify::Gate& gate : gates)
    list.push_back({{"name", gate.name},
                    {"from", gate.positions ? Json(gate.positions->from) : Json(nullptr)},
                    {"to", gate.positions && gate.positions->to ? Json(*gate.positions->to) : Json(nullptr)},
                    {"value", gate.value},
                    {"bound", verify::name(gate.bound)},
                    {"limit", gate.limit},
                    {"pass", gate.pass}});
  return list;
}

std::string range_text(const verify::Gate& gate) {
  if (!gate.positions) return "all";
  const auto& [from, to] = *gate.positions;
  return std::to_string(from) + " to " + (to ? std::to_string(*to) : "end");
}

Table gate_table(const std::vector<verify::Gate>& gates) {
  Table table{{{"gate"}, {"positions"}, {"value", true}, {"", false}, {"limit", true}, {"verdict"}}, {}};
  for (const verify::Gate& gate : gates)
    table.rows.push_back({gate.name, range_text(gate), number_text(gate.value, 4),
                          gate.bound == verify::Bound::max ? "<=" : ">=", number_text(gate.limit, 4),
                          gate.pass ? "pass" : "FAIL"});
  return table;
}

/// Everything a run has found so far.
struct Verdict {
  std::vector<verify::Gate> gates;
  Json structure = nullptr, weights = nullptr, logits = nullptr, positions = nullptr, layers = nullptr,
       corpus = nullptr, device = nullptr;
  std::string level;                        // the last one that ran
  std::optional<std::string> failed_level;  // the first one of which a gate failed
  std::optional<int> parts_at;
  std::string parts_text;
  std::vector<std::string> lines;

  bool pass() const { return verify::all_pass(gates); }
  void add(const std::string& of_level, const std::vector<verify::Gate>& more) {
    level = of_level;
    gates.insert(gates.end(), more.begin(), more.end());
    if (!failed_level && !more.empty() && !verify::all_pass(more)) failed_level = of_level;
  }
};

void judge_structure(Verdict& verdict, const Checkpoint& source, const Checkpoint& candidate, const Corpus& corpus,
                     int context) {
  const verify::StructureReport report = verify::compare_structure(source, candidate, corpus.documents, context);
  verdict.structure = Json::array();
  std::vector<std::pair<std::string, std::string>> lines;
  for (const verify::StructureItem& item : report.items) {
    verdict.structure.push_back(
        {{"name", item.name}, {"pass", item.pass ? Json(*item.pass) : Json(nullptr)}, {"detail", item.detail}});
    lines.emplace_back("  " + item.name, (item.pass ? (*item.pass ? "pass  " : "FAIL  ") : "      ") + item.detail);
  }
  verdict.add("structure", report.gates);
  verdict.lines.push_back("structure\n" + aligned(lines));
  for (std::size_t i = 0; i < std::min<std::size_t>(report.problems.size(), 20); ++i)
    verdict.structure.push_back({{"name", "tensor"}, {"pass", false}, {"detail", report.problems[i]}});
}

void judge_weights(Verdict& verdict, const Checkpoint& source, const Checkpoint& candidate, const CommonOptions& common,
                   const Io& io) {
  Progress progress(io, common.quiet, "comparing weights", total_bytes(source.tensors), Progress::Unit::bytes);
  const auto differences =
      verify::compare_weights(source, candidate, common.threads, [&](std::uint64_t bytes) { progress.add(bytes); });
  verdict.weights = Json::array();
  std::uint64_t failed = 0;
  const verify::WeightDifference* worst = nullptr;
  for (const verify::WeightDifference& difference : differences) {
    verdict.weights.push_back({{"name", difference.name},
                               {"type", info(difference.type).name},
                               {"max_error", difference.max_error},
                               {"mean_error", difference.mean_error},
                               {"rms", difference.rms},
                               {"of_bound", difference.worst_of_bound},
                               {"pass", difference.pass}});
    failed += difference.pass ? 0 : 1;
    const bool worse = !worst || (worst->pass && !difference.pass) ||
                       (worst->pass == difference.pass && difference.worst_of_bound > worst->worst_of_bound);
    if (worse) worst = &difference;
  }
  verdict.add("weights", {verify::weight_gate(differences)});
  std::string line = "weights    ";
  if (!worst) line += "FAIL  no tensor could be compared";
  else if (failed > 0)
    line += "FAIL  " + std::to_string(failed) + " of " + plural(differences.size(), "tensor") +
            (failed == 1 ? " errs" : " err") + " by more than one rounding to its type may cost: '" + worst->name +
            "' by " + number_text(worst->max_error, 3);
  else if (worst->worst_of_bound == 0) line += "pass  " + plural(differences.size(), "tensor") + ", every value equal";
  else
    line += "pass  " + plural(differences.size(), "tensor") + "; largest error is " +
            number_text(100 * worst->worst_of_bound, 3) + " % of what one rounding to " +
            std::string(info(worst->type).name) + " may cost";
  verdict.lines.push_back(line);
}

Json logits_json(const verify::LogitsReport& report) {
  return {{"kl_mean", report.kl_mean},
          {"kl_median", report.kl_median},
          {"kl_p999", report.kl_p999},
          {"kl_max", report.kl_max},
          {"kl_growth", report.kl_growth ? Json(*report.kl_growth) : Json(nullptr)},
          {"top1", report.top1},
          {"ppl_ratio", report.ppl_ratio},
          {"perplexity_source", report.perplexity_source},
          {"perplexity_candidate", report.perplexity_candidate}};
}

/// "parts at position 256: mean KL 0.0004 before, 0.93 from there on"
std::string parts_text(const verify::LogitsReport& report, int at) {
  const verify::PairPosition before = verify::sum_positions(report.by_position, 0, at),
                             after = verify::sum_positions(report.by_position, at, {});
  return "parts at position " + std::to_string(at) + ": mean KL " +
         (before.tokens > 0 ? number_text(before.kl_mean(), 2) + " before, " : "") + number_text(after.kl_mean(), 2) +
         " from there on";
}

void judge_logits(Verdict& verdict, const VerifyOptions& options, const Checkpoint& source, const Checkpoint& candidate,
                  const Corpus& corpus, int context, SweepDevice& device, const Io& io) {
  const auto ids = corpus_ids(corpus, source, true);  // the source's, for both
  const auto windows = cut_windows(ids, context, options.windows, leading_bos(source, corpus));
  verdict.corpus = corpus_json(corpus, count_ids(ids));
  Progress progress(io, options.common.quiet, "layers", static_cast<std::uint64_t>(source.config.n_layers),
                    Progress::Unit::steps);
  const verify::PairResult pair =
      verify::compare(source, candidate, windows, sweep_options(options.common, device, progress, io));
  tell_sweep(device, options.common, io);
  verdict.device = device_json(device);
  verify::LogitsReport report =
      verify::summarise_pair(pair, verify::original_context(source.config).value_or(0), context);
  const auto gates = verify::apply_gates(
      with_defaults(asked_gates(options.gates, context), verify::coarsest_encoding(candidate.tensors)), report);
  const bool pass = verify::all_pass(gates);
  verdict.add("logits", gates);
  verdict.logits = logits_json(report);
  verdict.positions = Json::array();
  for (const verify::PairBucket& bucket : report.positions)
    verdict.positions.push_back({{"from", bucket.from},
                                 {"to", bucket.to},
                                 {"kl_mean", bucket.kl_mean},
                                 {"top1", bucket.top1},
                                 {"nll_difference", bucket.nll_difference},
                                 {"tokens", bucket.tokens}});
  verdict.layers = Json::array();
  for (std::size_t layer = 0; layer < report.layers.size(); ++layer)
    verdict.layers.push_back({{"layer", layer}, {"distance", report.layers[layer]}});
  verdict.parts_at = report.parts_at;
  if (report.parts_at) verdict.parts_text = parts_text(report, *report.parts_at);
  verdict.lines.push_back(std::string("logits     ") + (pass ? "pass  " : "FAIL  ") + plural(windows.size(), "window") +
                          " of " + std::to_string(context) + " tokens: mean KL " + number_text(report.kl_mean, 3) +
                          ", same top token " + number_text(100 * report.top1, 4) + " %, perplexity " +
                          fixed_text(report.perplexity_candidate, 3) + " for " +
                          fixed_text(report.perplexity_source, 3) + on_device(device));
}

Table position_table(const Json& positions) {
  Table table{{{"positions"}, {"mean KL", true}, {"same top token", true}, {"NLL difference", true}}, {}};
  for (const Json& bucket : positions)
    table.rows.push_back({std::to_string(bucket["from"].get<int>()) + " to " + std::to_string(bucket["to"].get<int>()),
                          number_text(bucket["kl_mean"].get<double>(), 3),
                          fixed_text(100 * bucket["top1"].get<double>(), 2) + " %",
                          number_text(bucket["nll_difference"].get<double>(), 3)});
  return table;
}

Verdict judge(const VerifyOptions& options, Level level, const Checkpoint& source, const Checkpoint& candidate,
              const Corpus& corpus, int context, SweepDevice& device, const Io& io) {
  Verdict verdict;
  judge_structure(verdict, source, candidate, corpus, context);
  // A rope or geometry that differs fails, but what it costs, and from which position, only the logits say.
  const bool to_be_priced = std::all_of(verdict.gates.begin(), verdict.gates.end(), [](const verify::Gate& gate) {
    return gate.pass || gate.name == "rope" || gate.name == "geometry";
  });
  const std::size_t structure_gates = verdict.gates.size();
  const auto go_on = [&](Level next) {
    const bool later = std::all_of(verdict.gates.begin() + static_cast<std::ptrdiff_t>(structure_gates),
                                   verdict.gates.end(), [](const verify::Gate& gate) { return gate.pass; });
    return level >= next && (options.keep_going || (to_be_priced && later));
  };
  if (go_on(Level::weights)) judge_weights(verdict, source, candidate, options.common, io);
  if (go_on(Level::logits)) {
    if (source.config.n_vocab == candidate.config.n_vocab)
      judge_logits(verdict, options, source, candidate, corpus, context, device, io);
    else
      verdict.lines.push_back("logits     not compared: the vocabularies have " +
                              std::to_string(source.config.n_vocab) + " and " +
                              std::to_string(candidate.config.n_vocab) + " rows");
  }
  return verdict;
}

/// "FAIL at level structure: rope, kl_mean": the first level of which a gate failed, and all that failed.
std::string failure_text(const Verdict& verdict) {
  std::vector<std::string> names;
  for (const verify::Gate& gate : verdict.gates)
    if (!gate.pass && std::find(names.begin(), names.end(), gate.name) == names.end()) names.push_back(gate.name);
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return "FAIL at level " + verdict.failed_level.value_or(verdict.level) + ": " + (text.empty() ? "no gate ran" : text);
}

/// What each side serves less than is evaluated: a pass says that both compute the same there, not that it is any good.
std::vector<std::string> past_what_they_serve(const Checkpoint& source, const Checkpoint& candidate, int context) {
  std::vector<std::string> lines;
  for (const auto& [model, who] : {std::pair(&source, "the source '"), std::pair(&candidate, "the candidate '")})
    if (const auto line = past_served(*model, context, who + model->label + "'")) lines.push_back(*line);
  return lines;
}

Output output_of(const Verdict& verdict, const Checkpoint& source, const Checkpoint& candidate, int context) {
  Output output{.command = "verify", .source = source.label};
  const std::vector<std::string> beyond = past_what_they_serve(source, candidate, context);
  for (const auto& warnings : {source.warnings, candidate.warnings, beyond})
    output.warnings.insert(output.warnings.end(), warnings.begin(), warnings.end());
  const bool pass = verdict.pass();
  output.body = {{"candidate", candidate.label},
                 {"candidate_read_as", candidate.read_as},
                 {"context", context},
                 {"corpus", verdict.corpus},
                 {"pass", pass},
                 {"level", verdict.level},
                 {"gates", gates_json(verdict.gates)},
                 {"structure", verdict.structure},
                 {"weights", verdict.weights},
                 {"logits", verdict.logits},
                 {"positions", verdict.positions},
                 {"layers", verdict.layers},
                 {"device", verdict.device},
                 {"parts_at", verdict.parts_at ? Json(*verdict.parts_at) : Json(nullptr)}};
  output.text(candidate.label + " (as " + candidate.read_as + " reads it) against " + source.label);
  for (const std::string& line : beyond) output.text("context    " + line);
  for (const std::string& line : verdict.lines) output.text(line);
  if (verdict.corpus.is_object())
    output.text("text       " + verdict.corpus["path"].get<std::string>() + ", " +
                plural(verdict.corpus["tokens"].get<std::uint64_t>(), "token") + ", sha256 " +
                verdict.corpus["sha256"].get<std::string>());
  output.table(gate_table(verdict.gates));
  if (verdict.positions.is_array()) output.table(position_table(verdict.positions));
  if (!verdict.parts_text.empty()) output.text(verdict.parts_text);
  output.text(pass ? "PASS" : failure_text(verdict));
  for (const verify::Gate& gate : verdict.gates)
    output.checks.push_back(
        {gate.name + (gate.positions ? "@" + range_text(gate) : ""), gate.pass,
         number_text(gate.value, 6) + (gate.bound == verify::Bound::max ? " > " : " < ") + number_text(gate.limit, 6)});
  return output;
}

int run_verify(const VerifyOptions& options, Io& io) {
  check_reports(options.common);
  if (options.against.empty() && (!options.modifiers.adapters.empty() || options.modifiers.rope))
    throw Error(
        ErrorKind::usage, {}, "-a and --rope belong to --against, which is not given",
        "name the source: --against SOURCE; a candidate takes modifiers as CANDIDATE+ADAPTER or CANDIDATE+rope=SPEC");
  if (options.against.empty())
    throw Error(ErrorKind::usage, {}, "nothing to verify against", "name the source: --against SOURCE");
  const Level level = parse_level(options.level);
  if (options.context) check_context(*options.context);
  // a gate that cannot be read or reached fails before any byte is
  const bool asked = !asked_gates(options.gates, options.context.value_or(0)).empty();
  if (asked && level != Level::logits)
    throw Error(ErrorKind::usage, {}, "--max and --min bound figures of the logits, and --level is " + options.level,
                "leave --level out, or the gates");
  SweepDevice device;
  if (level == Level::logits) device = choose_device(options.device);
  const Corpus corpus = read_corpus(options.text, io);
  const formats::Source source = open_source(options.against, options.modifiers, options.common, io);
  const formats::Source candidate = open_source(options.candidate, {}, options.common, io);
  const int context = context_of(options.context, source.checkpoint);
  asked_gates(options.gates, context);
  if (level == Level::logits)  // too little text fails before the weights are read
    with_path(corpus.path, [&] {
      cut_windows(corpus_ids(corpus, source.checkpoint, true), context, options.windows,
                  leading_bos(source.checkpoint, corpus));
    });
  for (const std::string& line : past_what_they_serve(source.checkpoint, candidate.checkpoint, context))
    warn(line, options.common, io);
  const Verdict verdict = judge(options, level, source.checkpoint, candidate.checkpoint, corpus, context, device, io);
  emit(output_of(verdict, source.checkpoint, candidate.checkpoint, context), options.common, io);
  return verdict.pass() ? 0 : 1;
}

}  // namespace

Command verify_command() {
  return make_command("verify", "proves an export against its source: structure, weights, logits by position", declare,
                      run_verify);
}

}  // namespace ropewalk::tools
