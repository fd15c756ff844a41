// Emission: keys or divisors under which llama.cpp 0.5 computes a RopeSpec.
#include "formats/gguf_rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <utility>

#include "lib/error.h"
#include "lib/number_text.h"
#include "lib/rope_bands.h"

namespace ropewalk::formats {
namespace {

std::string shown(double value) { return number_text(value, 9); }

void add(GgufRope& rope, const char* name, GgufValue value) {
  rope.keys.push_back({std::string("llama.rope.") + name, std::move(value)});
}
void add_number(GgufRope& rope, const char* name, double value) {
  if (!std::isfinite(float(value)) || float(value) == 0)
    throw Error(ErrorKind::unsupported, {},
                "llama.rope." + std::string(name) + " would be " + shown(value) +
                    ", expected a magnitude from 1.4e-45 to 3.4e38, which an f32 of a GGUF can hold",
                "check the rope of the source");
  add(rope, name, gguf_f32(float(value)));
}

/// The static rope that stands for `spec` in a file of this context, and what is lost by it.
RopeSpec static_rope(const RopeSpec& spec, int context, std::vector<Loss>& losses) {
  RopeSpec fixed = spec;
  if (const auto* dynamic = std::get_if<RopeDynamic>(&spec.scaling)) {
    fixed.scaling = RopeUnscaled{};
    // The context written is the original one, as transformers 5.23.0 reads this method: what it is for lies past it.
    const bool extends = context > dynamic->original_context || dynamic->factor > 1;
    losses.push_back({"rope.dynamic",
                      "llama.cpp 0.5 cannot change the base with the sequence: the plain rope is written, right up to "
                      "the original context",
                      dynamic->original_context, extends});
  } else if (const auto* yarn = std::get_if<RopeDynamicYarn>(&spec.scaling)) {
    const int tuned = yarn->finetuned_context.value_or(0);
    const int safe = std::max(tuned, yarn->scale_context.value_or(yarn->original_context));
    RopeYarn at_safe{std::max(1.0, double(tuned) / yarn->original_context), yarn->original_context};
    at_safe.beta_fast = yarn->beta_fast;
    at_safe.beta_slow = yarn->beta_slow;
    fixed.scaling = RopeUnscaled{};
    if (at_safe.factor > 1) fixed.scaling = at_safe;
    losses.push_back({"rope.dynamic-yarn",
                      "llama.cpp 0.5 cannot change the factor with the sequence: that of short sequences is written",
                      safe, context > safe});
  } else if (const auto* longrope = std::get_if<RopeLongrope>(&spec.scaling)) {
    const bool is_long = context > longrope->original_context;
    if (is_long && longrope->long_factor != longrope->short_factor)
      losses.push_back({"rope.longrope",
                        "one list of factors is written, the long one: sequences up to the original context, where the "
                        "short list belongs, differ",
                        longrope->original_context, true});
  }
  return fixed;
}

/// Where the ramp of llama.cpp 0.5 (floor and ceil in float32, as ggml_rope_yarn_corr_dims) is not the one RopeYarn
/// means.
bool same_range(const RopeSpec& spec, const RopeYarn& yarn) {
  const auto exact = [&](double rotations) {
    return correction_dim(rotations, spec.rotary_dim, spec.theta, yarn.original_context);
  };
  const auto single = [&](float rotations) {
    return float(spec.rotary_dim) * std::log(float(yarn.original_context) / (rotations * 2 * float(std::numbers::pi))) /
           (2 * std::log(float(spec.theta)));
  };
  if (std::floor(exact(32)) != double(std::floor(single(32))) || std::ceil(exact(1)) != double(std::ceil(single(1))))
    return false;
  return std::ceil(exact(1)) >= 0;  // an upside-down range is read differently
}

/// What keeps `spec` from being said in keys; empty: nothing does. Name of the loss and the reason.
std::vector<std::pair<std::string, std::string>> beyond_keys(const RopeSpec& spec) {
  std::vector<std::pair<std::string, std::string>> out;
  const std::string unread = " is not read by llama.cpp 0.5 for arch llama";
  if (!spec.frequency_divisors.empty()) out.push_back({"rope.divisors", "frequency divisors have no key"});
  if (const auto* yarn = std::get_if<RopeYarn>(&spec.scaling)) {
    if (yarn->beta_fast != 32) out.push_back({"rope.beta", "beta_fast " + shown(yarn->beta_fast) + unread});
    else if (yarn->beta_slow != 1) out.push_back({"rope.beta", "beta_slow " + shown(yarn->beta_slow) + unread});
    if (!yarn->truncate) out.push_back({"rope.truncate", "truncate false" + unread});
    if (yarn->extrapolation_factor != 1)
      out.push_back(
          {"rope.extrapolation_factor", "extrapolation_factor " + shown(yarn->extrapolation_factor) + unread});
    if (out.empty() && !same_range(spec, *yarn))
      out.push_back({"rope.range", "llama.cpp 0.5 rounds the correction range of this YaRN differently in float32"});
  } else if (std::holds_alternative<RopeLongrope>(spec.scaling)) {
    out.push_back({"rope.longrope", "a divisor for each pair, as longrope and NTK-by-parts have it, has no key"});
  } else if (!std::holds_alternative<RopeUnscaled>(spec.scaling) && !std::holds_alternative<RopeLinear>(spec.scaling) &&
             !std::holds_alternative<RopeNtk>(spec.scaling)) {
    out.push_back({std::string("rope.") + rope_method_name(spec),
                   std::string("llama.cpp 0.5 has no rope type ") + rope_method_name(spec)});
  }
  return out;
}

double theta_of(const RopeSpec& spec) {
  const auto* ntk = std::get_if<RopeNtk>(&spec.scaling);
  return ntk ? ntk_base(spec.theta, ntk->alpha, spec.rotary_dim) : spec.theta;
}

void write_keys(const RopeSpec& spec, int context, GgufRope& rope) {
  const double attention = rope_table(spec, context).attention_factor;
  double own = 1;  // what the engine applies by itself
  if (const auto* linear = std::get_if<RopeLinear>(&spec.scaling)) {
    add(rope, "scaling.type", gguf_string("linear"));
    add_number(rope, "scaling.factor", linear->factor);
  } else if (const auto* yarn = std::get_if<RopeYarn>(&spec.scaling)) {
    own = yarn_attention_factor(yarn->factor);
    add(rope, "scaling.type", gguf_string("yarn"));
    add_number(rope, "scaling.factor", yarn->factor);
    add(rope, "scaling.original_context_length", gguf_u32(std::uint32_t(yarn->original_context)));
  } else if (attention != 1) {
    add(rope, "scaling.type", gguf_string("none"));
  }
  if (attention != own) add_number(rope, "scaling.attn_factor", attention / own);
  if (const auto* yarn =
          std::get_if<RopeYarn>(&spec.scaling)) {  // as the converter does: other engines and archs read them
    if (yarn->beta_fast != 32) add_number(rope, "scaling.yarn_beta_fast", yarn->beta_fast);
    if (yarn->beta_slow != 1) add_number(rope, "scaling.yarn_beta_slow", yarn->beta_slow);
  }
  add_number(rope, "freq_base", theta_of(spec));
}

/// The context that `spec` scales, where it says one below the context written.
std::optional<int> original_of(const RopeSpec& spec, int context) {
  std::optional<int> original = rope_original_context(spec);
  if (!original && std::holds_alternative<RopeLinear>(spec.scaling)) original = trained_context(spec, context);
  return original && *original < context ? original : std::nullopt;
}

/// Divisors against the plain frequencies of the base as stored, in float32. A pair that stands still gets a divisor
/// that makes any angle vanish. The original context is beside them for whoever asks what the divisors scale: llama.cpp
/// 0.5 looks at the key under type yarn and where there are no divisors (src/llama-model.cpp, get_rope_factors).
void write_divisors(const RopeSpec& spec, int context, GgufRope& rope) {
  const RopeTable target = rope_table(spec, context);
  const int head_dim = int(target.inv_freq.size()) * 2;
  const double theta = double(float(spec.theta));
  for (std::size_t pair = 0; pair < target.inv_freq.size(); ++pair) {
    const double plain = std::pow(theta, -(2.0 * double(pair)) / head_dim);
    const double divisor = target.inv_freq[pair] > 0 ? plain / target.inv_freq[pair] : 1e30;
    rope.frequency_divisors.push_back(float(std::min(divisor, 1e30)));
  }
  add(rope, "scaling.type", gguf_string("none"));
  if (const std::optional<int> original = original_of(spec, context))
    add(rope, "scaling.original_context_length", gguf_u32(std::uint32_t(*original)));
  if (target.attention_factor != 1) add_number(rope, "scaling.attn_factor", target.attention_factor);
  add_number(rope, "freq_base", spec.theta);
}

}  // namespace

std::vector<Loss> inherent_rope_losses(const RopeSpec& spec, int context) {
  std::vector<Loss> losses;
  (void)static_rope(spec, context, losses);
  return losses;
}

GgufRope gguf_rope(const RopeSpec& spec, int head_dim, int context, RopeEncoding encoding) {
  const auto* proportional = std::get_if<RopeProportional>(&spec.scaling);
  if (!proportional && spec.rotary_dim != head_dim)
    throw Error(ErrorKind::unsupported, {},
                "only " + std::to_string(spec.rotary_dim) + " of " + std::to_string(head_dim) +
                    " channels of a head rotate, which llama.cpp 0.5 refuses for arch llama",
                "write a folder, not a GGUF: vllm and sglang read its partial_rotary_factor");
  GgufRope rope;
  const RopeSpec fixed = static_rope(spec, context, rope.losses);
  const auto reasons = beyond_keys(fixed);
  if (encoding == RopeEncoding::freqs || (encoding == RopeEncoding::automatic && !reasons.empty())) {
    write_divisors(fixed, context, rope);
    rope.notes.push_back("rope_freqs.weight is written: " + (reasons.empty() ? "asked for" : reasons.front().second));
    return rope;
  }
  for (const auto& [name, reason] : reasons) {
    std::erase_if(rope.losses, [&name = name](const Loss& loss) { return loss.name == name; });  // the worse of two
    rope.losses.push_back(
        {name, reason + ", and keys alone were asked for: rope_freqs.weight can say it, which llama.cpp 0.5 reads",
         std::nullopt, true});
  }
  RopeSpec sayable = fixed;
  if (!reasons.empty() && !std::holds_alternative<RopeYarn>(fixed.scaling)) sayable.scaling = RopeUnscaled{};
  if (proportional) sayable.rotary_dim = head_dim;
  sayable.frequency_divisors.clear();
  write_keys(sayable, context, rope);
  return rope;
}

}  // namespace ropewalk::formats
