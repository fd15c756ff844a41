#include <optional>

#include "lib/codecs/encoders.h"
#include "lib/codecs/k_blocks.h"
#include "lib/codecs/lane_fits.h"

// The encoders of encode_k.cpp with the fits of 32 groups at once: two blocks of Q2_K, Q3_K and Q6_K, four of Q4_K and
// Q5_K. Levels of the fits are not kept: where they count, behind a stored scale of 0,
// the group is fitted once more, alone. Blocks with a group in which the lanes' rounding is unsound are the definition's.
namespace ropewalk::codecs {
namespace {

struct LaneFits {
  float scales[kLanes], mins[kLanes], sums[kLanes];
  std::uint32_t unsound;
};
struct Turned {
  alignas(64) float x[32 * kLanes], weights[32 * kLanes];
};

/// Blocks that fill all lanes.
template <class Type>
constexpr int kFull = kLanes* Type::kGroup / 256;

template <class Type>
constexpr RowEncoder* kDefinition = std::is_same_v<Type, Q2K>   ? encode_q2_k
                                    : std::is_same_v<Type, Q3K> ? encode_q3_k
                                    : std::is_same_v<Type, Q4K> ? encode_q4_k
                                    : std::is_same_v<Type, Q5K> ? encode_q5_k
                                                                : encode_q6_k;

/// The fits of up to kLanes groups, those of n_blocks blocks.
template <class Type>
void fit(const float* x, const float* importances, int n_blocks, LaneFits& fits) {
  constexpr int n = Type::kGroup, per_block = 256 / n;
  Turned in;
  turn(x, n, n_blocks * per_block, in.x);
  if (importances != nullptr) {
    turn(importances, n, n_blocks * per_block, in.weights);
    if constexpr (!std::is_same_v<Type, Q6K>) {
      float of_blocks[4], spreads[kLanes] = {};
      sums_of_squares(x, 256, n_blocks, of_blocks);
      for (int group = 0; group < n_blocks * per_block; ++group)
        spreads[group] = spread_from<Type>(of_blocks[group / per_block]);
      weigh_lanes(in.x, in.weights, spreads, n, in.weights, fits.sums);
    }
  } else if constexpr (std::is_same_v<Type, Q6K>) {
    square_lanes(in.x, n, in.weights);
  } else {
    weigh_lanes(in.x, n, !std::is_same_v<Type, Q2K>, in.weights);
  }
  const LaneGroups groups{in.x, in.weights, n};
  if constexpr (kLowest<Type> < 0) fits.unsound = fit_symmetric_lanes(groups, -kLowest<Type>, fits.scales);
  else fits.unsound = fit_affine_lanes(groups, affine_search<Type>(importances != nullptr), fits.scales, fits.mins);
}

/// Levels at the stored scales; those of the fits where such a scale is 0.
template <class Type>
void put_levels(const float* x, const float* importances, std::byte* block) {
  constexpr int n = Type::kGroup;
  StoredScales stored;
  for (int group = 0; group < 256 / n; ++group) {
    const Affine scale = stored_scale<Type>(block, group);
    stored.d[group] = scale.d;
    stored.m[group] = scale.m;
  }
  std::uint8_t levels[256];
  take_levels(x, stored, n, kLowest<Type>, kHighest<Type>, levels);
  std::optional<float> spread;
  for (int group = 0; group < 256 / n; ++group) {
    if (stored.d[group] != 0) continue;
    if (!spread) spread = importances != nullptr ? spread_of<Type>(x) : 0;
    float unused;
    fit_group<Type>(x + n * group, importances != nullptr ? importances + n * group : nullptr, *spread,
                    levels + n * group, unused);
  }
  pack_levels<Type>(levels, block);
}

/// A block whose groups have been fitted.
template <class Type>
void put_block(const float* x, const float* importances, const GroupFits& fits, std::byte* block) {
  std::fill_n(block, Type::kBytes, std::byte{0});
  if (put_scales<Type>(fits, importances != nullptr, block)) put_levels<Type>(x, importances, block);
}

template <class Type>
void encode_row(const float* x, const float* importances, std::int64_t columns, std::byte* out) {
  constexpr int per_block = 256 / Type::kGroup;
  for (std::int64_t at = 0; at < columns; at += 256 * kFull<Type>) {
    const int n_blocks = static_cast<int>(std::min<std::int64_t>(kFull<Type>, (columns - at) / 256));
    LaneFits batch = {};
    fit<Type>(x + at, importances != nullptr ? importances + at : nullptr, n_blocks, batch);
    for (int b = 0; b < n_blocks; ++b, out += Type::kBytes) {
      const float *of_block = x + at + 256 * b,
                  *weights = importances != nullptr ? importances + at + 256 * b : nullptr;
      const int first = b * per_block;
      if ((batch.unsound >> first & ((1u << per_block) - 1)) != 0) {
        kDefinition<Type>(of_block, weights, 256, out);
        continue;
      }
      GroupFits fits;
      std::copy_n(batch.scales + first, per_block, fits.scales);
      std::copy_n(batch.mins + first, per_block, fits.mins);
      std::copy_n(batch.sums + first, per_block, fits.sums);
      put_block<Type>(of_block, weights, fits, out);
    }
  }
}

/// Q3_K without importances.
void encode_q3_k_moving(const float* x, std::int64_t columns, std::byte* out) {
  constexpr int kBlocks = 64;
  for (std::int64_t at = 0; at < columns; at += 256 * kBlocks) {
    const int n_blocks = static_cast<int>(std::min<std::int64_t>(kBlocks, (columns - at) / 256));
    float scales[16 * kBlocks];
    fit_by_moves_lanes(x + at, 16 * n_blocks, scales);
    for (int b = 0; b < n_blocks; ++b, out += Q3K::kBytes) {
      GroupFits fits;
      std::copy_n(scales + 16 * b, 16, fits.scales);
      put_block<Q3K>(x + at + 256 * b, nullptr, fits, out);
    }
  }
}

}  // namespace

void encode_q2_k_lanes(const float* x, const float* importances, std::int64_t columns, std::byte* out) {
  encode_row<Q2K>(x, importances, columns, out);
}
void encode_q3_k_lanes(const float* x, const float* importances, std::int64_t columns, std::byte* out) {
  if (importances == nullptr) encode_q3_k_moving(x, columns, out);
  else encode_row<Q3K>(x, importances, columns, out);
}
void encode_q4_k_lanes(const float* x, const float* importances, std::int64_t columns, std::byte* out) {
  encode_row<Q4K>(x, importances, columns, out);
}
void encode_q5_k_lanes(const float* x, const float* importances, std::int64_t columns, std::byte* out) {
  encode_row<Q5K>(x, importances, columns, out);
}
void encode_q6_k_lanes(const float* x, const float* importances, std::int64_t columns, std::byte* out) {
  encode_row<Q6K>(x, importances, columns, out);
}

}  // namespace ropewalk::codecs
