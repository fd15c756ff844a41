// The engines' float32 arithmetic. torch: Python scalars are doubles, rounded to float32 where they meet a tensor
// (checked operation by operation against transformers 5.23.0, modeling_rope_utils.py). ggml: ggml_rope_yarn_corr_dims,
// ggml_rope_cache_init and rope_yarn of llama.cpp 0.5 (ggml/src/ggml.c, ggml/src/ggml-cpu/ops.cpp).
#include <algorithm>
#include <cmath>
#include <numbers>

#include "formats/engines/engine.h"

namespace ropewalk::formats {
namespace {

using Floats = std::vector<float>;

/// base ** (arange(0, dim, 2) / dim), the first `pairs` of it. torch's vectorised pow is rounded correctly but for one
/// value in about two hundred; glibc's powf in one of five.
Floats powers(float base, int dim, std::size_t pairs) {
  Floats out(pairs);
  for (std::size_t pair = 0; pair < pairs; ++pair)
    out[pair] = float(std::pow(double(base), double(float(2 * pair) / float(dim))));
  return out;
}

Floats plain(float base, int dim) {
  Floats out = powers(base, dim, std::size_t(dim / 2));
  for (float& f : out) f = 1.0f / f;
  return out;
}

struct CorrectionRange {
  double low, high;
};
CorrectionRange correction_range(const RopeSpec& spec, const RopeYarn& yarn) {  // in Python: doubles
  const auto dim_of = [&](double rotations) {
    return correction_dim(rotations, spec.rotary_dim, spec.theta, yarn.original_context);
  };
  double low = dim_of(yarn.beta_fast), high = dim_of(yarn.beta_slow);
  if (yarn.truncate) low = std::floor(low), high = std::ceil(high);
  return {std::max(low, 0.0), std::min(high, double(spec.rotary_dim - 1))};
}

Floats torch_yarn(const RopeSpec& spec, const RopeYarn& yarn) {
  Floats out = powers(float(spec.theta), spec.rotary_dim, std::size_t(spec.rotary_dim / 2));
  CorrectionRange range = correction_range(spec, yarn);
  if (range.low == range.high) range.high += 0.001;
  for (std::size_t pair = 0; pair < out.size(); ++pair) {
    const float ramp = std::clamp((float(pair) - float(range.low)) / float(range.high - range.low), 0.0f, 1.0f);
    const float kept = (1.0f - ramp) * float(yarn.extrapolation_factor);
    const float extrapolated = 1.0f / out[pair], interpolated = 1.0f / (float(yarn.factor) * out[pair]);
    out[pair] = interpolated * (1.0f - kept) + extrapolated * kept;
  }
  return out;
}

Floats torch_llama3(const RopeSpec& spec, const RopeLlama3& llama3) {
  Floats out = plain(float(spec.theta), spec.rotary_dim);
  const float longest = float(llama3.original_context / llama3.low_freq_factor),
              shortest = float(llama3.original_context / llama3.high_freq_factor);
  const float s = float(llama3.factor);
  for (float& f : out) {
    // torch divides a scalar by a tensor as reciprocal times scalar
    const float wavelength = 1.0f / f * float(2 * std::numbers::pi);
    if (wavelength > longest) {
      f /= s;
    } else if (!(wavelength < shortest)) {
      const float smooth = (1.0f / wavelength * float(llama3.original_context) - float(llama3.low_freq_factor)) /
                           float(llama3.high_freq_factor - llama3.low_freq_factor);
      f = (1.0f - smooth) * f / s + smooth * f;
    }
  }
  return out;
}

Floats torch_dynamic(const RopeSpec& spec, const RopeDynamic& dynamic, int sequence_length, bool base_in_double) {
  const int d = spec.rotary_dim;
  const double s = dynamic.factor;
  if (sequence_length <= dynamic.original_context || d == 2) return plain(float(spec.theta), d);
  if (base_in_double)
    return plain(float(ntk_base(spec.theta, s * sequence_length / dynamic.original_context - (s - 1), d)), d);
  // the length is a tensor
  const float alpha = float(s) * float(sequence_length) / float(dynamic.original_context) - float(s - 1);
  // the exponent is a scalar: torch raises one number to it in double
  const float grown = float(std::pow(double(alpha), double(d) / (d - 2)));
  return plain(float(spec.theta) * grown, d);
}

Floats torch_longrope(const RopeSpec& spec, const RopeLongrope& longrope, int sequence_length) {
  Floats out = powers(float(spec.theta), spec.rotary_dim, std::size_t(spec.rotary_dim / 2));
  const std::vector<double>& divisors = sequence_length > longrope.short_until.value_or(longrope.original_context)
                                            ? longrope.long_factor
                                            : longrope.short_factor;
  for (std::size_t pair = 0; pair < out.size(); ++pair) out[pair] = 1.0f / (float(divisors[pair]) * out[pair]);
  return out;
}

Floats torch_table(const RopeSpec& spec, int sequence_length, bool base_in_double) {
  const float theta = float(spec.theta);
  const int d = spec.rotary_dim;
  if (std::holds_alternative<RopeUnscaled>(spec.scaling)) return plain(theta, d);
  if (const auto* linear = std::get_if<RopeLinear>(&spec.scaling)) {
    Floats out = plain(theta, d);
    for (float& f : out) f /= float(linear->factor);
    return out;
  }
  if (const auto* ntk = std::get_if<RopeNtk>(&spec.scaling))
    return plain(float(ntk_base(spec.theta, ntk->alpha, d)), d);
  if (const auto* dynamic = std::get_if<RopeDynamic>(&spec.scaling))
    return torch_dynamic(spec, *dynamic, sequence_length, base_in_double);
  if (const auto* yarn = std::get_if<RopeYarn>(&spec.scaling)) return torch_yarn(spec, *yarn);
  if (const auto* llama3 = std::get_if<RopeLlama3>(&spec.scaling)) return torch_llama3(spec, *llama3);
  if (const auto* longrope = std::get_if<RopeLongrope>(&spec.scaling))
    return torch_longrope(spec, *longrope, sequence_length);
  if (const auto* proportional = std::get_if<RopeProportional>(&spec.scaling)) {
    Floats out = powers(theta, proportional->head_dim, std::size_t(d / 2));
    for (float& f : out) f = 1.0f / f / float(proportional->factor);
    out.resize(std::size_t(proportional->head_dim / 2), 0.0f);
    return out;
  }
  const RopeTable table = rope_table(spec, sequence_length);  // no engine runs the kinds that are left
  return Floats(table.inv_freq.begin(), table.inv_freq.end());
}

/// Angles of all pairs at a position.
Floats ggml_angles(const RopeSpec& spec, int position) {
  const float base = float(spec.theta), n_dims = float(spec.rotary_dim);
  const auto* yarn = std::get_if<RopeYarn>(&spec.scaling);
  const auto* linear = std::get_if<RopeLinear>(&spec.scaling);
  const float scale = yarn ? 1.0f / float(yarn->factor) : linear ? 1.0f / float(linear->factor) : 1.0f;
  float low = 0, high = 0;
  if (yarn) {
    const auto dim_of = [&](float rotations) {
      return n_dims * std::log(float(yarn->original_context) / (rotations * 2 * float(std::numbers::pi))) /
             (2 * std::log(base));
    };
    low = std::max(0.0f, std::floor(dim_of(float(yarn->beta_fast))));
    high = std::min(n_dims - 1, std::ceil(dim_of(float(yarn->beta_slow))));
  }
  const float step = std::pow(base, -2.0f / n_dims);
  Floats out(std::size_t(spec.rotary_dim / 2));
  float theta = float(position);
  for (std::size_t pair = 0; pair < out.size(); ++pair, theta *= step) {
    const float extrapolated = spec.frequency_divisors.empty() ? theta : theta / float(spec.frequency_divisors[pair]);
    out[pair] = scale * extrapolated;
    if (yarn) {
      const float mix = (1.0f - std::clamp((float(pair) - low) / std::max(0.001f, high - low), 0.0f, 1.0f)) *
                        float(yarn->extrapolation_factor);
      out[pair] = out[pair] * (1.0f - mix) + extrapolated * mix;
    }
  }
  return out;
}

}  // namespace

EngineTable engine_table(const EngineRope& rope, int sequence_length) {
  const float a = float(rope_table(rope.spec, sequence_length).attention_factor);
  if (rope.arithmetic == EngineArithmetic::ggml) return {ggml_angles(rope.spec, 1), a};
  RopeSpec spec = rope.spec;
  if (rope.position_divisor != 1) spec.scaling = RopeUnscaled{};
  Floats table = torch_table(spec, sequence_length, rope.arithmetic == EngineArithmetic::torch_double);
  for (std::size_t pair = 0; pair < spec.frequency_divisors.size(); ++pair)
    table[pair] /= float(spec.frequency_divisors[pair]);
  return {std::move(table), a};
}

EngineRotation engine_rotation(const EngineRope& rope, int sequence_length, int position) {
  const EngineTable table = engine_table(rope, sequence_length);
  Floats angles = table.inv_freq;
  if (rope.arithmetic == EngineArithmetic::ggml) angles = ggml_angles(rope.spec, position);
  else
    for (float& angle : angles)
      angle *= rope.position_divisor == 1 ? float(position) : float(position) / float(rope.position_divisor);
  EngineRotation out;
  for (float angle : angles) {
    out.cos.push_back(std::cos(angle) * table.attention_factor);
    out.sin.push_back(std::sin(angle) * table.attention_factor);
  }
  return out;
}

}  // namespace ropewalk::formats
