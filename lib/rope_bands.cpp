#include "lib/rope_bands.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace ropewalk {
namespace {

bool same(double a, double b) { return std::abs(a - b) <= 3.0 / (1 << 23) * std::abs(b); }

double whole_factor(const RopeSpec& spec) {
  if (const auto* longrope = std::get_if<RopeLongrope>(&spec.scaling))
    return std::max(1.0, double(spec.context) / longrope->original_context);
  return rope_factor(spec).value_or(1);
}

}  // namespace

const char* rope_band_name(RopeBand band) {
  switch (band) {
    case RopeBand::untouched: return "untouched";
    case RopeBand::blended: return "blended";
    case RopeBand::interpolated: return "interpolated";
    case RopeBand::still: return "still";
  }
  return "";
}

RopeSpec unscaled_rope(const RopeSpec& spec) {
  RopeSpec plain;
  plain.theta = spec.theta;
  plain.rotary_dim = spec.rotary_dim;
  plain.context = spec.context;
  if (const auto* proportional = std::get_if<RopeProportional>(&spec.scaling))
    plain.scaling = RopeProportional{1, proportional->head_dim};
  return plain;
}

int trained_context(const RopeSpec& spec, int context) {
  if (const std::optional<int> original = rope_original_context(spec)) return *original;
  if (const auto* linear = std::get_if<RopeLinear>(&spec.scaling); linear && linear->factor > 1)
    return std::max(1, int(std::lround(context / linear->factor)));
  return std::max(1, context);
}

std::vector<RopePair> rope_pairs(const RopeSpec& spec, int original_context, int sequence_length) {
  const RopeTable before = rope_table(unscaled_rope(spec), sequence_length), after = rope_table(spec, sequence_length);
  const double s = whole_factor(spec);
  std::vector<RopePair> pairs(after.inv_freq.size());
  for (std::size_t index = 0; index < pairs.size(); ++index) {
    RopePair& pair = pairs[index];
    pair.before = before.inv_freq.at(index);
    pair.after = after.inv_freq[index];
    if (pair.before > 0) {
      pair.wavelength = 2 * std::numbers::pi / pair.before;
      pair.turns = original_context / pair.wavelength;
    }
    pair.band = pair.after == 0                                                                ? RopeBand::still
                : same(pair.after, pair.before)                                                ? RopeBand::untouched
                : same(pair.after * s, pair.before) || (s > 1 && pair.after * s < pair.before) ? RopeBand::interpolated
                                                                                               : RopeBand::blended;
  }
  return pairs;
}

}  // namespace ropewalk
