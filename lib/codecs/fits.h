#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

// The searches behind ggml's quantizers (ggml 0.25.3), one group of elements at a time: every float operation in the
// reference's order, none contracted, sums from the first element to the last. Levels are what is stored.
namespace ropewalk::codecs {

/// Below this a group counts as zero.
inline constexpr float kNothing = 1e-15f;

/// 1.5 * 2^23: what is added to it loses its fraction, to nearest, ties to even.
inline constexpr float kShift = 12582912.0f;

/// To nearest by adding kShift: right below 2^22; past it the bits wrap, and of infinity and NaN they
/// are what they are. Those decide some stored levels, so no rounding instruction may stand here.
inline int nearest(float x) { return static_cast<int>(std::bit_cast<std::uint32_t>(x + kShift) & 0x7fffff) - 0x400000; }
/// Towards zero as x86-64 converts: what an int cannot hold, NaN too, is the smallest int.
inline int truncated(float x) { return std::fabs(x) < 0x1p31f ? static_cast<int>(x) : std::numeric_limits<int>::min(); }
inline int limited(int low, int x, int high) { return std::max(low, std::min(high, x)); }
inline float real(int x) { return static_cast<float>(x); }

/// The element of largest magnitude, the first of several; 0 where all are 0 or NaN.
inline float extreme(const float* x, int n) {
  const auto magnitude_bits = [&](int i) {  // they order as magnitudes do; 0 of NaN
    const std::uint32_t bits = std::bit_cast<std::uint32_t>(x[i]) & 0x7fffffff;
    return bits <= 0x7f800000 ? bits : 0;
  };
  std::uint32_t most = 0, value = 0;
  for (int i = 0; i < n; ++i) most = std::max(most, magnitude_bits(i));
  for (int i = n - 1; i >= 0; --i) value = magnitude_bits(i) == most ? std::bit_cast<std::uint32_t>(x[i]) : value;
  return most != 0 ? std::bit_cast<float>(value) : 0.0f;
}

inline float sum_of_squares(const float* x, std::int64_t n) {
  float sum = 0;
  for (std::int64_t i = 0; i < n; ++i) sum += x[i] * x[i];
  return sum;
}

/// importance * sqrt(spread + x^2): how much an error of an element weighs. Returns their sum.
inline float weigh(const float* x, const float* importances, float spread, float* weights, int n) {
  float sum = 0;
  for (int i = 0; i < n; ++i) {
    weights[i] = importances[i] * std::sqrt(spread + x[i] * x[i]);
    sum += weights[i];
  }
  return sum;
}

/// x ~ scale * (level - half), levels 0 .. 2 half - 1: the scale with the least weighted squared error of 19, around that
/// which makes the extreme element -half. Weights are x^2 if null. Returns the scale.
inline float fit_symmetric(const float* x, const float* weights, std::uint8_t* levels, int n, int half) {
  const float peak = extreme(x, n);
  if (std::fabs(peak) < kNothing) {
    std::fill_n(levels, n, std::uint8_t{0});
    return 0;
  }
  struct Sums {
    float lx, l2;
  };
  const auto level = [&](float inverse, int i) { return limited(-half, nearest(inverse * x[i]), half - 1); };
  const auto sums = [&](float inverse) {
    Sums s{0, 0};
    for (int i = 0; i < n; ++i) {
      const float l = real(level(inverse, i)), w = weights != nullptr ? weights[i] : x[i] * x[i];
      s.lx += w * x[i] * l;
      s.l2 += w * l * l;
    }
    return s;
  };
  const auto keep = [&](float inverse) {
    for (int i = 0; i < n; ++i) levels[i] = static_cast<std::uint8_t>(half + level(inverse, i));
  };
  const float first = real(-half) / peak;
  const Sums start = sums(first);
  keep(first);
  float scale = start.l2 != 0 ? start.lx / start.l2 : 0.0f, best = scale * start.lx;
  for (int step = -9; step <= 9; ++step) {
    if (step == 0) continue;
    const float inverse = -(real(half) + 0.1f * real(step)) / peak;
    const Sums s = sums(inverse);
    if (!(s.l2 > 0 && s.lx * s.lx > best * s.l2)) continue;
    keep(inverse);
    scale = s.lx / s.l2;
    best = scale * s.lx;
  }
  return scale;
}

/// The same with weights x^2 and, instead of other scales, up to five rounds in which one level after the other moves
/// where that lessens the error (Q3_K).
inline float fit_by_moves(const float* x, std::uint8_t* levels, int n, int half) {
  const float peak = extreme(x, n);
  if (std::fabs(peak) < kNothing) {
    std::fill_n(levels, n, std::uint8_t{0});
    return 0;
  }
  const float inverse = real(-half) / peak;
  float sum_lx = 0, sum_l2 = 0;
  int signed_levels[32];
  for (int i = 0; i < n; ++i) {
    const int l = limited(-half, nearest(inverse * x[i]), half - 1);
    signed_levels[i] = l;
    const float w = x[i] * x[i];
    sum_lx += w * x[i] * real(l);
    sum_l2 += w * real(l) * real(l);
  }
  bool moved = true;
  for (int round = 0; round < 5 && moved; ++round) {
    moved = false;
    for (int i = 0; i < n; ++i) {
      const float w = x[i] * x[i], old = real(signed_levels[i]);
      float lx = sum_lx - w * x[i] * old;
      if (!(lx > 0)) continue;
      float l2 = sum_l2 - w * old * old;
      const int other = limited(-half, nearest(x[i] * l2 / lx), half - 1);
      if (other == signed_levels[i]) continue;
      lx += w * x[i] * real(other);
      l2 += w * real(other) * real(other);
      if (!(l2 > 0 && lx * lx * sum_l2 > sum_lx * sum_lx * l2)) continue;
      signed_levels[i] = other;
      sum_lx = lx;
      sum_l2 = l2;
      moved = true;
    }
  }
  for (int i = 0; i < n; ++i) levels[i] = static_cast<std::uint8_t>(signed_levels[i] + half);
  return sum_l2 > 0.0f ? sum_lx / sum_l2 : 0.0f;
}

/// x ~ scale * level - min, levels 0 .. top: candidates have top + first + step * k levels, k = 0 .. steps, between the
/// smallest element (0 at most) and the largest; each is refined by weighted least squares with its levels held.
struct AffineSearch {
  int top;
  float first, step;
  int steps;
  bool absolute = false;  // the error is of magnitudes, not of squares
};
struct AffineFit {
  float scale, min;
};
inline AffineFit fit_affine(const float* x, const float* weights, std::uint8_t* levels, int n,
                            const AffineSearch& search) {
  float low = x[0], high = x[0], sum_w = weights[0], sum_x = sum_w * x[0];
  for (int i = 1; i < n; ++i) {
    if (x[i] < low) low = x[i];
    if (x[i] > high) high = x[i];
    sum_w += weights[i];
    sum_x += weights[i] * x[i];
  }
  if (low > 0) low = 0;
  if (high <= low) {
    std::fill_n(levels, n, std::uint8_t{0});
    return {0, -low};
  }
  std::uint8_t tried[32];
  const auto level = [&](float inverse, int i) {
    return static_cast<std::uint8_t>(limited(0, nearest(inverse * (x[i] - low)), search.top));
  };
  const auto error_of = [&](const std::uint8_t* candidate, float scale, float lowest) {
    float error = 0;
    for (int i = 0; i < n; ++i) {
      const float off = scale * real(candidate[i]) + lowest - x[i];
      error += weights[i] * (search.absolute ? std::fabs(off) : off * off);
    }
    return error;
  };
  const float start = real(search.top) / (high - low);
  for (int i = 0; i < n; ++i) levels[i] = level(start, i);
  float scale = 1 / start, best = error_of(levels, scale, low);
  for (int k = 0; k <= search.steps; ++k) {
    // `low` is that of the best candidate so far, here and in level()
    const float inverse = (search.first + search.step * real(k) + real(search.top)) / (high - low);
    float sum_l = 0, sum_l2 = 0, sum_xl = 0;
    for (int i = 0; i < n; ++i) {
      tried[i] = level(inverse, i);
      const float l = real(tried[i]), w = weights[i];
      sum_l += w * l;
      sum_l2 += w * l * l;
      sum_xl += w * l * x[i];
    }
    const float determinant = sum_w * sum_l2 - sum_l * sum_l;
    if (!(determinant > 0)) continue;
    float this_scale = (sum_w * sum_xl - sum_x * sum_l) / determinant,
          this_low = (sum_l2 * sum_x - sum_l * sum_xl) / determinant;
    if (this_low > 0) {
      this_low = 0;
      this_scale = sum_xl / sum_l2;
    }
    const float error = error_of(tried, this_scale, this_low);
    if (!(error < best)) continue;
    std::copy_n(tried, n, levels);
    best = error;
    scale = this_scale;
    low = this_low;
  }
  return {scale, -low};
}

/// x ~ scale * level of values that are not negative, levels 0 .. top: nine scales, then moves as above. What is negative
/// all the same wraps.
inline float fit_positive(const float* x, const float* weights, std::uint8_t* levels, int n, int top) {
  float most = 0;
  for (int i = 0; i < n; ++i) most = most > x[i] ? most : x[i];
  if (most < kNothing) {
    std::fill_n(levels, n, std::uint8_t{0});
    return 0;
  }
  float inverse = real(top) / most;
  const float start = 1 / inverse;
  float best = 0;
  for (int i = 0; i < n; ++i) {
    levels[i] = static_cast<std::uint8_t>(nearest(inverse * x[i]));
    const float off = x[i] - start * real(levels[i]);
    best += weights[i] * off * off;
  }
  for (int step = -4; step <= 4; ++step) {
    if (step == 0) continue;
    const float candidate = (0.1f * real(step) + real(top)) / most, scale = 1 / candidate;
    float error = 0;
    for (int i = 0; i < n; ++i) {
      const float off = x[i] - scale * real(std::min(top, nearest(candidate * x[i])));
      error += weights[i] * off * off;
    }
    if (!(error < best)) continue;
    best = error;
    inverse = candidate;
  }
  float sum_lx = 0, sum_l2 = 0;
  for (int i = 0; i < n; ++i) {
    const int l = std::min(top, nearest(inverse * x[i]));
    levels[i] = static_cast<std::uint8_t>(l);
    sum_lx += weights[i] * x[i] * real(l);
    sum_l2 += weights[i] * real(l) * real(l);
  }
  bool moved = true;
  for (int round = 0; round < 5 && moved; ++round) {
    moved = false;
    for (int i = 0; i < n; ++i) {
      const float w = weights[i], old = real(levels[i]);
      float lx = sum_lx - w * x[i] * old, l2 = sum_l2 - w * old * old;
      if (!(lx > 0 && l2 > 0)) continue;
      const int other = std::min(top, nearest(x[i] * l2 / lx));
      if (other == levels[i]) continue;
      lx += w * x[i] * real(other);
      l2 += w * real(other) * real(other);
      if (!(lx * lx * sum_l2 > sum_lx * sum_lx * l2)) continue;
      levels[i] = static_cast<std::uint8_t>(other);
      sum_lx = lx;
      sum_l2 = l2;
      moved = true;
    }
  }
  return sum_l2 > 0.0f ? sum_lx / sum_l2 : 0.0f;
}

}  // namespace ropewalk::codecs
