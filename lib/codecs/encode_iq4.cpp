#include "lib/codecs/encoders.h"
#include "lib/codecs/fits.h"
#include "lib/codecs/k_types.h"
#include "lib/codecs/lane_fits.h"
#include "lib/codecs/pack.h"

namespace ropewalk::codecs {
namespace {

/// The level nearest to x, of two equally near ones the upper; NaN is the last.
int nearest_level(float x) {
  if (x <= kIq4Levels[0]) return 0;
  if (x >= kIq4Levels[15]) return 15;
  int low = 0, high = 15;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    (x < kIq4Levels[middle] ? high : low) = middle;
  }
  return x - real(kIq4Levels[high - 1]) < real(kIq4Levels[high]) - x ? high - 1 : high;
}

/// The scale of 32 elements: of 16 candidates around the one that makes the extreme element the lowest level, the least
/// weighted squared error.
float fit_iq4(const float* x, const float* weights) {
  const float peak = extreme(x, 32);
  if (std::fabs(peak) < kNothing) return 0;
  float sum_qx = 0, sum_q2 = 0;
  const auto measure = [&](float inverse) {
    sum_qx = sum_q2 = 0;
    for (int i = 0; i < 32; ++i) {
      const float q = real(kIq4Levels[nearest_level(inverse * x[i])]), w = weights[i];
      sum_qx += w * q * x[i];
      sum_q2 += w * q * q;
    }
  };
  measure(1 / (-peak / real(kIq4Levels[0])));
  float scale = sum_q2 > 0 ? sum_qx / sum_q2 : 0.0f, best = scale * sum_qx;
  for (int step = -7; step <= 7; ++step) {
    measure(real(step + kIq4Levels[0]) / peak);
    if (!(sum_q2 > 0 && sum_qx * sum_qx > best * sum_q2)) continue;
    scale = sum_qx / sum_q2;
    best = scale * sum_qx;
  }
  return scale;
}

float fit_group(const float* x, const float* importances, float spread) {
  float weights[32];
  if (importances != nullptr) weigh(x, importances, spread, weights, 32);
  else
    for (int i = 0; i < 32; ++i) weights[i] = x[i] * x[i];
  return fit_iq4(x, weights);
}

/// fit_group of up to kLanes groups; each `per_spread` of them share a spread.
void fit_groups(const float* x, const float* importances, const float* spreads, int per_spread, int n_groups,
                float* scales) {
  alignas(64) float turned[32 * kLanes], weights[32 * kLanes];
  turn(x, 32, n_groups, turned);
  if (importances != nullptr) {
    float of_groups[kLanes] = {};
    for (int group = 0; group < n_groups; ++group) of_groups[group] = spreads[group / per_spread];
    turn(importances, 32, n_groups, weights);
    weigh_lanes(turned, weights, of_groups, 32, weights, nullptr);
  } else {
    square_lanes(turned, 32, weights);
  }
  fit_iq4_lanes({turned, weights, 32}, scales);
}

using NearestLevels = void(const float* x, float inverse, int n, std::uint8_t* levels);

void nearest_levels(const float* x, float inverse, int n, std::uint8_t* levels) {
  for (int i = 0; i < n; ++i) levels[i] = static_cast<std::uint8_t>(nearest_level(inverse * x[i]));
}

void put_levels(const float* x, float scale, NearestLevels* nearest_of, std::byte* nibbles) {
  std::uint8_t levels[32];
  nearest_of(x, scale != 0 ? 1 / scale : 0.0f, 32, levels);
  for (int i = 0; i < 16; ++i) nibbles[i] = static_cast<std::byte>(levels[i] | levels[16 + i] << 4);
}

void put_iq4_nl(const float* x, float scale, NearestLevels* nearest_of, std::byte* block) {
  put_half(block, scale);
  put_levels(x, scale, nearest_of, block + 2);  // of the scale as it was, not as stored
}

void put_iq4_xs(const float* x, const float* scales, NearestLevels* nearest_of, std::byte* block) {
  std::fill_n(block, 8, std::byte{0});
  const float d = -extreme(scales, 8) / 32, inverse = d != 0 ? 1 / d : 0.0f;
  put_half(block, d);
  std::uint32_t high = 0;
  for (int group = 0; group < 8; ++group) {
    const int level = limited(-32, nearest(inverse * scales[group]), 31);
    put_levels(x + 32 * group, d * real(level), nearest_of, block + 8 + 16 * group);  // of d as it was, not as stored
    const auto code = static_cast<std::uint32_t>(level + 32);
    add_bits(block[4 + group / 2], (code & 15) << group % 2 * 4);
    high |= code >> 4 << 2 * group;
  }
  put_word(block + 2, high);
}

}  // namespace

void encode_iq4_nl(const float* x, const float* importances, std::int64_t columns, std::byte* out) {
  for (std::int64_t at = 0; at < columns; at += 32, x += 32, out += Iq4Nl::kBytes) {
    const float scale =
        fit_group(x, importances != nullptr ? importances + at : nullptr, sum_of_squares(x, 32) * (2.0f / 32));
    put_iq4_nl(x, scale, nearest_levels, out);
  }
}

void encode_iq4_nl_lanes(const float* x, const float* importances, std::int64_t columns, std::byte* out) {
  for (std::int64_t at = 0; at < columns; at += 32 * kLanes, x += 32 * kLanes) {
    const int n_blocks = static_cast<int>(std::min<std::int64_t>(kLanes, (columns - at) / 32));
    float spreads[kLanes] = {}, scales[kLanes];
    for (int b = 0; b < n_blocks && importances != nullptr; ++b)
      spreads[b] = sum_of_squares(x + 32 * b, 32) * (2.0f / 32);
    fit_groups(x, importances != nullptr ? importances + at : nullptr, spreads, 1, n_blocks, scales);
    for (int b = 0; b < n_blocks; ++b, out += Iq4Nl::kBytes) put_iq4_nl(x + 32 * b, scales[b], nearest_iq4_levels, out);
  }
}

void encode_iq4_xs(const float* x, const float* importances, std::int64_t columns, std::byte* out) {
  for (std::int64_t at = 0; at < columns; at += 256, x += 256, out += Iq4Xs::kBytes) {
    const float spread = sum_of_squares(x, 256) * (2.0f / 256);
    float scales[8];
    for (int group = 0; group < 8; ++group)
      scales[group] =
          fit_group(x + 32 * group, importances != nullptr ? importances + at + 32 * group : nullptr, spread);
    put_iq4_xs(x, scales, nearest_levels, out);
  }
}

void encode_iq4_xs_lanes(const float* x, const float* importances, std::int64_t columns, std::byte* out) {
  constexpr int kAtOnce = kLanes / 8;
  for (std::int64_t at = 0; at < columns; at += 256 * kAtOnce, x += 256 * kAtOnce) {
    const int n_blocks = static_cast<int>(std::min<std::int64_t>(kAtOnce, (columns - at) / 256));
    float spreads[kAtOnce] = {}, scales[kLanes];
    for (int b = 0; b < n_blocks && importances != nullptr; ++b)
      spreads[b] = sum_of_squares(x + 256 * b, 256) * (2.0f / 256);
    fit_groups(x, importances != nullptr ? importances + at : nullptr, spreads, 8, 8 * n_blocks, scales);
    for (int b = 0; b < n_blocks; ++b, out += Iq4Xs::kBytes)
      put_iq4_xs(x + 256 * b, scales + 8 * b, nearest_iq4_levels, out);
  }
}

}  // namespace ropewalk::codecs
