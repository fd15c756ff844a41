#include <cstring>
#include <optional>

#include "lib/codecs/encoders.h"
#include "lib/codecs/k_blocks.h"
#include "lib/codecs/lane_fits.h"

// The encoders of encode_k.cpp with the fits of 32 groups at once: two blocks of Q2_K, Q3_K and Q6_K, four of Q4_K and
// Q5_K. What is summed or fitted for each block is done for all of a batch side by side, too. Levels of the fits are not
// kept: where they count, behind a stored scale of 0, the group is fitted once more, alone. Blocks with a group in which
// the lanes' rounding is unsound are the definition's.
namespace ropewalk::codecs {
namespace {

/// The fits of a batch of blocks; `unsound` has a bit for each.
template <class Type>
struct Batch {
  static constexpr int kBlocks = 32, kPerBlock = 256 / Type::kGroup;
  float scales[kBlocks * kPerBlock], mins[kBlocks * kPerBlock], sums[kBlocks * kPerBlock];
  std::uint32_t unsound = 0;

  GroupFits of(int block) const {
    return {scales + block * kPerBlock, mins + block * kPerBlock, sums + block * kPerBlock};
  }
};
static_assert(Batch<Q3K>::kBlocks == kLanes);  // the fit of their scales takes all lanes

struct Turned {
  alignas(64) float x[32 * kLanes], weights[32 * kLanes];
};

struct Bodies {
  RowEncoder* definition;
  PackBlock* pack;
};
template <class Type>
constexpr Bodies kBodies = std::is_same_v<Type, Q2K>   ? Bodies{encode_q2_k, pack_q2_k_lanes}
                           : std::is_same_v<Type, Q3K> ? Bodies{encode_q3_k, pack_q3_k_lanes}
                           : std::is_same_v<Type, Q4K> ? Bodies{encode_q4_k, pack_q4_k_lanes}
                           : std::is_same_v<Type, Q5K> ? Bodies{encode_q5_k, pack_q5_k_lanes}
                                                       : Bodies{encode_q6_k, pack_q6_k_lanes};

/// The fits of n_blocks blocks from `first` on, which are at most kLanes groups. spreads: one a block, with importances.
template <class Type>
void fit(const float* x, const float* importances, const float* spreads, int first, int n_blocks, Batch<Type>& batch) {
  constexpr int n = Type::kGroup, per_block = 256 / n;
  float *scales = batch.scales + first * per_block, *sums = batch.sums + first * per_block;
  Turned in;
  turn(x, n, n_blocks * per_block, in.x);
  if (importances != nullptr) {
    turn(importances, n, n_blocks * per_block, in.weights);
    if constexpr (!std::is_same_v<Type, Q6K>) {
      float of_groups[kLanes] = {};
      for (int b = 0; b < n_blocks; ++b) std::fill_n(of_groups + b * per_block, per_block, spreads[b]);
      weigh_lanes(in.x, in.weights, of_groups, n, in.weights, sums);
    }
  } else if constexpr (std::is_same_v<Type, Q6K>) {
    square_lanes(in.x, n, in.weights);
  } else {
    weigh_lanes(in.x, n, !std::is_same_v<Type, Q2K>, in.weights);
  }
  const LaneGroups groups{in.x, in.weights, n};
  std::uint32_t unsound;
  if constexpr (kLowest<Type> < 0) unsound = fit_symmetric_lanes(groups, -kLowest<Type>, scales);
  else
    unsound =
        fit_affine_lanes(groups, affine_search<Type>(importances != nullptr), scales, batch.mins + first * per_block);
  for (int b = 0; b < n_blocks; ++b)
    batch.unsound |= ((unsound >> b * per_block & ((1u << per_block) - 1)) != 0 ? 1u : 0u) << (first + b);
}

template <class Type>
void read_scales(const std::byte* block, StoredScales& stored) {
  for (int group = 0; group < 256 / Type::kGroup; ++group) {
    const Affine scale = stored_scale<Type>(block, group);
    stored.d[group] = scale.d;
    stored.m[group] = scale.m;
  }
}
/// Q3_K's, written and as stored, without reading them again: their bits lie in three places.
void put_scales_and_read(const std::uint8_t* levels, float scale, std::byte* block, StoredScales& stored) {
  const float d = put_half(block + 108, scale);
  put_scale_levels_q3_k(levels, block);
  for (int group = 0; group < 16; ++group) stored.d[group] = d * real(levels[group] - 32);
}

/// Levels at the stored scales; those of the fits where such a scale is 0.
template <class Type>
void put_levels(const float* x, const float* importances, const StoredScales& stored, std::byte* block) {
  constexpr int n = Type::kGroup;
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
  kBodies<Type>.pack(levels, block);
}

/// Blocks of a batch whose groups have been fitted. `put(b, block, stored)` writes the scales of block b, whose bytes are
/// zero, and returns false where that is all. All scales come first: levels need not wait for those just written.
template <class Type, class PutScales>
void put_blocks(const float* x, const float* importances, int n_blocks, const PutScales& put, std::byte* out) {
  StoredScales stored[kLanes];
  bool has_levels[kLanes];
  std::memset(out, 0, static_cast<std::size_t>(n_blocks * Type::kBytes));  // one by one they would take longer
  for (int b = 0; b < n_blocks; ++b) has_levels[b] = put(b, out + b * Type::kBytes, stored[b]);
  for (int b = 0; b < n_blocks; ++b)
    if (has_levels[b])
      put_levels<Type>(x + 256 * b, importances != nullptr ? importances + 256 * b : nullptr, stored[b],
                       out + b * Type::kBytes);
}

/// Scales of Q3_K with importances, as all of a batch are, are fitted as groups are.
struct ScalesOfScales {
  float scales[kLanes];
  std::uint8_t levels[16 * kLanes];

  std::uint32_t fit(const Batch<Q3K>& batch, int n_blocks) {
    Turned in;
    turn(batch.scales, 16, n_blocks, in.x);
    turn(batch.sums, 16, n_blocks, in.weights);
    return fit_symmetric_lanes({in.x, in.weights, 16}, 32, scales, levels);
  }
  void put(int b, std::byte* block, StoredScales& stored) const {
    std::uint8_t of_block[16];
    for (int group = 0; group < 16; ++group) of_block[group] = levels[group * kLanes + b];
    put_scales_and_read(of_block, scales[b], block, stored);
  }
};

template <class Type>
void encode_batch(const float* x, const float* importances, int n_blocks, std::byte* out) {
  constexpr int kAtOnce = kLanes / Batch<Type>::kPerBlock;
  Batch<Type> batch;
  float spreads[Batch<Type>::kBlocks];
  if (importances != nullptr && !std::is_same_v<Type, Q6K>) {
    sums_of_squares(x, 256, 256, n_blocks, spreads);
    for (int b = 0; b < n_blocks; ++b) spreads[b] = spread_from<Type>(spreads[b]);
  }
  const auto weights_of = [&](int block) { return importances != nullptr ? importances + 256 * block : nullptr; };
  for (int b = 0; b < n_blocks; b += kAtOnce)
    fit<Type>(x + 256 * b, weights_of(b), spreads + b, b, std::min(kAtOnce, n_blocks - b), batch);
  ScalesOfScales fitted;
  if constexpr (std::is_same_v<Type, Q3K>) batch.unsound |= fitted.fit(batch, n_blocks);
  const auto put = [&](int b, std::byte* block, StoredScales& stored) {
    if ((batch.unsound >> b & 1) != 0) return kBodies<Type>.definition(x + 256 * b, weights_of(b), 256, block), false;
    if constexpr (std::is_same_v<Type, Q3K>) return fitted.put(b, block, stored), true;
    if (!put_scales<Type>(batch.of(b), importances != nullptr, block)) return false;
    read_scales<Type>(block, stored);
    return true;
  };
  put_blocks<Type>(x, importances, n_blocks, put, out);
}

template <class Type>
void encode_row(const float* x, const float* importances, std::int64_t columns, std::byte* out) {
  constexpr int kBlocks = Batch<Type>::kBlocks;
  for (std::int64_t at = 0; at < columns; at += 256 * kBlocks, out += kBlocks * Type::kBytes)
    encode_batch<Type>(x + at, importances != nullptr ? importances + at : nullptr,
                       static_cast<int>(std::min<std::int64_t>(kBlocks, (columns - at) / 256)), out);
}

/// Q3_K without importances.
void encode_q3_k_moving(const float* x, std::int64_t columns, std::byte* out) {
  constexpr int kBlocks = 256;
  for (std::int64_t at = 0; at < columns; at += 256 * kBlocks) {
    const int n_blocks = static_cast<int>(std::min<std::int64_t>(kBlocks, (columns - at) / 256));
    MovedScales fitted[kBlocks];
    fit_by_moves_lanes(x + at, n_blocks, fitted);
    for (int first = 0; first < n_blocks; first += kLanes) {
      const auto put = [&](int b, std::byte* block, StoredScales& stored) {
        return put_scales_and_read(fitted[first + b].levels, fitted[first + b].scale, block, stored), true;
      };
      put_blocks<Q3K>(x + at + 256 * first, nullptr, std::min(kLanes, n_blocks - first), put,
                      out + first * Q3K::kBytes);
    }
    out += n_blocks * Q3K::kBytes;
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
