#include "formats/rope_dictionary.h"

#include <cmath>

#include "formats/engines/engine.h"

namespace ropewalk::formats {
namespace {

constexpr const char* kOriginal = "original_max_position_embeddings";

/// The keys of each method; false: no dictionary says it.
struct KeysOf {
  Json& out;
  const RopeSpec& spec;

  bool operator()(const RopeUnscaled&) { return plain("default"); }
  bool operator()(const RopeLinear& linear) { return plain("linear") && factor(linear.factor); }
  bool operator()(const RopeNtk& ntk) {
    out["rope_theta"] = ntk_base(spec.theta, ntk.alpha, spec.rotary_dim);
    return plain("default");
  }
  bool operator()(const RopeDynamic& dynamic) { return plain("dynamic") && factor(dynamic.factor); }
  bool operator()(const RopeNtkByParts&) { return false; }
  bool operator()(const RopeDynamicYarn&) { return false; }
  bool operator()(const RopeYarn& yarn) {
    if (yarn.extrapolation_factor != 1) return false;
    type("yarn"), factor(yarn.factor), original(yarn.original_context);
    if (yarn.beta_fast != 32) out["beta_fast"] = yarn.beta_fast;
    if (yarn.beta_slow != 1) out["beta_slow"] = yarn.beta_slow;
    if (!yarn.truncate) out["truncate"] = false;
    if (spec.attention_factor && *spec.attention_factor != yarn_attention_factor(yarn.factor))
      out["attention_factor"] = *spec.attention_factor;
    return true;
  }
  bool operator()(const RopeLlama3& llama3) {
    if (!plain("llama3")) return false;
    factor(llama3.factor), original(llama3.original_context);
    out["low_freq_factor"] = llama3.low_freq_factor;
    out["high_freq_factor"] = llama3.high_freq_factor;
    return true;
  }
  bool operator()(const RopeLongrope& longrope) {
    if (longrope.short_until) return false;
    type("longrope"), original(longrope.original_context);
    out["short_factor"] = longrope.short_factor;
    out["long_factor"] = longrope.long_factor;
    if (spec.attention_factor) out["attention_factor"] = *spec.attention_factor;
    return true;
  }
  bool operator()(const RopeProportional& proportional) {
    if (!plain("proportional")) return false;
    factor(proportional.factor);
    out["partial_rotary_factor"] = double(spec.rotary_dim) / proportional.head_dim;
    return true;
  }

 private:
  void type(const char* name) { out["rope_type"] = name; }
  bool factor(double value) {
    out["factor"] = value;
    return true;
  }
  void original(int tokens) { out[kOriginal] = tokens; }
  /// A method without a key for the attention factor.
  bool plain(const char* name) {
    type(name);
    return spec.attention_factor.value_or(1) == 1;
  }
};

/// The divisor under which float32's 1 / (divisor * power) is `target`, or as near as it gets.
double divisor_for(float power, float target) {
  const double exact = 1 / (double(power) * double(target));
  const auto miss = [&](float divisor) { return std::abs(double(1.0f / (divisor * power)) - double(target)); };
  double best = exact;
  for (const float side : {0.0f, INFINITY}) {
    const float next = std::nextafter(float(exact), side);
    if (miss(next) < miss(float(best))) best = double(next);
  }
  return best;
}

}  // namespace

std::optional<Json> rope_dictionary(const RopeSpec& spec) {
  if (!spec.frequency_divisors.empty()) return std::nullopt;
  Json out = {{"rope_type", "default"}, {"rope_theta", spec.theta}};
  if (!std::visit(KeysOf{out, spec}, spec.scaling)) return std::nullopt;
  return out;
}

std::optional<Json> longrope_dictionary(const RopeSpec& spec, int context, int original) {
  if (depends_on_length(spec)) {
    const auto* longrope = std::get_if<RopeLongrope>(&spec.scaling);
    if (!longrope || longrope->short_factor != longrope->long_factor) return std::nullopt;
  }
  if (original < 2 || std::holds_alternative<RopeProportional>(spec.scaling)) return std::nullopt;
  EngineRope rope;
  rope.spec = spec;
  const EngineTable table = engine_table(rope, context);
  std::vector<double> divisors;
  for (std::size_t pair = 0; pair < table.inv_freq.size(); ++pair) {
    const float power =
        float(std::pow(double(float(spec.theta)), double(float(2 * pair) / float(2 * table.inv_freq.size()))));
    const double divisor = divisor_for(power, table.inv_freq[pair]);
    if (!(divisor > 0 && divisor < 1e30)) return std::nullopt;
    divisors.push_back(divisor);
  }
  Json out = {{"rope_type", "longrope"}, {"rope_theta", spec.theta}};
  out["factor"] = std::max(1.0, double(context) / original);
  out[kOriginal] = original;
  out["short_factor"] = divisors;
  out["long_factor"] = divisors;
  const double attention = rope_table(spec, context).attention_factor;
  out["attention_factor"] = attention;
  if (attention != longrope_attention_factor(out["factor"].get<double>(), original))
    out["short_mscale"] = out["long_mscale"] = attention;
  return out;
}

}  // namespace ropewalk::formats
