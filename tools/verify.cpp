#include <algorithm>

#include "lib/error.h"
#include "tools/commands.h"
#include "tools/common_options.h"
#include "tools/describe.h"
#include "tools/gate_options.h"
#include "tools/served_context.h"
#include "tools/sweep_options.h"
#include "tools/text_input.h"
#include "tools/units.h"
#include "tools/verdict.h"
#include "tools/windows.h"

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
  declare_unmerged(line, options.modifiers);
  declare_merge(line, options.modifiers);
  declare_device(line, options.device);
  declare_common(line, options.common);
  line.example("ropewalk verify model-q8_0.gguf --against base+adapter -c 64k",
               "exit code 1 and the position where they part, if they do");
  line.example("ropewalk verify merged --against base+adapter --unmerged",
               "against the function that was trained: what merging and its rounding cost");
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

std::vector<verify::WeightDifference> weight_differences(const Checkpoint& source, const Checkpoint& candidate,
                                                         const CommonOptions& common, const Io& io) {
  Progress progress(io, common.quiet, "comparing weights", total_bytes(source.tensors), Progress::Unit::bytes);
  return verify::compare_weights(source, candidate, common.threads, [&](std::uint64_t bytes) { progress.add(bytes); });
}

LogitsVerdict judge_logits(const VerifyOptions& options, const Checkpoint& source, const Checkpoint& candidate,
                           const Corpus& corpus, int context, SweepDevice& device, const Io& io) {
  const auto ids = corpus_ids(corpus, source, true);  // the source's, for both
  const auto windows = cut_windows(ids, context, options.windows, leading_bos(source, corpus));
  Progress progress(io, options.common.quiet, "layers", static_cast<std::uint64_t>(source.config.n_layers),
                    Progress::Unit::steps);
  const verify::PairResult pair =
      verify::compare(source, candidate, windows, sweep_options(options.common, device, progress, io));
  tell_sweep(device, options.common, io);
  LogitsVerdict out;
  out.windows = windows.size();
  out.tokens = count_ids(ids);
  out.report = verify::summarise_pair(pair, verify::original_context(source.config).value_or(0), context);
  const DType encoding = verify::coarsest_encoding(candidate.tensors);
  out.gates = verify::apply_gates(with_defaults(asked_gates(options.gates, context), encoding), out.report);
  return out;
}

Verdict judge(const VerifyOptions& options, Level level, const Checkpoint& source, const Checkpoint& candidate,
              const Corpus& corpus, int context, SweepDevice& device, const Io& io) {
  Verdict verdict;
  verdict.context = context;
  verdict.unmerged = options.modifiers.unmerged;
  verdict.structure = verify::compare_structure(source, candidate, corpus.documents, context);
  verdict.add("structure", verdict.structure.gates);
  // A rope or geometry that differs fails, but what it costs, and from which position, only the logits say.
  bool go_on = options.keep_going || std::ranges::all_of(verdict.gates, [](const verify::Gate& gate) {
                 return gate.pass || gate.name == "rope" || gate.name == "geometry";
               });
  if (go_on && level >= Level::weights) {
    verdict.weights = weight_differences(source, candidate, options.common, io);
    const verify::Gate gate = verify::weight_gate(*verdict.weights);
    verdict.add("weights", {gate});
    go_on = options.keep_going || gate.pass;
  }
  if (!go_on || level < Level::logits) return verdict;
  if (source.config.n_vocab != candidate.config.n_vocab) {
    verdict.logits_not_compared = "the vocabularies have " + std::to_string(source.config.n_vocab) + " and " +
                                  std::to_string(candidate.config.n_vocab) + " rows";
    return verdict;
  }
  verdict.logits = judge_logits(options, source, candidate, corpus, context, device, io);
  verdict.add("logits", verdict.logits->gates);
  return verdict;
}

/// What each side serves less than is evaluated: a pass says that both compute the same there, not that it is any good.
std::vector<std::string> past_what_they_serve(const Checkpoint& source, const Checkpoint& candidate, int context) {
  std::vector<std::string> lines;
  for (const auto& [model, who] : {std::pair(&source, "the source '"), std::pair(&candidate, "the candidate '")})
    if (const auto line = past_served(*model, context, who + model->label + "'")) lines.push_back(*line);
  return lines;
}

int run_verify(const VerifyOptions& options, Io& io) {
  check_reports(options.common);
  if (options.against.empty() &&
      (!options.modifiers.adapters.empty() || options.modifiers.rope || options.modifiers.unmerged))
    throw Error(
        ErrorKind::usage, {}, "-a, --rope and --unmerged belong to --against, which is not given",
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
  check_device(options.device);
  if (level == Level::logits) device = choose_device(options.device);
  const Corpus corpus = read_corpus(options.text, io);
  const formats::Source source = open_source(options.against, options.modifiers, options.common, io);
  check_unmerged(options.modifiers, source);
  const formats::Source candidate = open_source(options.candidate, {}, options.common, io);
  const int context = context_of(options.context, source.checkpoint);
  asked_gates(options.gates, context);
  std::vector<std::string> text_warnings;
  if (level == Level::logits)  // too little text fails before the weights are read
    with_path(corpus.path, [&] {
      const auto ids = corpus_ids(corpus, source.checkpoint, true);
      const auto bos = leading_bos(source.checkpoint, corpus);
      cut_windows(ids, context, options.windows, bos);
      text_warnings = bos_warnings(source.checkpoint, corpus, ids, bos);
    });
  const std::vector<std::string> beyond = past_what_they_serve(source.checkpoint, candidate.checkpoint, context);
  for (const auto& lines : {text_warnings, beyond})
    for (const std::string& line : lines) warn(line, options.common, io);
  const Verdict verdict = judge(options, level, source.checkpoint, candidate.checkpoint, corpus, context, device, io);
  Output output = verdict_output(verdict, source.checkpoint, candidate.checkpoint, corpus, device, beyond);
  output.warnings.insert(output.warnings.end(), text_warnings.begin(), text_warnings.end());
  emit(output, options.common, io);
  return verdict.pass() ? 0 : 1;
}

}  // namespace

Command verify_command() {
  return make_command("verify", "proves an export against its source: structure, weights, logits by position", declare,
                      run_verify);
}

}  // namespace ropewalk::tools
