#include "formats/engines/flags.h"

#include <algorithm>

#include "formats/config_file.h"
#include "formats/engines/flags_private.h"
#include "formats/engines/llamacpp_convert.h"
#include "formats/engines/model_types.h"
#include "formats/engines/python.h"
#include "lib/plural.h"

namespace ropewalk::formats {
namespace {

using namespace engines;

/// Fed back through the engine's rule. A rope dictionary must mean the same replaced and merged where engines of one
/// range do either.
class Trial {
 public:
  Trial(const EngineVersion& engine, const FlagsSource& source, const WantedRope& wanted, const EngineOptions& options)
      : engine_(engine), source_(source), wanted_(wanted), options_(options) {}

  enum class Verdict { right, right_at_context, wrong };
  Verdict judge(const FlagSet& flags) const {
    const EngineReading reading = read_with_flags(engine_, source_, flags, options_);
    Verdict verdict = judge_reading(reading);
    // SGLang merges or replaces a rope dictionary, by release
    if (verdict == Verdict::wrong || !reads_rope_parameters(engine_) || engine_.engine != Engine::sglang ||
        !flags.overrides.contains("rope_parameters"))
      return verdict;
    EngineOptions told = options_;
    if (flags.context) told.context = flags.context;
    told.allow_longer_context = flags.allow_longer_context;
    const Json& config = *std::get<const Json*>(source_);
    return std::max(verdict, judge_reading(read_as(
                                 engine_, with_overrides(engine_, config, flags, !merges(engine_, flags)), told)));
  }
  Verdict judge_reading(const EngineReading& reading) const {
    if (!reading.starts()) return Verdict::wrong;
    // transformers stops at no length
    if (engine_.engine != Engine::transformers && reading.context != wanted_.context) return Verdict::wrong;
    if (!compare_rope(wanted_, reading, wanted_.context).same_rotation()) return Verdict::wrong;
    for (const int length : lengths())
      if (!compare_rope(wanted_, reading, length).same_rotation()) return Verdict::right_at_context;
    return Verdict::right;
  }

 private:
  /// One length for a rope that is the same at all, else one on each side of the changes.
  std::vector<int> lengths() const {
    std::vector<int> out = {1};
    for (const WantedLayer& layer : wanted_.layers)
      if (const std::optional<int> original = rope_original_context(layer.spec)) {
        out.push_back(std::min(*original, wanted_.context));
        if (*original < wanted_.context) out.push_back(*original + 1 + (wanted_.context - *original) / 2);
      }
    return out;
  }

  const EngineVersion& engine_;
  const FlagsSource& source_;
  const WantedRope& wanted_;
  const EngineOptions& options_;
};

/// Reasons that are known before anything is tried; "" if flags may do.
std::string out_of_reach(const EngineVersion& engine, const WantedRope& wanted) {
  const RopeSpec& spec = wanted.layers.at(0).spec;
  const std::string method = rope_method_name(spec);
  if (engine.engine == Engine::exllamav3)
    return engine.title() + "'s scripts have no rope flags: only config.json can say it";
  if (engine.engine == Engine::exllamav2) {
    if (method == "yarn")
      return engine.title() +
             " takes yarn's correction range over -l instead of the original context, and nothing can change that";
    return "-rs, -ra and -ry, the rope flags of " + engine.title() + ", do not say " + method;
  }
  if (engine.engine == Engine::llama_cpp) {
    if (method == "dynamic" || method == "dynamic-yarn")
      return engine.title() + " has no rope that follows the sequence's length";
    if (method != "default" && method != "linear" && method != "ntk" && method != "yarn")
      return "no flag of llama.cpp says " + method + ": the GGUF's rope_freqs.weight can";
    if (!spec.frequency_divisors.empty()) return "no flag of llama.cpp sets a divisor per pair: rope_freqs.weight does";
    if (const auto* yarn = std::get_if<RopeYarn>(&spec.scaling); yarn && !yarn->truncate)
      return "llama.cpp always rounds yarn's correction range: the GGUF's rope_freqs.weight can say it without";
  }
  if (method == "ntk-by-parts" || method == "dynamic-yarn") return engine.title() + " has no rope type for " + method;
  return "";
}

std::string arch_of(const FlagsSource& source) {
  if (const auto* gguf = std::get_if<FlagsGguf>(&source))
    return gguf->file->string("general.architecture").value_or("llama");
  const Json& model = *model_part(*std::get<const Json*>(source)).json;
  const auto type = model.find("model_type");
  return type != model.end() && type->is_string() ? llama_cpp_arch(type->get<std::string>()) : "llama";
}

std::string why_not(const EngineVersion& engine, const FlagsSource& source, const WantedRope& wanted,
                    const std::vector<FlagSet>& tried, const EngineOptions& options) {
  const bool config = std::holds_alternative<const Json*>(source);
  if (takes_overrides(engine) && config) {
    if (const auto error = load_error(engine, *std::get<const Json*>(source), options))
      return engine.title() + " stops while it reads config.json, before any flag counts (" + error->kind + ": " +
             error->text.substr(0, 160) + ")";
  }
  if (const std::string known = out_of_reach(engine, wanted); !known.empty()) {
    FlagSet length;
    if (engine.engine != Engine::transformers) length.context = wanted.context;
    return known +
           " (alone: " + describe_difference(wanted, read_with_flags(engine, source, length, options), wanted.context) +
           ")";
  }
  if (engine.engine == Engine::transformers && config &&
      drops_rope_scaling(engine, *model_part(*std::get<const Json*>(source)).json))
    return "the configuration class of " + engine.title() +
           " has no rope_scaling, so that a keyword is dropped: the file must have the key";
  if (takes_overrides(engine) && config && !reaches_text_config(engine) &&
      model_part(*std::get<const Json*>(source)).nested())
    return "the rope is in text_config, which an override of " + engine.title() + " can only replace whole";
  // the one that is least wrong speaks for all
  std::string best;
  int least = -1;
  for (const FlagSet& flags : tried) {
    const EngineReading reading = read_with_flags(engine, source, flags, options);
    const RopeDifference difference = compare_rope(wanted, reading, wanted.context);
    const int wrong = (reading.error ? 100000 : 0) + (difference.shape ? 50000 : 0) + 2 * difference.pairs +
                      int(difference.attention) * 2 + int(difference.context);
    if (least >= 0 && wrong >= least) continue;
    least = wrong;
    best = describe_difference(wanted, reading, wanted.context);
  }
  return "with the best flags " + engine.title() + " still differs: " + best;
}

/// What limits the rule itself: model types that were not compared, engines that were not run.
void note_certainty(EngineFlags& out, const EngineReading& reading) {
  for (const EngineNotice& notice : reading.notices)
    if (notice.pointer.ends_with("/model_type") || notice.text.find("was not run") != std::string::npos)
      out.notes.push_back(notice.text);
}

/// llama-server of 2025-12 and later caps a slot at the model's n_ctx_train, the file's context_length, whatever -c
/// says; a YaRN whose factor comes from the command line, and is not the file's, raises it to s L (llama-context.cpp).
/// Elsewhere --override-kv changes the key, and what the loader takes it for where the file has no original context.
void lift_server_cap(EngineFlags& out, const FlagsSource& source, const EngineReading& alone, const WantedRope& wanted,
                     const Trial& trial, const std::string& arch) {
  if (out.engine.engine != Engine::llama_cpp || !out.engine.at_least({2025, 12}) || !alone.context ||
      *alone.context >= wanted.context)
    return;
  const RopeSpec& spec = wanted.layers.at(0).spec;
  const auto* yarn = std::get_if<RopeYarn>(&spec.scaling);
  const std::optional<double> factor = out.flags.llama_cpp.factor;
  const bool in_file = factor && !alone.ropes.empty() && rope_factor(alone.ropes[0].spec) == *factor;
  if (yarn && factor && !in_file && *factor * yarn->original_context >= wanted.context) return;
  const auto* gguf = std::get_if<FlagsGguf>(&source);
  // short and long lists go by the original context of the file alone, no flag's
  const bool lists =
      gguf && !spec.frequency_divisors.empty() && !gguf->file->integer(arch + ".rope.scaling.original_context_length");
  FlagSet lifted = out.flags;
  lifted.overrides["context_length"] = wanted.context;
  const Trial::Verdict before = trial.judge(out.flags);
  bool right = !lists && trial.judge(lifted) == before;
  if (!right && !lists && yarn) {
    lifted.llama_cpp.original_context = yarn->original_context;
    right = trial.judge(lifted) == before;
  }
  if (!right) {
    out.notes.push_back("llama-server caps a slot at the file's context_length, " + std::to_string(*alone.context));
    return;
  }
  out.flags = std::move(lifted);
  out.line = flags_line(out.engine, out.flags, arch);
}

/// The config.json is of a class that transformers does not have, and names its code: nothing loads it without leave to
/// run that. (docs.vllm.ai asks for it of Phi-3.5-vision, a class that vLLM itself has.)
bool runs_remote_code(const EngineVersion& engine, const FlagsSource& source) {
  const auto* config = std::get_if<const Json*>(&source);
  if (!config || !takes_overrides(engine) || !(*config)->is_object()) return false;
  const Json type = (*config)->value("model_type", Json()), map = (*config)->value("auto_map", Json());
  return type.is_string() && !transformers_knows(type.get<std::string>()) && map.is_object() &&
         map.contains("AutoConfig");
}

}  // namespace

EngineFlags engine_flags(const EngineVersion& engine, const FlagsSource& source, const WantedRope& wanted,
                         const EngineOptions& options) {
  EngineFlags out;
  out.engine = engine;
  const EngineReading alone = read_with_flags(engine, source, {}, options);
  if (std::holds_alternative<FlagsGguf>(source) && engine.engine != Engine::llama_cpp) {
    out.reason = "a GGUF is llama.cpp's: " + engine.title() + " is given a config.json";
    return out;
  }
  if (wanted.layers.empty()) {
    out.reason = "no rope is wanted";
    return out;
  }
  if (const auto* config = std::get_if<const Json*>(&source);
      engine.engine == Engine::transformers && config && Walk(engine, **config, options).unknown_class()) {
    out.reason = newest(Engine::transformers).title() + " has no such class, and no auto_map names its code";
    return out;
  }
  // transformers stops at no length, so there a length alone is no reason
  if (engine.engine != Engine::transformers || !compare_rope(wanted, alone, wanted.context).same_rotation())
    out.reason = describe_difference(wanted, alone, wanted.context);
  const Trial trial(engine, source, wanted, options);
  const std::string arch = arch_of(source);
  struct Candidate {
    FlagSet flags;
    std::string line;
  };
  std::vector<Candidate> all;
  const bool remote_code = runs_remote_code(engine, source);
  for (FlagSet& flags : candidates(engine, source, wanted)) {
    flags.remote_code = remote_code;
    std::string line = flags_line(engine, flags, arch);
    all.push_back({std::move(flags), std::move(line)});
  }
  std::stable_sort(all.begin(), all.end(), [](const Candidate& a, const Candidate& b) {
    if (a.flags.allow_longer_context != b.flags.allow_longer_context) return b.flags.allow_longer_context;
    return a.line.size() < b.line.size();
  });
  const Candidate* second_best = nullptr;
  for (const Candidate& candidate : all) {
    const Trial::Verdict verdict = trial.judge(candidate.flags);
    if (verdict == Trial::Verdict::wrong) continue;
    if (verdict == Trial::Verdict::right_at_context) {
      if (!second_best) second_best = &candidate;
      continue;
    }
    out.possible = true;
    out.flags = candidate.flags;
    out.line = candidate.line;
    break;
  }
  if (!out.possible && second_best) {
    out.possible = true;
    out.flags = second_best->flags;
    out.line = second_best->line;
    out.notes.push_back("right at " + plural(std::uint64_t(wanted.context), "token") +
                        "; shorter sequences get the same rotation, which they should not");
  }
  if (!out.possible && alone.error && alone.error->kind == kNotFollowed) {
    out.followed = false;
    out.reason = alone.error->text;
    note_certainty(out, alone);
    return out;
  }
  if (!out.possible) {
    std::vector<FlagSet> tried;
    for (const Candidate& candidate : all) tried.push_back(candidate.flags);
    out.reason = why_not(engine, source, wanted, tried, options);
    note_certainty(out, alone);
    return out;
  }
  lift_server_cap(out, source, alone, wanted, trial, arch);
  const EngineReading fed_back = read_with_flags(engine, source, out.flags, options);
  if (engine.engine == Engine::transformers && fed_back.context && *fed_back.context != wanted.context)
    out.notes.push_back("max_position_embeddings stays " + std::to_string(*fed_back.context) +
                        ", at which transformers does not stop");
  note_certainty(out, fed_back);
  if (remote_code) out.notes.push_back("the model's own code is run: look at what auto_map names before");
  if (out.flags.allow_longer_context)
    out.notes.push_back("the environment variable lifts the engine's own limit on the context");
  return out;
}

}  // namespace ropewalk::formats
