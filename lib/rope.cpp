#include "lib/rope.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <numbers>

namespace ropewalk {
namespace {

using std::vector;

/// f_i = theta^(-2i/d) / divisor_i: arXiv:2104.09864v5, section 3.2.2; divisors as ggml_rope_ext of llama.cpp 0.5
/// applies rope_freqs.weight.
vector<double> base_frequencies(const RopeSpec& spec, double theta) {
  const int d = spec.rotary_dim;
  vector<double> f(static_cast<std::size_t>(d / 2));
  for (std::size_t pair = 0; pair < f.size(); ++pair) {
    f[pair] = std::pow(theta, -(2.0 * double(pair)) / d);
    if (!spec.frequency_divisors.empty()) f[pair] /= spec.frequency_divisors[pair];
  }
  return f;
}

CorrectionRange range_of(double fast, double slow, bool truncate, const RopeSpec& spec, int original_context) {
  return correction_range(fast, slow, truncate, spec.rotary_dim, spec.theta, original_context);
}

/// 0 up to `low`, 1 from `high`, linear in the pair index between. Equal ends become a step (transformers 5.23.0,
/// linear_ramp_factor).
double ramp(CorrectionRange range, std::size_t pair) {
  if (range.low == range.high) range.high += 0.001;
  return std::clamp((double(pair) - range.low) / (range.high - range.low), 0.0, 1.0);
}

/// arXiv:2309.00071v2 eq. 20 with the ramp over pair indices.
vector<double> yarn_frequencies(const RopeSpec& spec, const RopeYarn& yarn) {
  vector<double> f = base_frequencies(spec, spec.theta);
  const CorrectionRange range = range_of(yarn.beta_fast, yarn.beta_slow, yarn.truncate, spec, yarn.original_context);
  for (std::size_t pair = 0; pair < f.size(); ++pair) {
    const double kept = (1 - ramp(range, pair)) * yarn.extrapolation_factor;
    f[pair] = f[pair] / yarn.factor * (1 - kept) + f[pair] * kept;
  }
  return f;
}

/// YaRN repository, scaled_rope/LlamaPartNTKScaledRotaryEmbedding.py: linear and NTK-aware blended, then the result
/// with the plain frequencies.
vector<double> by_parts_frequencies(const RopeSpec& spec, const RopeNtkByParts& parts) {
  constexpr double kBeta0 = 1.25, kBeta1 = 0.75, kGamma0 = 16, kGamma1 = 2;  // rotations over L, "found experimentally"
  vector<double> f = base_frequencies(spec, spec.theta);
  const vector<double> ntk = base_frequencies(spec, ntk_base(spec.theta, parts.factor, spec.rotary_dim));
  const CorrectionRange inner = range_of(kBeta0, kBeta1, true, spec, parts.original_context);
  const CorrectionRange outer = range_of(kGamma0, kGamma1, true, spec, parts.original_context);
  for (std::size_t pair = 0; pair < f.size(); ++pair) {
    const double ntk_share = (1 - ramp(inner, pair)) * parts.ntk_factor;
    const double scaled = f[pair] / parts.factor * (1 - ntk_share) + ntk[pair] * ntk_share;
    const double kept = (1 - ramp(outer, pair)) * parts.extrapolation_factor;
    f[pair] = scaled * (1 - kept) + f[pair] * kept;
  }
  return f;
}

/// transformers 5.23.0, modeling_rope_utils.py, _compute_llama3_parameters (Llama 3.1's model card).
vector<double> llama3_frequencies(const RopeSpec& spec, const RopeLlama3& llama3) {
  vector<double> f = base_frequencies(spec, spec.theta);
  const double longest = llama3.original_context / llama3.low_freq_factor;
  const double shortest = llama3.original_context / llama3.high_freq_factor;
  for (double& frequency : f) {
    const double wavelength = 2 * std::numbers::pi / frequency;
    if (wavelength > longest) {
      frequency /= llama3.factor;
    } else if (wavelength >= shortest) {
      const double smooth = (llama3.original_context / wavelength - llama3.low_freq_factor) /
                            (llama3.high_freq_factor - llama3.low_freq_factor);
      frequency = (1 - smooth) * frequency / llama3.factor + smooth * frequency;
    }
  }
  return f;
}

/// arXiv:2402.13753v1 eq. 2 with lambda_i the chosen list; the choice as transformers 5.23.0 makes it, by the running
/// sequence.
vector<double> longrope_frequencies(const RopeSpec& spec, const RopeLongrope& longrope, int sequence_length) {
  vector<double> f = base_frequencies(spec, spec.theta);
  const vector<double>& divisors = sequence_length > longrope.short_until.value_or(longrope.original_context)
                                       ? longrope.long_factor
                                       : longrope.short_factor;
  assert(divisors.size() == f.size());
  for (std::size_t pair = 0; pair < f.size(); ++pair) f[pair] /= divisors[pair];
  return f;
}

/// transformers 5.23.0, _compute_proportional_rope_parameters: exponents over the whole head, pairs past rotary_dim
/// stand still.
vector<double> proportional_frequencies(const RopeSpec& spec, const RopeProportional& proportional) {
  vector<double> f(static_cast<std::size_t>(proportional.head_dim / 2), 0.0);
  for (std::size_t pair = 0; pair < std::size_t(spec.rotary_dim / 2); ++pair)
    f[pair] = std::pow(spec.theta, -(2.0 * double(pair)) / proportional.head_dim) / proportional.factor;
  return f;
}

/// s of dynamic YaRN in a sequence of T tokens: at least 1, or the factor the model was fine-tuned at.
double dynamic_yarn_factor(const RopeDynamicYarn& yarn, int sequence_length) {
  const double floor =
      yarn.finetuned_context ? std::max(1.0, double(*yarn.finetuned_context) / yarn.original_context) : 1.0;
  return std::max(floor, double(sequence_length) / yarn.scale_context.value_or(yarn.original_context));
}

struct TableOf {
  const RopeSpec& spec;
  int sequence_length;

  RopeTable operator()(const RopeUnscaled&) const { return {base_frequencies(spec, spec.theta), 1}; }
  RopeTable operator()(const RopeLinear& linear) const {
    RopeTable table{base_frequencies(spec, spec.theta), 1};
    for (double& f : table.inv_freq) f /= linear.factor;
    return table;
  }
  RopeTable operator()(const RopeNtk& ntk) const {
    return {base_frequencies(spec, ntk_base(spec.theta, ntk.alpha, spec.rotary_dim)), 1};
  }
  RopeTable operator()(const RopeDynamic& dynamic) const {
    const double s = dynamic.factor, length = std::max(sequence_length, dynamic.original_context);
    const double alpha = s * length / dynamic.original_context - (s - 1);  // 1 up to L tokens
    return {base_frequencies(spec, ntk_base(spec.theta, alpha, spec.rotary_dim)), 1};
  }
  RopeTable operator()(const RopeNtkByParts& parts) const { return {by_parts_frequencies(spec, parts), 1}; }
  RopeTable operator()(const RopeYarn& yarn) const {
    return {yarn_frequencies(spec, yarn), yarn_attention_factor(yarn.factor)};
  }
  RopeTable operator()(const RopeDynamicYarn& dynamic) const {
    RopeYarn yarn{dynamic_yarn_factor(dynamic, sequence_length), dynamic.original_context};
    yarn.beta_fast = dynamic.beta_fast;
    yarn.beta_slow = dynamic.beta_slow;
    return (*this)(yarn);
  }
  RopeTable operator()(const RopeLlama3& llama3) const { return {llama3_frequencies(spec, llama3), 1}; }
  RopeTable operator()(const RopeLongrope& longrope) const {
    return {longrope_frequencies(spec, longrope, sequence_length),
            longrope_attention_factor(double(spec.context) / longrope.original_context, longrope.original_context)};
  }
  RopeTable operator()(const RopeProportional& proportional) const {
    return {proportional_frequencies(spec, proportional), 1};
  }
};

}  // namespace

RopeTable rope_table(const RopeSpec& spec, int sequence_length) {
  assert(spec.rotary_dim >= 2 && spec.rotary_dim % 2 == 0);
  assert(spec.frequency_divisors.empty() || spec.frequency_divisors.size() == std::size_t(spec.rotary_dim / 2));
  RopeTable table = std::visit(TableOf{spec, sequence_length}, spec.scaling);
  if (spec.attention_factor) table.attention_factor = *spec.attention_factor;
  return table;
}

int paired_channels(const RopeSpec& spec) {
  const auto* proportional = std::get_if<RopeProportional>(&spec.scaling);
  return proportional ? proportional->head_dim : spec.rotary_dim;
}

bool depends_on_length(const RopeSpec& spec) {
  return std::holds_alternative<RopeDynamic>(spec.scaling) || std::holds_alternative<RopeDynamicYarn>(spec.scaling) ||
         std::holds_alternative<RopeLongrope>(spec.scaling);
}

double ntk_base(double theta, double alpha, int rotary_dim) {
  return rotary_dim > 2 ? theta * std::pow(alpha, double(rotary_dim) / (rotary_dim - 2)) : theta;
}

double correction_dim(double rotations, int rotary_dim, double theta, int original_context) {
  return rotary_dim * std::log(original_context / (rotations * 2 * std::numbers::pi)) / (2 * std::log(theta));
}

CorrectionRange correction_range(double beta_fast, double beta_slow, bool truncate, int rotary_dim, double theta,
                                 int original_context) {
  double low = correction_dim(beta_fast, rotary_dim, theta, original_context);
  double high = correction_dim(beta_slow, rotary_dim, theta, original_context);
  if (truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  return {std::max(low, 0.0), std::min(high, double(rotary_dim - 1))};
}

double longrope_attention_factor(double factor, int original_context) {
  return factor <= 1 ? 1 : std::sqrt(1 + std::log(factor) / std::log(original_context));
}

double yarn_attention_factor(double factor, double mscale) {
  return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

}  // namespace ropewalk
