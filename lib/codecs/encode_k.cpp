#include "lib/codecs/encoders.h"
#include "lib/codecs/fits.h"
#include "lib/codecs/k_types.h"
#include "lib/codecs/pack.h"

// Each encoder fits every group alone, then the groups' scales, and last takes the levels again at the scales as stored.
namespace ropewalk::codecs {
namespace {

/// Levels of a group at its stored scale; a scale of 0 leaves those of the fit.
void take_again(const float* x, Affine stored, std::uint8_t* levels, int n, int low, int high) {
  if (stored.d == 0) return;
  for (int i = 0; i < n; ++i)
    levels[i] = static_cast<std::uint8_t>(limited(low, nearest((x[i] + stored.m) / stored.d), high) - low);
}

float largest_positive(const float* x, int n) {
  float most = 0;
  for (int i = 0; i < n; ++i)
    if (x[i] > most) most = x[i];
  return most;
}

void encode_q2_k_block(const float* x, const float* importances, std::byte* block) {
  std::uint8_t levels[256], scale_levels[16] = {}, min_levels[16] = {};
  float weights[16], scales[16], mins[16], sums[16];
  const float spread = importances != nullptr ? sum_of_squares(x, 256) / 256 : 0;
  for (int group = 0; group < 16; ++group) {
    const float* of_group = x + 16 * group;
    AffineSearch search{3, -0.5f, 0.1f, 15, true};
    if (importances != nullptr) {
      sums[group] = weigh(of_group, importances + 16 * group, spread, weights, 16);
      search = {3, -0.9f, 0.05f, 36};
    } else {
      for (int i = 0; i < 16; ++i) weights[i] = std::fabs(of_group[i]);
    }
    const AffineFit fit = fit_affine(of_group, weights, levels + 16 * group, 16, search);
    scales[group] = fit.scale;
    mins[group] = fit.min;
  }
  if (importances != nullptr) {
    put_half(block + 80, fit_positive(scales, sums, scale_levels, 16, 15));
    put_half(block + 82, fit_positive(mins, sums, min_levels, 16, 15));
  } else {
    const auto put = [&](const float* values, std::uint8_t* out, std::byte* half) {
      const float most = largest_positive(values, 16);
      put_half(half, most > 0 ? most / 15.0f : 0.0f);
      for (int group = 0; group < 16 && most > 0; ++group)
        out[group] = static_cast<std::uint8_t>(nearest(15.0f / most * values[group]));
    };
    put(scales, scale_levels, block + 80);
    put(mins, min_levels, block + 82);
  }
  for (int group = 0; group < 16; ++group) {
    block[group] = static_cast<std::byte>(scale_levels[group] | min_levels[group] << 4);
    take_again(x + 16 * group, Q2K::scale(block, group), levels + 16 * group, 16, 0, 3);
  }
  for (int i = 0; i < 256; ++i) put_two_bits(block + 16, i, levels[i]);
}

void encode_q3_k_block(const float* x, const float* importances, std::byte* block) {
  std::uint8_t levels[256], scale_levels[16] = {};
  float weights[16], scales[16], sums[16];
  const float spread = importances != nullptr ? 2 * sum_of_squares(x, 256) / 256 : 0;
  for (int group = 0; group < 16; ++group) {
    const float* of_group = x + 16 * group;
    if (importances == nullptr) {
      scales[group] = fit_by_moves(of_group, levels + 16 * group, 16, 4);
      continue;
    }
    sums[group] = weigh(of_group, importances + 16 * group, spread, weights, 16);
    scales[group] = fit_symmetric(of_group, weights, levels + 16 * group, 16, 4);
  }
  if (importances != nullptr) {
    put_half(block + 108, fit_symmetric(scales, sums, scale_levels, 16, 32));
  } else if (const float peak = extreme(scales, 16); peak != 0) {
    const float inverse = -32.0f / peak;
    for (int group = 0; group < 16; ++group) {
      const auto wrapped = static_cast<std::int8_t>(nearest(inverse * scales[group]));
      scale_levels[group] = static_cast<std::uint8_t>(limited(-32, wrapped, 31) + 32);
    }
    put_half(block + 108, 1 / inverse);
  }
  for (int group = 0; group < 16; ++group) {
    put_nibble(block + 96, group, 8, scale_levels[group]);
    add_bits(block[104 + group % 4], (scale_levels[group] >> 4 & 3u) << group / 4 * 2);
  }
  for (int group = 0; group < 16; ++group)
    take_again(x + 16 * group, {Q3K::scale(block, group), 0}, levels + 16 * group, 16, -4, 3);
  for (int i = 0; i < 256; ++i) {
    put_top_bit(block, i, levels[i] >> 2);
    put_two_bits(block + 32, i, levels[i]);
  }
}

/// Q4_K and Q5_K: scales and mins of eight groups of 32, and the levels.
void fit_scales_and_mins(const float* x, const float* importances, const AffineSearch& plain, std::byte* block,
                         std::uint8_t* levels) {
  std::uint8_t scale_levels[8], min_levels[8];
  float weights[32], scales[8], mins[8], sums[8];
  const AffineSearch search = importances != nullptr ? AffineSearch{plain.top, -0.9f, 0.05f, 36} : plain;
  const float spread = importances != nullptr ? 2 * sum_of_squares(x, 256) / 256 : 0;
  for (int group = 0; group < 8; ++group) {
    const float* of_group = x + 32 * group;
    if (importances != nullptr) {
      sums[group] = weigh(of_group, importances + 32 * group, spread, weights, 32);
    } else {
      const float mean = std::sqrt(sum_of_squares(of_group, 32) / 32);
      for (int i = 0; i < 32; ++i) weights[i] = mean + std::fabs(of_group[i]);
    }
    const AffineFit fit = fit_affine(of_group, weights, levels + 32 * group, 32, search);
    scales[group] = fit.scale;
    mins[group] = fit.min;
  }
  if (importances != nullptr) {
    put_half(block, fit_positive(scales, sums, scale_levels, 8, 63));
    put_half(block + 2, fit_positive(mins, sums, min_levels, 8, 63));
  } else {
    const auto put = [&](const float* values, std::uint8_t* out, std::byte* half) {
      const float most = largest_positive(values, 8), inverse = most > 0 ? 63.0f / most : 0.0f;
      put_half(half, most / 63.0f);
      for (int group = 0; group < 8; ++group)  // wraps before it is limited
        out[group] = std::min<std::uint8_t>(63, static_cast<std::uint8_t>(nearest(inverse * values[group])));
    };
    put(scales, scale_levels, block);
    put(mins, min_levels, block + 2);
  }
  const bool limits = importances != nullptr && plain.top == 31;  // Q5_K with importances limits again, Q4_K does not
  for (int group = 0; group < 8; ++group) {
    if (limits) {
      scale_levels[group] = std::min<std::uint8_t>(63, scale_levels[group]);
      min_levels[group] = std::min<std::uint8_t>(63, min_levels[group]);
    }
    put_scale_and_min(block + 4, group, scale_levels[group], min_levels[group]);
  }
  for (int group = 0; group < 8; ++group)
    take_again(x + 32 * group, Q4K::scale(block, group), levels + 32 * group, 32, 0, plain.top);
}

void encode_q4_k_block(const float* x, const float* importances, std::byte* block) {
  std::uint8_t levels[256];
  fit_scales_and_mins(x, importances, {15, -1.0f, 0.1f, 20}, block, levels);
  for (int i = 0; i < 256; ++i) put_four_bits(block + 16, i, levels[i]);
}

void encode_q5_k_block(const float* x, const float* importances, std::byte* block) {
  std::uint8_t levels[256];
  fit_scales_and_mins(x, importances, {31, -0.5f, 0.1f, 15}, block, levels);
  for (int i = 0; i < 256; ++i) {
    put_top_bit(block + 16, i, levels[i] >> 4);
    put_four_bits(block + 48, i, levels[i]);
  }
}

void encode_q6_k_block(const float* x, const float* importances, std::byte* block) {
  std::uint8_t levels[256];
  float scales[16];
  for (int group = 0; group < 16; ++group)
    scales[group] = fit_symmetric(x + 16 * group, importances != nullptr ? importances + 16 * group : nullptr,
                                  levels + 16 * group, 16, 32);
  const float peak = extreme(scales, 16);
  if (std::fabs(peak) < kNothing) return;
  const float inverse = -128.0f / peak;
  put_half(block + 208, 1 / inverse);
  for (int group = 0; group < 16; ++group) {
    block[192 + group] = static_cast<std::byte>(std::min(127, nearest(inverse * scales[group])));
    take_again(x + 16 * group, {Q6K::scale(block, group), 0}, levels + 16 * group, 16, -32, 31);
  }
  for (int i = 0; i < 256; ++i) {
    put_nibble(block + i / 128 * 64, i % 128, 64, levels[i]);
    put_two_bits(block + 128, i, levels[i] >> 4);
  }
}

template <class Type>
void encode_row(void (*encode_block)(const float*, const float*, std::byte*), const float* x, const float* importances,
                std::int64_t columns, std::byte* out) {
  for (std::int64_t at = 0; at < columns; at += 256, out += Type::kBytes) {
    std::fill_n(out, Type::kBytes, std::byte{0});
    encode_block(x + at, importances != nullptr ? importances + at : nullptr, out);
  }
}

}  // namespace

void encode_q2_k(const float* x, const float* importances, std::int64_t columns, std::byte* out) {
  encode_row<Q2K>(encode_q2_k_block, x, importances, columns, out);
}
void encode_q3_k(const float* x, const float* importances, std::int64_t columns, std::byte* out) {
  encode_row<Q3K>(encode_q3_k_block, x, importances, columns, out);
}
void encode_q4_k(const float* x, const float* importances, std::int64_t columns, std::byte* out) {
  encode_row<Q4K>(encode_q4_k_block, x, importances, columns, out);
}
void encode_q5_k(const float* x, const float* importances, std::int64_t columns, std::byte* out) {
  encode_row<Q5K>(encode_q5_k_block, x, importances, columns, out);
}
void encode_q6_k(const float* x, const float* importances, std::int64_t columns, std::byte* out) {
  encode_row<Q6K>(encode_q6_k_block, x, importances, columns, out);
}

}  // namespace ropewalk::codecs
