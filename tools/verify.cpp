#include <algorithm>
#include <functional>
#include <iterator>

#include "formats/engines/engine.h"
#include "lib/error.h"
#include "tools/baseline.h"
#include "tools/commands.h"
#include "tools/common_options.h"
#include "tools/describe.h"
#include "tools/engine_reader.h"
#include "tools/gate_options.h"
#include "tools/served_context.h"
#include "tools/sweep_options.h"
#include "tools/text_input.h"
#include "tools/units.h"
#include "tools/verdict.h"
#include "tools/verify_estimate.h"
#include "tools/verify_reference.h"
#include "tools/windows.h"
#include "verify/reference.h"

namespace ropewalk::tools {
namespace {

struct VerifyOptions {
  std::vector<std::string> candidates;  // one, or none with --save-reference
  std::string against, level = "logits";
  std::optional<std::string> save_reference, reference, baseline, max_worse, engine;
  std::optional<int> context, windows;
  GateOptions gates;
  bool keep_going = false, estimate = false;
  TextOptions text;
  SourceOptions modifiers;
  DeviceChoice device;
  KeptSweeps kept;
  CommonOptions common;
};

void declare(CommandLine& line, VerifyOptions& options) {
  line.positionals(options.candidates, reads("CANDIDATE"),
                   "the export to judge, by its own bytes and its consumer's rules", 0);
  line.option("--against", options.against, reads("SOURCE"), "what it was made from");
  line.option("--save-reference", options.save_reference, writes("FILE"),
              "keep what the source of --against computes, to judge exports of it where its weights are not");
  line.option("--reference", options.reference, reads("FILE"),
              "in place of --against: structure and logits by what --save-reference kept (docs/protocols.md)");
  line.option("--engine,--target", options.engine, "ENGINE[@VERSION]",
              "judge CANDIDATE by the rope and context that this engine takes from its files, e.g. vllm@0.24 (default: "
              "llama.cpp 0.5 of a GGUF, transformers 5.23.0 of a folder)");
  line.context_option("-c,--context,--ctx-size", options.context, "N",
                      "context to judge at, tokens (default: the source's)");
  line.option("--level", options.level, "structure|weights|logits",
              "how far to go (default logits). Levels run cheapest first and stop at the first that fails");
  line.flag("--keep-going", options.keep_going, "run all levels even if one fails");
  line.flag("--estimate", options.estimate,
            "say what the logits would take on this machine, measured on the first layer, and judge nothing");
  line.option("--windows", options.windows, 1, 1'000'000, "K",
              "windows of N tokens (default: 4096 tokens' worth, at least one)");
  declare_gates(line, options.gates);
  line.option("--baseline", options.baseline, reads("FILE.json"),
              "an earlier verify's --json of the same text and context, which this one may not be much worse than");
  line.option("--max-worse", options.max_worse, "SHARE",
              "by how much: KL and perplexity above it, the share of same top tokens below (default 2%)");
  declare_text(line, options.text);
  declare_modifiers(line, options.modifiers);
  declare_unmerged(line, options.modifiers);
  declare_merge(line, options.modifiers);
  declare_device(line, options.device);
  declare_kept_sweeps(line, options.kept);
  declare_common(line, options.common);
  line.example("ropewalk verify model-q8_0.gguf --against base+adapter -c 64k",
               "exit code 1 and the position where they part, if they do");
  line.example("ropewalk verify merged --against base+adapter --unmerged",
               "against the function that was trained: what merging and its rounding cost");
  line.example("ropewalk verify --against base+adapter --save-reference base.rwref -c 8k",
               "once, where the weights are; then in CI: ropewalk verify out.gguf --reference base.rwref");
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

/// A source's text in its ids, and the windows of it; their size and number fail before the weights are read.
struct JudgedText {
  std::vector<std::vector<std::int32_t>> ids;
  CutWindows cut;
  std::vector<std::string> warnings;
};
JudgedText judged_text(const VerifyOptions& options, const Checkpoint& source, const Corpus& corpus, int context,
                       const Io& io) {
  return with_path(corpus.path, [&] {
    const auto bos = leading_bos(source, corpus);
    JudgedText text{corpus_ids(corpus, source, true), {}, {}};
    text.cut = cut_windows(text.ids, context, options.windows, bos, Repeats::passed_over);
    text.warnings = bos_warnings(source, corpus, text.ids, bos);
    if (auto line = passed_over(text.cut, corpus)) text.warnings.push_back(std::move(*line));
    if (auto line = repeats_passed_over(text.cut)) text.warnings.push_back(std::move(*line));
    for (const std::string& line : text.warnings) warn(line, options.common, io);
    return text;
  });
}

LogitsVerdict judge_by_source(const VerifyOptions& options, const Checkpoint& source, const Checkpoint& candidate,
                              const JudgedText& text, int context, SweepDevice& device, const Io& io) {
  Progress progress(io, options.common.quiet, "layers", static_cast<std::uint64_t>(source.config.n_layers),
                    Progress::Unit::steps);
  const verify::PairResult pair =
      verify::compare(source, candidate, text.cut.windows, sweep_options(options.common, device, progress, io));
  tell_sweep(device, options.common, io);
  LogitsVerdict out;
  out.windows = text.cut.windows.size();
  out.tokens = count_ids(text.ids);
  out.evidence = verify::text_evidence(text.cut.windows, source.config.n_vocab);
  out.report = verify::summarise_pair(pair, verify::original_context(source.config).value_or(0), context);
  return out;
}

double worse_share(const VerifyOptions& options) {
  if (!options.max_worse) return 0.02;
  const std::optional<double> share = limit_from(*options.max_worse);
  if (!share || !(*share >= 0 && *share < 1))
    throw Error(ErrorKind::usage, {}, "--max-worse is '" + *options.max_worse + "', expected a share below 100 %",
                "give one such as 2% or 0.02");
  return *share;
}

/// What a candidate is held against, level by level.
struct Judge {
  const Checkpoint& source;
  std::function<verify::StructureReport()> structure;
  std::function<std::vector<verify::WeightDifference>()> weights;  // empty: there is nothing to compare with
  std::function<LogitsVerdict()> logits;
  ComparedRun run;
};

Verdict judge_levels(const VerifyOptions& options, Level level, const Judge& against, const Checkpoint& candidate,
                     const SweepDevice& device) {
  Verdict verdict;
  const int context = against.run.context;
  verdict.context = context, verdict.unmerged = against.run.unmerged, verdict.run = against.run.identity;
  std::optional<Baseline> baseline;
  if (options.baseline) check_same_run(baseline.emplace(read_baseline(*options.baseline)), against.run);
  verdict.structure = against.structure();
  verdict.add("structure", verdict.structure.gates);
  // A rope or geometry that differs fails, but what it costs, and from which position, only the logits say.
  bool go_on = options.keep_going || std::ranges::all_of(verdict.gates, [](const verify::Gate& gate) {
                 return gate.pass || gate.name == "rope" || gate.name == "geometry";
               });
  if (go_on && level >= Level::weights && against.weights) {
    verdict.weights = against.weights();
    const verify::Gate gate = verify::weight_gate(*verdict.weights);
    verdict.add("weights", {gate});
    go_on = options.keep_going || gate.pass;
  }
  if (!go_on || level < Level::logits) return verdict;
  if (against.source.config.n_vocab != candidate.config.n_vocab) {
    verdict.logits_not_compared = "the vocabularies have " + std::to_string(against.source.config.n_vocab) + " and " +
                                  std::to_string(candidate.config.n_vocab) + " rows";
    return verdict;
  }
  std::optional<LogitsVerdict> found;
  try {
    found = against.logits();
  } catch (
      const Error& unusable) {  // a weight that is no number: the level before has failed it, and the report says so
    if (!options.keep_going || !verdict.failed_level || unusable.kind() != ErrorKind::bad_input) throw;
    verdict.logits_not_compared = unusable.what();
    return verdict;
  }
  LogitsVerdict& logits = verdict.logits.emplace(std::move(*found));
  const DType encoding = verify::coarsest_encoding(candidate.tensors);
  logits.gates = verify::apply_gates(with_defaults(asked_gates(options.gates, context), encoding), logits.report);
  if (baseline) {
    std::ranges::move(baseline_gates(*baseline, worse_share(options), logits.report, device_json(device)["precision"]),
                      std::back_inserter(logits.gates));
    verdict.notices = baseline->doubts;
    if (auto line = other_weights(*baseline, logits.report)) verdict.notices.push_back(std::move(*line));
  }
  if (!logits.evidence.enough()) verify::withhold(logits.gates);
  verdict.add("logits", logits.gates);
  return verdict;
}

Verdict judge(const VerifyOptions& options, Level level, const Judge& against, const Checkpoint& candidate,
              const SweepDevice& device) {
  Verdict verdict = judge_levels(options, level, against, candidate, device);
  const auto undone = [&](Level of, const char* name, const std::string& impossible) {
    verdict.not_judged.push_back({name, !impossible.empty() ? impossible
                                        : level < of        ? "--level is " + options.level
                                                     : "a gate of the " + verdict.failed_level.value_or(verdict.level) +
                                                           " failed; --keep-going goes on"});
  };
  if (!verdict.weights) undone(Level::weights, "weights", against.weights ? "" : "a reference has none");
  if (!verdict.logits) undone(Level::logits, "logits", verdict.logits_not_compared);
  return verdict;
}

/// What each side serves less than is evaluated: a pass says that both compute the same there, not that it is any good.
std::vector<std::string> past_what_they_serve(const Checkpoint& source, const Checkpoint& candidate, int context) {
  std::vector<std::string> lines;
  for (const auto& [model, who] : {std::pair(&source, "the source '"), std::pair(&candidate, "the candidate '")})
    if (const auto line = past_served(*model, context, who + model->label + "'")) lines.push_back(*line);
  return lines;
}

[[noreturn]] void refuse(const std::string& problem, const std::string& fix) {
  throw Error(ErrorKind::usage, {}, problem, fix);
}

void check_estimate(const VerifyOptions& options, Level level) {
  if (!options.gates.max.empty() || !options.gates.min.empty() || options.baseline)
    refuse("--estimate judges nothing, and --max, --min or --baseline was given", "leave one of them out");
  if (level != Level::logits)
    refuse("--estimate prices the logits, and --level is " + options.level, "leave one of them out");
  if (options.device.device && options.device.device != "cpu" && options.device.device != "auto")
    refuse("--estimate measures the CPU, and --device is " + *options.device.device, "leave one of them out");
}

/// Windows to be swept and what they take.
int run_estimate(const VerifyOptions& options, const std::vector<const Checkpoint*>& models,
                 const std::vector<verify::Window>& windows, int context, const Io& io) {
  std::vector<std::size_t> lengths;
  for (const verify::Window& window : windows) lengths.push_back(window.size());
  emit(estimate(models, lengths, context, !options.reference, options.common), options.common, io);
  return 0;
}

/// --save-reference keeps its sweep beside what it writes, where nothing else is said.
KeptSweeps kept_sweeps(const VerifyOptions& options, const SweepDevice& device) {
  KeptSweeps kept = options.kept;
  if (options.save_reference && !options.estimate && !kept.file && !device.device)
    kept.file = *options.save_reference + ".unfinished";
  return kept;
}

/// What goes with what, before any byte is read.
void check(const VerifyOptions& options, Level level) {
  check_reports(options.common, {.sarif = options.candidates.size() == 1, .drawings = true});
  if (options.against.empty() &&
      (!options.modifiers.adapters.empty() || options.modifiers.rope || options.modifiers.unmerged))
    refuse(
        "-a, --rope and --unmerged belong to --against, which is not given",
        "name the source: --against SOURCE; a candidate takes modifiers as CANDIDATE+ADAPTER or CANDIDATE+rope=SPEC");
  if (options.reference && !options.against.empty())
    refuse("both --against and --reference, which are two sources", "give one of them");
  if (options.against.empty() && !options.reference)
    refuse("nothing to verify against", "name the source: --against SOURCE, or --reference FILE");
  if (options.context) check_context(*options.context);
  if (options.engine) formats::parse_engine(*options.engine);
  if (options.engine && options.save_reference)
    refuse("--engine reads a CANDIDATE, and --save-reference judges none", "leave it out");
  if (options.estimate) check_estimate(options, level);
  if (options.kept.file && (options.estimate || level != Level::logits))
    refuse("--checkpoint keeps what the logits take, and none are computed", "leave it out");
  // a gate that cannot be read or reached fails before any byte is
  const bool asked = !asked_gates(options.gates, options.context.value_or(0)).empty();
  if (options.save_reference) {
    if (!options.candidates.empty() || options.reference)
      refuse("--save-reference keeps what a source computes, and " +
                 (options.reference ? std::string("--reference is no source")
                                    : "'" + options.candidates.front() + "' is to be judged"),
             "give --against SOURCE alone, then judge with --reference FILE");
    if (asked || options.baseline || level != Level::logits)
      refuse("--save-reference judges nothing, and --level, --max, --min or --baseline was given", "leave them out");
    check_file_target(*options.save_reference, options.common.overwrite);
    refuse_model_file(*options.save_reference);
    return;
  }
  if (options.candidates.size() != 1)
    refuse(options.candidates.empty()
               ? "CANDIDATE is missing"
               : "two candidates, '" + options.candidates[0] + "' and '" + options.candidates[1] + "'",
           "name the export to judge");
  if (options.max_worse && !options.baseline)
    refuse("--max-worse is of --baseline, which is not given", "leave it out, or name the earlier report");
  if (options.baseline && level != Level::logits)
    refuse("--baseline bounds figures of the logits, and --level is " + options.level, "leave one of them out");
  worse_share(options);
  if (options.baseline) read_baseline(*options.baseline);  // one that cannot be read fails before any work
  if (asked && level != Level::logits)
    refuse("--max and --min bound figures of the logits, and --level is " + options.level,
           "leave --level out, or the gates");
  if (!options.reference) return;
  if (level == Level::weights) refuse("a reference has no weights, and --level is weights", "leave --level out");
  if (options.windows) refuse("--windows was given, and the windows are the reference's", "leave it out");
}

/// By the rules of its own consumer, or of --engine.
formats::Source open_candidate(const VerifyOptions& options, const Io& io) {
  formats::Source source = open_source(options.candidates.front(), {}, options.common, io);
  if (options.engine)
    read_by_engine(source.checkpoint, options.candidates.front(), *options.engine, options.common, io);
  return source;
}

int finish(const Verdict& verdict, Output output, const std::vector<std::string>& text_warnings, SweepDevice& device,
           const CommonOptions& common, const Io& io) {
  output.warnings.insert(output.warnings.end(), text_warnings.begin(), text_warnings.end());
  emit(output, common, io);
  if (verdict.logits_not_compared.empty()) forget_sweeps(device);
  return verdict.pass() ? 0 : 1;
}

int run_by_reference(const VerifyOptions& options, Level level, SweepDevice& device, const Corpus& corpus, Io& io) {
  const formats::SavedReference reference = open_reference(*options.reference, corpus, options.context);
  asked_gates(options.gates, reference.context);
  const formats::Source opened = open_candidate(options, io);
  const Checkpoint& candidate = opened.checkpoint;
  if (options.estimate) return run_estimate(options, {&candidate}, reference.windows, reference.context, io);
  check_windows(reference, *options.reference, corpus, candidate);
  const Checkpoint source = verify::source_of(reference, candidate);
  const std::vector<std::string> beyond = past_what_they_serve(source, candidate, reference.context);
  for (const std::string& line : beyond) warn(line, options.common, io);
  ComparedRun compared = compared_run(corpus, reference.context, reference.windows, candidate);
  compared.unmerged = reference.unmerged;
  compared.identity =
      run_identity(reference.config, reference.original_context, reference.rope_words, reference.windows);
  Verdict verdict = judge(
      options, level,
      {.source = source,
       .structure = [&] { return verify::compare_structure(reference, candidate, corpus.documents); },
       .weights = {},
       .logits =
           [&] { return judge_by_reference(reference, *options.reference, candidate, device, options.common, io); },
       .run = std::move(compared)},
      candidate, device);
  verdict.file = described_by(opened);
  verdict.original_context = reference.original_context;
  verdict.source_rope = reference.rope, verdict.candidate_rope = rope_table(candidate.config.rope, reference.context);
  return finish(verdict, verdict_output(verdict, source, candidate, corpus, device, beyond), {}, device, options.common,
                io);
}

std::string no_verdict(const VerifyOptions& options) {
  if (options.estimate) return "verify --estimate";
  return options.save_reference ? "verify --save-reference" : "";
}

int run_verify(const VerifyOptions& options, Io& io) {
  const Level level = parse_level(options.level);
  check(options, level);
  SweepDevice device;
  check_device(options.device);
  if (level == Level::logits) {
    device = choose_device(options.device);
    keep_sweeps(kept_sweeps(options, device), options.common, device, io);
  }
  const Corpus corpus = read_corpus(options.text, io);
  if (options.reference) return run_by_reference(options, level, device, corpus, io);
  const bool encodes = (level == Level::logits || options.save_reference) && !corpus.given_ids();
  const formats::Source opened =
      open_source(options.against, to_encode(options.modifiers, encodes), options.common, io);
  check_unmerged(options.modifiers, opened);
  const Checkpoint& source = opened.checkpoint;
  const int context = context_of(options.context, source);
  asked_gates(options.gates, context);
  JudgedText text;
  if (level == Level::logits) text = judged_text(options, source, corpus, context, io);
  if (options.save_reference) {
    if (options.estimate) return run_estimate(options, {&source}, text.cut.windows, context, io);
    Output output = save_reference(
        *options.save_reference,
        {opened, corpus, std::move(text.ids), std::move(text.cut.windows), context, options.modifiers.unmerged}, device,
        options.common, io);
    output.warnings.insert(output.warnings.end(), text.warnings.begin(), text.warnings.end());
    emit(output, options.common, io);
    forget_sweeps(device);
    return 0;
  }
  const formats::Source other = open_candidate(options, io);
  const Checkpoint& candidate = other.checkpoint;
  if (options.estimate) return run_estimate(options, {&source, &candidate}, text.cut.windows, context, io);
  const std::vector<std::string> beyond = past_what_they_serve(source, candidate, context);
  for (const std::string& line : beyond) warn(line, options.common, io);
  const int original_context = verify::original_context(source.config).value_or(0);
  ComparedRun compared = compared_run(corpus, context, text.cut.windows, candidate);
  compared.unmerged = options.modifiers.unmerged;
  compared.identity = run_identity(source.config, original_context, describe(source.config.rope), text.cut.windows);
  Verdict verdict =
      judge(options, level,
            {.source = source,
             .structure = [&] { return verify::compare_structure(source, candidate, corpus.documents, context); },
             .weights = [&] { return weight_differences(source, candidate, options.common, io); },
             .logits = [&] { return judge_by_source(options, source, candidate, text, context, device, io); },
             .run = std::move(compared)},
            candidate, device);
  verdict.file = described_by(other);
  verdict.original_context = original_context;
  verdict.source_rope = rope_table(source.config.rope, context);
  verdict.candidate_rope = rope_table(candidate.config.rope, context);
  return finish(verdict, verdict_output(verdict, source, candidate, corpus, device, beyond), text.warnings, device,
                options.common, io);
}

}  // namespace

Command verify_command() {
  return make_command("verify", "proves an export against its source: structure, weights, logits by position", declare,
                      run_verify, {.no_verdict = no_verdict});
}

}  // namespace ropewalk::tools
