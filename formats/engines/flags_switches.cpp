// Candidates for engines that have a switch for each number of a rope: llama.cpp, ExLlamaV2.
#include <cstdlib>

#include "formats/engines/flags_private.h"

namespace ropewalk::formats::engines {

double shortest(double value) {
  const double few = std::strtod(number_text(value).c_str(), nullptr);
  return float(few) == float(value) ? few : value;
}

void hold_still(RopeSpec& spec, int context) {
  const auto* dynamic = std::get_if<RopeDynamic>(&spec.scaling);
  if (!dynamic) return;
  const double s = dynamic->factor, ratio = double(context) / dynamic->original_context;
  if (ratio > 1) spec.theta = ntk_base(spec.theta, s * ratio - (s - 1), spec.rotary_dim);
  spec.scaling = RopeUnscaled{};
}

namespace {

void add_llama_cpp(std::vector<FlagSet>& out, const LlamaCppFlags& base, const RopeSpec& spec, int context) {
  const double a = rope_table(spec, 1).attention_factor;
  const auto add = [&](const LlamaCppFlags& flags) {
    FlagSet set;
    set.context = context;
    set.llama_cpp = flags;
    out.push_back(set);
  };
  for (const bool with_theta : {false, true}) {
    LlamaCppFlags flags = base;
    const auto* ntk = std::get_if<RopeNtk>(&spec.scaling);
    if (with_theta) flags.theta = shortest(ntk ? ntk_base(spec.theta, ntk->alpha, spec.rotary_dim) : spec.theta);
    add(flags);
    const double own = std::holds_alternative<RopeYarn>(spec.scaling)
                           ? yarn_attention_factor(std::get<RopeYarn>(spec.scaling).factor)
                           : 1;
    LlamaCppFlags by_flag = flags, by_key = flags;
    by_flag.attn_factor = by_key.attn_factor_key = double(float(a / own));
    add(by_flag);
    add(by_key);
  }
}

}  // namespace

std::vector<FlagSet> llama_cpp_candidates(const EngineVersion& engine, const WantedRope& wanted) {
  std::vector<FlagSet> out = {{}};
  FlagSet asked;
  asked.context = wanted.context;
  // before its releases the default was 4096 tokens whatever the file says
  if (!engine.at_least({2025, 12})) out.clear();
  out.push_back(asked);
  if (wanted.layers.empty()) return out;
  RopeSpec spec = wanted.layers[0].spec;
  hold_still(spec, wanted.context);
  std::vector<LlamaCppFlags> methods(1);
  if (std::holds_alternative<RopeUnscaled>(spec.scaling) || std::holds_alternative<RopeNtk>(spec.scaling)) {
    methods.emplace_back().scaling = "none";
  } else if (const auto* linear = std::get_if<RopeLinear>(&spec.scaling)) {
    methods.emplace_back().factor = shortest(linear->factor);
    methods.push_back(methods.back());
    methods.back().scaling = "linear";
  } else if (const auto* yarn = std::get_if<RopeYarn>(&spec.scaling)) {
    LlamaCppFlags flags;
    if (yarn->beta_fast != 32) flags.beta_fast = yarn->beta_fast;
    if (yarn->beta_slow != 1) flags.beta_slow = yarn->beta_slow;
    if (yarn->extrapolation_factor != 1) flags.ext_factor = yarn->extrapolation_factor;
    methods.push_back(flags);
    flags.original_context = yarn->original_context;
    methods.push_back(flags);
    flags.scaling = "yarn";
    flags.factor = shortest(yarn->factor);
    methods.push_back(flags);
    flags.beta_fast = yarn->beta_fast;  // a file whose own betas are read (mistral3)
    flags.beta_slow = yarn->beta_slow;
    methods.push_back(flags);
  }
  for (const LlamaCppFlags& method : methods) add_llama_cpp(out, method, spec, wanted.context);
  return out;
}

std::vector<FlagSet> exllama_candidates(const EngineVersion& engine, const WantedRope& wanted) {
  FlagSet asked;
  asked.context = wanted.context;
  std::vector<FlagSet> out = {asked};
  if (engine.engine == Engine::exllamav3 || wanted.layers.empty()) return out;
  out.insert(out.begin(), FlagSet{});
  const RopeSpec& spec = wanted.layers[0].spec;
  if (const auto* linear = std::get_if<RopeLinear>(&spec.scaling)) asked.exllamav2.scale = shortest(linear->factor);
  if (const auto* ntk = std::get_if<RopeNtk>(&spec.scaling)) asked.exllamav2.alpha = shortest(ntk->alpha);
  if (const auto* yarn = std::get_if<RopeYarn>(&spec.scaling)) asked.exllamav2.yarn = shortest(yarn->factor);
  if (asked.exllamav2.any()) out.push_back(asked);
  return out;
}

}  // namespace ropewalk::formats::engines
