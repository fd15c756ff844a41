#pragma once

#include <type_traits>

#include "lib/codecs/fits.h"
#include "lib/codecs/k_types.h"
#include "lib/codecs/pack.h"

// What becomes of the groups' fits in a block of a K type, whichever way they were found: their scales quantized, the levels
// taken again at the scales as stored, the fields written. Blocks are zero before.
namespace ropewalk::codecs {

/// Of the 8 or 16 groups of a block. sums: of their weights, where there are importances.
struct GroupFits {
  const float *scales, *mins, *sums;
};

/// Levels of a group at its stored scale; a scale of 0 leaves those of the fit.
inline void take_again(const float* x, Affine stored, std::uint8_t* levels, int n, int low, int high) {
  if (stored.d == 0) return;
  for (int i = 0; i < n; ++i)
    levels[i] = static_cast<std::uint8_t>(limited(low, nearest((x[i] + stored.m) / stored.d), high) - low);
}

inline float largest_positive(const float* x, int n) {
  float most = 0;
  for (int i = 0; i < n; ++i)
    if (x[i] > most) most = x[i];
  return most;
}

inline void put_scales_q2_k(const GroupFits& fits, bool weighted, std::byte* block) {
  std::uint8_t scale_levels[16] = {}, min_levels[16] = {};
  if (weighted) {
    put_half(block + 80, fit_positive(fits.scales, fits.sums, scale_levels, 16, 15));
    put_half(block + 82, fit_positive(fits.mins, fits.sums, min_levels, 16, 15));
  } else {
    const auto put = [&](const float* values, std::uint8_t* out, std::byte* half) {
      const float most = largest_positive(values, 16);
      put_half(half, most > 0 ? most / 15.0f : 0.0f);
      for (int group = 0; group < 16 && most > 0; ++group)
        out[group] = static_cast<std::uint8_t>(nearest(15.0f / most * values[group]));
    };
    put(fits.scales, scale_levels, block + 80);
    put(fits.mins, min_levels, block + 82);
  }
  for (int group = 0; group < 16; ++group)
    block[group] = static_cast<std::byte>(scale_levels[group] | min_levels[group] << 4);
}

inline void put_scale_levels_q3_k(const std::uint8_t* levels, std::byte* block) {
  // Eight nibbles below, eight above, and pairs of top bits four by four: as many bytes at once.
  std::uint64_t low, high;
  std::memcpy(&low, levels, 8);
  std::memcpy(&high, levels + 8, 8);
  constexpr std::uint64_t kNibbles = 0x0f0f0f0f0f0f0f0f, kPairs = 0x0303030303030303;
  const std::uint64_t nibbles = (low & kNibbles) | (high & kNibbles) << 4,
                      fours[2] = {low >> 4 & kPairs, high >> 4 & kPairs};
  std::memcpy(block + 96, &nibbles, 8);
  std::uint32_t pairs[4], top = 0;
  std::memcpy(pairs, fours, 16);
  for (int k = 0; k < 4; ++k) top |= pairs[k] << 2 * k;
  std::memcpy(block + 104, &top, 4);
}
inline void put_scales_q3_k(const GroupFits& fits, bool weighted, std::byte* block) {
  std::uint8_t scale_levels[16] = {};
  if (weighted) {
    put_half(block + 108, fit_symmetric(fits.scales, fits.sums, scale_levels, 16, 32));
  } else if (const float peak = extreme(fits.scales, 16); peak != 0) {
    const float inverse = -32.0f / peak;
    for (int group = 0; group < 16; ++group) {
      const auto wrapped = static_cast<std::int8_t>(nearest(inverse * fits.scales[group]));
      scale_levels[group] = static_cast<std::uint8_t>(limited(-32, wrapped, 31) + 32);
    }
    put_half(block + 108, 1 / inverse);
  }
  put_scale_levels_q3_k(scale_levels, block);
}

/// Q4_K and Q5_K, whose highest level is `top`.
inline void put_scales_q4_k(const GroupFits& fits, bool weighted, int top, std::byte* block) {
  std::uint8_t scale_levels[8], min_levels[8];
  if (weighted) {
    put_half(block, fit_positive(fits.scales, fits.sums, scale_levels, 8, 63));
    put_half(block + 2, fit_positive(fits.mins, fits.sums, min_levels, 8, 63));
  } else {
    const auto put = [&](const float* values, std::uint8_t* out, std::byte* half) {
      const float most = largest_positive(values, 8), inverse = most > 0 ? 63.0f / most : 0.0f;
      put_half(half, most / 63.0f);
      for (int group = 0; group < 8; ++group)  // wraps before it is limited
        out[group] = std::min<std::uint8_t>(63, static_cast<std::uint8_t>(nearest(inverse * values[group])));
    };
    put(fits.scales, scale_levels, block);
    put(fits.mins, min_levels, block + 2);
  }
  const bool limits = weighted && top == 31;  // Q5_K with importances limits again, Q4_K does not
  for (int group = 0; group < 8; ++group) {
    if (limits) {
      scale_levels[group] = std::min<std::uint8_t>(63, scale_levels[group]);
      min_levels[group] = std::min<std::uint8_t>(63, min_levels[group]);
    }
    put_scale_and_min(block + 4, group, scale_levels[group], min_levels[group]);
  }
}

/// False where all scales are as good as 0, and the block stays zero.
inline bool put_scales_q6_k(const GroupFits& fits, std::byte* block) {
  const float peak = extreme(fits.scales, 16);
  if (std::fabs(peak) < kNothing) return false;
  const float inverse = -128.0f / peak;
  put_half(block + 208, 1 / inverse);
  for (int group = 0; group < 16; ++group)
    block[192 + group] = static_cast<std::byte>(std::min(127, nearest(inverse * fits.scales[group])));
  return true;
}

// 256 levels as they are stored.
inline void pack_two_bits(const std::uint8_t* levels, std::byte* out) {
  for (int h = 0; h < 2; ++h)
    for (int l = 0; l < 32; ++l) {
      const std::uint8_t* at = levels + 128 * h + l;
      out[32 * h + l] = static_cast<std::byte>((at[0] & 3) | (at[32] & 3) << 2 | (at[64] & 3) << 4 | (at[96] & 3) << 6);
    }
}
inline void pack_four_bits(const std::uint8_t* levels, std::byte* out) {
  for (int h = 0; h < 4; ++h)
    for (int l = 0; l < 32; ++l) {
      const std::uint8_t* at = levels + 64 * h + l;
      out[32 * h + l] = static_cast<std::byte>((at[0] & 15) | (at[32] & 15) << 4);
    }
}
/// Bit `bit` of each level, which is its highest.
inline void pack_top_bits(const std::uint8_t* levels, int bit, std::byte* out) {
  for (int l = 0; l < 32; ++l) {
    std::uint32_t bits = 0;
    for (int k = 0; k < 8; ++k) bits |= (levels[32 * k + l] >> bit & 1u) << k;
    out[l] = static_cast<std::byte>(bits);
  }
}
inline void pack_q6_k(const std::uint8_t* levels, std::byte* block) {
  std::uint8_t high[256];
  for (int i = 0; i < 256; ++i) high[i] = levels[i] >> 4;
  for (int h = 0; h < 2; ++h)
    for (int l = 0; l < 64; ++l) {
      const std::uint8_t* at = levels + 128 * h + l;
      block[64 * h + l] = static_cast<std::byte>((at[0] & 15) | (at[64] & 15) << 4);
    }
  pack_two_bits(high, block + 128);
}

/// The lowest level of a K type as a signed number.
template <class Type>
inline constexpr int kLowest = std::is_same_v<Type, Q3K>   ? -4
                               : std::is_same_v<Type, Q6K> ? -32
                                                           : 0;
template <class Type>
inline constexpr int kHighest = kLowest<Type> < 0 ? -kLowest<Type> - 1 : static_cast<int>(Type::kLargest);

/// What a group's levels are multiplied by and lessened by, as stored.
template <class Type>
Affine stored_scale(const std::byte* block, int group) {
  if constexpr (kLowest<Type> < 0) return {Type::scale(block, group), 0};
  else return Type::scale(block, group);
}

template <class Type>
void pack_levels(const std::uint8_t* levels, std::byte* block) {
  if constexpr (std::is_same_v<Type, Q2K>) pack_two_bits(levels, block + 16);
  if constexpr (std::is_same_v<Type, Q3K>) pack_top_bits(levels, 2, block), pack_two_bits(levels, block + 32);
  if constexpr (std::is_same_v<Type, Q4K>) pack_four_bits(levels, block + 16);
  if constexpr (std::is_same_v<Type, Q5K>) pack_top_bits(levels, 4, block + 16), pack_four_bits(levels, block + 48);
  if constexpr (std::is_same_v<Type, Q6K>) pack_q6_k(levels, block);
}

/// The plain search of a K type, and that with importances.
template <class Type>
constexpr AffineSearch affine_search(bool weighted) {
  constexpr int top = static_cast<int>(Type::kLargest);
  if (weighted) return {top, -0.9f, 0.05f, 36};
  if constexpr (std::is_same_v<Type, Q2K>) return {top, -0.5f, 0.1f, 15, true};
  if constexpr (std::is_same_v<Type, Q4K>) return {top, -1.0f, 0.1f, 20};
  return {top, -0.5f, 0.1f, 15};
}

/// Part of what an error weighs with importances (weigh()), from the sum of a block's squares.
template <class Type>
float spread_from(float sum) {
  return (std::is_same_v<Type, Q2K> ? 1 : 2) * sum / 256;
}
template <class Type>
float spread_of(const float* x) {
  return spread_from<Type>(sum_of_squares(x, 256));
}

/// The fit of one group: of fits.h, with the weights of its type. `spread`: spread_of(), with importances.
template <class Type>
AffineFit fit_group(const float* x, const float* importances, float spread, std::uint8_t* levels, float& sum) {
  constexpr int n = Type::kGroup;
  float weights[n];
  if (importances != nullptr && !std::is_same_v<Type, Q6K>) sum = weigh(x, importances, spread, weights, n);
  if constexpr (std::is_same_v<Type, Q6K>) return {fit_symmetric(x, importances, levels, n, 32), 0};
  else if constexpr (std::is_same_v<Type, Q3K>)
    return {importances != nullptr ? fit_symmetric(x, weights, levels, n, 4) : fit_by_moves(x, levels, n, 4), 0};
  if (importances == nullptr) {
    const float mean = std::is_same_v<Type, Q2K> ? 0 : std::sqrt(sum_of_squares(x, n) / n);
    for (int i = 0; i < n; ++i) weights[i] = mean + std::fabs(x[i]);
  }
  return fit_affine(x, weights, levels, n, affine_search<Type>(importances != nullptr));
}

/// False where the block stays zero.
template <class Type>
bool put_scales(const GroupFits& fits, bool weighted, std::byte* block) {
  if constexpr (std::is_same_v<Type, Q2K>) put_scales_q2_k(fits, weighted, block);
  else if constexpr (std::is_same_v<Type, Q3K>) put_scales_q3_k(fits, weighted, block);
  else if constexpr (std::is_same_v<Type, Q6K>) return put_scales_q6_k(fits, block);
  else put_scales_q4_k(fits, weighted, static_cast<int>(Type::kLargest), block);
  return true;
}

}  // namespace ropewalk::codecs
