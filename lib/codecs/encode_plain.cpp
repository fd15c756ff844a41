#include <array>
#include <cstring>

#include "lib/codecs/encoders.h"
#include "lib/codecs/fits.h"
#include "lib/codecs/lane_fits.h"
#include "lib/codecs/pack.h"
#include "lib/codecs/plain_types.h"
#include "lib/convert_simd.h"

namespace ropewalk::codecs {
namespace {

constexpr AffineSearch search_of(int top) { return {top, -0.9f, 0.05f, 36}; }

/// 32 levels of up to five bits, and the fifth ones at `fifth` where there are such.
void put_levels(const std::uint8_t* levels, std::byte* quarters, std::byte* fifth) {
  for (int i = 0; i < 16; ++i) quarters[i] = static_cast<std::byte>((levels[i] & 15) | (levels[i + 16] & 15) << 4);
  if (fifth == nullptr) return;
  std::uint32_t bits = 0;
  for (int i = 0; i < 32; ++i) bits |= (levels[i] >> 4 & 1u) << i;
  put_dword(fifth, bits);
}

/// Q4_0 and Q5_0: the extreme element becomes level 0, which is -half.
template <int half>
void encode_symmetric(const float* x, std::byte* block, std::byte* quarters, std::byte* fifth) {
  const float d = extreme(x, 32) / real(-half), inverse = d != 0 ? 1.0f / d : 0.0f;
  put_half(block, d);
  std::uint8_t levels[32];
  for (int i = 0; i < 32; ++i) {
    const auto l = static_cast<std::int8_t>(truncated(x[i] * inverse + (real(half) + 0.5f)));
    levels[i] = static_cast<std::uint8_t>(std::min<int>(2 * half - 1, l));
  }
  put_levels(levels, quarters, fifth);
}

/// Q4_1 and Q5_1: from the smallest element to the largest.
template <int top>
void encode_affine(const float* x, std::byte* block, std::byte* quarters, std::byte* fifth) {
  float low = std::numeric_limits<float>::max(), high = -low;
  for (int i = 0; i < 32; ++i) {
    if (x[i] < low) low = x[i];
    if (x[i] > high) high = x[i];
  }
  const float d = (high - low) / real(top), inverse = d != 0 ? 1.0f / d : 0.0f;
  put_half(block, d);
  put_half(block + 2, low);
  std::uint8_t levels[32];
  for (int i = 0; i < 32; ++i) {
    const int l = truncated((x[i] - low) * inverse + 0.5f);
    levels[i] = static_cast<std::uint8_t>(top == 15 ? std::min<int>(15, static_cast<std::int8_t>(l)) : l);
  }
  put_levels(levels, quarters, fifth);
}

// Not inlined, so that both encoders have one body: of two NaN an operation keeps the first, and which that is, the compiler
// chooses.
[[gnu::noinline]] float spread_of_row(const float* x, std::int64_t columns) {
  return sum_of_squares(x, columns) / static_cast<float>(columns);
}

/// One of the four with importances. `fifth` is where its fifth bits stand in a block, 0 for none.
template <class Type, int top, bool affine, int fifth>
[[gnu::noinline]] void encode_weighted(const float* x, const float* importances, float spread, std::byte* block) {
  std::fill_n(block, Type::kBytes, std::byte{0});
  float weights[32];
  std::uint8_t levels[32];
  weigh(x, importances, spread, weights, 32);
  if constexpr (affine) {
    const AffineFit fit = fit_affine(x, weights, levels, 32, search_of(top));
    put_half(block, fit.scale);
    put_half(block + 2, -fit.min);
  } else {
    put_half(block, fit_symmetric(x, weights, levels, 32, (top + 1) / 2));
  }
  put_levels(levels, block + Type::kBytes - 16, fifth != 0 ? block + fifth : nullptr);
}

/// A row, block by block.
template <class Type, int top, bool affine, int fifth>
void encode_row(const float* x, const float* importances, std::int64_t columns, std::byte* out) {
  const float spread = importances != nullptr ? spread_of_row(x, columns) : 0;
  for (std::int64_t at = 0; at < columns; at += 32, x += 32, out += Type::kBytes) {
    if (importances != nullptr) {
      encode_weighted<Type, top, affine, fifth>(x, importances + at, spread, out);
      continue;
    }
    std::fill_n(out, Type::kBytes, std::byte{0});
    std::byte *quarters = out + Type::kBytes - 16, *fifths = fifth != 0 ? out + fifth : nullptr;
    if constexpr (affine) encode_affine<top>(x, out, quarters, fifths);
    else encode_symmetric<(top + 1) / 2>(x, out, quarters, fifths);
  }
}

/// kLanes blocks of a row at once, whose importances are turned.
template <class Type, int top, bool affine, int fifth>
void encode_weighted_lanes(const float* x, const float* importances, const float* turned_importances, float spread,
                           int n_blocks, std::byte* out) {
  alignas(64) float turned[32 * kLanes], weights[32 * kLanes];
  turn(x, 32, n_blocks, turned);
  float spreads[kLanes];
  std::fill_n(spreads, kLanes, spread);
  weigh_lanes(turned, turned_importances, spreads, 32, weights, nullptr);
  float scales[kLanes], mins[kLanes];
  std::uint8_t all[32 * kLanes];
  std::uint32_t unsound;
  if constexpr (affine) unsound = fit_affine_lanes({turned, weights, 32}, search_of(top), scales, mins, all);
  else unsound = fit_symmetric_lanes({turned, weights, 32}, (top + 1) / 2, scales, all);
  std::uint8_t nibbles[16 * kLanes];
  std::uint32_t fifths[kLanes];
  pack_levels(all, nibbles, fifth != 0 ? fifths : nullptr);
  std::byte scale_codes[2 * kLanes], min_codes[2 * kLanes];  // no NaN among those that count
  simd::f32_to_f16(scales, scale_codes, kLanes);
  if constexpr (affine) {
    for (float& min : mins) min = -min;
    simd::f32_to_f16(mins, min_codes, kLanes);
  }
  for (int b = 0; b < n_blocks; ++b, out += Type::kBytes) {
    if ((unsound >> b & 1) != 0) {
      encode_weighted<Type, top, affine, fifth>(x + 32 * b, importances + 32 * b, spread, out);
      continue;
    }
    std::memcpy(out, scale_codes + 2 * b, 2);
    if constexpr (affine) std::memcpy(out + 2, min_codes + 2 * b, 2);
    if constexpr (fifth != 0) put_dword(out + fifth, fifths[b]);
    std::memcpy(out + Type::kBytes - 16, nibbles + 16 * b, 16);
  }
}

/// Rows side by side: sums over a whole row, each of which has to wait for the one before, do not wait for one another,
/// and importances are turned once.
template <class Type, int top, bool affine, int fifth>
void encode_weighted_rows(const float* x, const float* importances, std::int64_t columns, std::int64_t n_rows,
                          std::byte* out) {
  constexpr std::int64_t kRows = 16;
  for (; n_rows > 0; n_rows -= kRows, x += kRows * columns, out += kRows * (columns / 32 * Type::kBytes)) {
    const int here = static_cast<int>(std::min(kRows, n_rows));
    float spreads[kRows];
    sums_of_squares(x, columns, columns, here, spreads);
    for (int row = 0; row < here; ++row) {
      spreads[row] /= static_cast<float>(columns);
      if (std::isnan(spreads[row])) spreads[row] = spread_of_row(x + row * columns, columns);
    }
    for (std::int64_t at = 0; at < columns; at += 32 * kLanes) {
      const int n_blocks = static_cast<int>(std::min<std::int64_t>(kLanes, (columns - at) / 32));
      alignas(64) float turned[32 * kLanes];
      turn(importances + at, 32, n_blocks, turned);
      for (int row = 0; row < here; ++row)
        encode_weighted_lanes<Type, top, affine, fifth>(x + row * columns + at, importances + at, turned, spreads[row],
                                                        n_blocks, out + (row * columns + at) / 32 * Type::kBytes);
    }
  }
}

/// The level of E2M1, doubled, nearest to x at that scale; the first of several.
std::uint32_t nearest_e2m1(float x, float scale) {
  std::uint32_t best = 0;
  float least = std::fabs(real(doubled_e2m1(0)) * scale - x);
  for (int code = 1; code < 16; ++code) {
    const float off = std::fabs(real(doubled_e2m1(code)) * scale - x);
    if (off < least) best = static_cast<std::uint32_t>(code), least = off;
  }
  return best;
}

/// round(x) to an int where a long holds it, else 0: what lroundf gives of infinities and NaN on x86-64, cut to an int.
int rounded(float x) { return std::fabs(x) < 0x1p31f ? static_cast<int>(std::lround(x)) : 0; }

float largest(const float* x, int n) {
  float most = 0;
  for (int i = 0; i < n; ++i) most = most > std::fabs(x[i]) ? most : std::fabs(x[i]);
  return most;
}

}  // namespace

void encode_q4_0(const float* x, const float* importances, std::int64_t columns, std::byte* out) {
  encode_row<Q4_0, 15, false, 0>(x, importances, columns, out);
}
void encode_q4_0_weighted_rows(const float* x, const float* importances, std::int64_t columns, std::int64_t n_rows,
                               std::byte* out) {
  encode_weighted_rows<Q4_0, 15, false, 0>(x, importances, columns, n_rows, out);
}
void encode_q4_1(const float* x, const float* importances, std::int64_t columns, std::byte* out) {
  encode_row<Q4_1, 15, true, 0>(x, importances, columns, out);
}
void encode_q4_1_weighted_rows(const float* x, const float* importances, std::int64_t columns, std::int64_t n_rows,
                               std::byte* out) {
  encode_weighted_rows<Q4_1, 15, true, 0>(x, importances, columns, n_rows, out);
}
void encode_q5_0(const float* x, const float* importances, std::int64_t columns, std::byte* out) {
  encode_row<Q5_0, 31, false, 2>(x, importances, columns, out);
}
void encode_q5_0_weighted_rows(const float* x, const float* importances, std::int64_t columns, std::int64_t n_rows,
                               std::byte* out) {
  encode_weighted_rows<Q5_0, 31, false, 2>(x, importances, columns, n_rows, out);
}
void encode_q5_1(const float* x, const float* importances, std::int64_t columns, std::byte* out) {
  encode_row<Q5_1, 31, true, 4>(x, importances, columns, out);
}
void encode_q5_1_weighted_rows(const float* x, const float* importances, std::int64_t columns, std::int64_t n_rows,
                               std::byte* out) {
  encode_weighted_rows<Q5_1, 31, true, 4>(x, importances, columns, n_rows, out);
}

void encode_q1_0(const float* x, const float*, std::int64_t columns, std::byte* out) {
  for (std::int64_t at = 0; at < columns; at += 128, x += 128, out += Q1_0::kBytes) {
    std::fill_n(out, Q1_0::kBytes, std::byte{0});
    float sum = 0;
    for (int i = 0; i < 128; ++i) sum += std::fabs(x[i]);
    put_half(out, sum / 128);
    for (int i = 0; i < 128; ++i) add_bits(out[2 + i / 8], (x[i] >= 0.0f ? 1u : 0u) << i % 8);
  }
}

void encode_q2_0(const float* x, const float*, std::int64_t columns, std::byte* out) {
  for (std::int64_t at = 0; at < columns; at += 64, x += 64, out += Q2_0::kBytes) {
    std::fill_n(out, Q2_0::kBytes, std::byte{0});
    const float d = std::fabs(extreme(x, 64)), inverse = d > 0.0f ? 1.0f / d : 0.0f;
    put_half(out, d);
    for (int i = 0; i < 64; ++i) {
      const int level = limited(0, truncated(std::round(x[i] * inverse)) + 1, 3);
      add_bits(out[2 + i / 4], static_cast<std::uint32_t>(level) << i % 4 * 2);
    }
  }
}

void encode_tq1_0(const float* x, const float*, std::int64_t columns, std::byte* out) {
  for (std::int64_t at = 0; at < columns; at += 256, x += 256, out += Tq1_0::kBytes) {
    const float d = largest(x, 256), inverse = d != 0 ? 1.0f / d : 0.0f;
    put_half(out + 52, d);
    // `n` bytes from `first` on take `digits` elements each, `n` apart; four digits stand as five whose last is 0
    const auto put = [&](int first, int n, int digits, const float* from) {
      for (int i = 0; i < n; ++i) {
        std::uint8_t code = 0;
        for (int k = 0; k < 5; ++k)
          code = static_cast<std::uint8_t>(3 * code + (k < digits ? rounded(from[i + k * n] * inverse) + 1 : 0));
        out[first + i] = static_cast<std::byte>((code * 256 + 242) / 243);  // upwards
      }
    };
    put(0, 32, 5, x);
    put(32, 16, 5, x + 160);
    put(48, 4, 4, x + 240);
  }
}

void encode_tq2_0(const float* x, const float*, std::int64_t columns, std::byte* out) {
  for (std::int64_t at = 0; at < columns; at += 256, x += 256, out += Tq2_0::kBytes) {
    std::fill_n(out, Tq2_0::kBytes, std::byte{0});
    const float d = largest(x, 256), inverse = d != 0 ? 1.0f / d : 0.0f;
    put_half(out + 64, d);
    for (int i = 0; i < 256; ++i) put_two_bits(out, i, static_cast<std::uint32_t>(rounded(x[i] * inverse) + 1));
  }
}

void encode_mxfp4(const float* x, const float*, std::int64_t columns, std::byte* out) {
  for (std::int64_t at = 0; at < columns; at += 32, x += 32, out += Mxfp4::kBytes) {
    std::fill_n(out, Mxfp4::kBytes, std::byte{0});
    const float most = std::fabs(extreme(x, 32));
    // log2f is the double's, rounded: just below a power of two it is that power's
    const auto log2 = static_cast<float>(std::log2(static_cast<double>(most)));
    const std::uint32_t e = most > 0.0f ? static_cast<std::uint8_t>(truncated(std::floor(log2) - 2 + 127)) : 0;
    out[0] = static_cast<std::byte>(e);
    for (int i = 0; i < 32; ++i) put_nibble(out + 1, i, 16, nearest_e2m1(x[i], Mxfp4::halved_power(e)));
  }
}

void encode_nvfp4(const float* x, const float*, std::int64_t columns, std::byte* out) {
  for (std::int64_t at = 0; at < columns; at += 64, x += 64, out += Nvfp4::kBytes) {
    std::fill_n(out, Nvfp4::kBytes, std::byte{0});
    for (int group = 0; group < 4; ++group) {
      const float* of_group = x + 16 * group;
      const std::uint32_t code = narrow_ue4m3(std::fabs(extreme(of_group, 16)) / 6.0f);
      out[group] = static_cast<std::byte>(code);
      for (int i = 0; i < 16; ++i)
        put_nibble(out + 4 + 8 * group, i, 8, nearest_e2m1(of_group[i], Nvfp4::halved_ue4m3(code)));
    }
  }
}

}  // namespace ropewalk::codecs
