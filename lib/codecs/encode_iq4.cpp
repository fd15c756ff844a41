#include "lib/codecs/encoders.h"
#include "lib/codecs/fits.h"
#include "lib/codecs/k_types.h"
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
float fit_levels(const float* x, const float* weights) {
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
  return fit_levels(x, weights);
}

void put_levels(const float* x, float scale, std::byte* nibbles) {
  const float inverse = scale != 0 ? 1 / scale : 0.0f;
  for (int i = 0; i < 32; ++i) put_nibble(nibbles, i, 16, static_cast<std::uint32_t>(nearest_level(inverse * x[i])));
}

}  // namespace

void encode_iq4_nl(const float* x, const float* importances, std::int64_t columns, std::byte* out) {
  for (std::int64_t at = 0; at < columns; at += 32, x += 32, out += Iq4Nl::kBytes) {
    std::fill_n(out, Iq4Nl::kBytes, std::byte{0});
    const float scale =
        fit_group(x, importances != nullptr ? importances + at : nullptr, sum_of_squares(x, 32) * (2.0f / 32));
    put_half(out, scale);
    put_levels(x, scale, out + 2);  // of the scale as it was, not as stored
  }
}

void encode_iq4_xs(const float* x, const float* importances, std::int64_t columns, std::byte* out) {
  for (std::int64_t at = 0; at < columns; at += 256, x += 256, out += Iq4Xs::kBytes) {
    std::fill_n(out, Iq4Xs::kBytes, std::byte{0});
    const float spread = sum_of_squares(x, 256) * (2.0f / 256);
    float scales[8];
    for (int group = 0; group < 8; ++group)
      scales[group] =
          fit_group(x + 32 * group, importances != nullptr ? importances + at + 32 * group : nullptr, spread);
    const float d = -extreme(scales, 8) / 32, inverse = d != 0 ? 1 / d : 0.0f;
    put_half(out, d);
    std::uint32_t high = 0;
    for (int group = 0; group < 8; ++group) {
      const int level = limited(-32, nearest(inverse * scales[group]), 31);
      put_levels(x + 32 * group, d * real(level), out + 8 + 16 * group);  // of d as it was, not as stored
      const auto code = static_cast<std::uint32_t>(level + 32);
      add_bits(out[4 + group / 2], (code & 15) << group % 2 * 4);
      high |= code >> 4 << 2 * group;
    }
    put_word(out + 2, high);
  }
}

}  // namespace ropewalk::codecs
