#pragma once

#include <cstddef>
#include <cstdint>

#include "lib/codecs/fits.h"

// The searches of fits.h for 32 groups side by side, a lane each: every lane does its group's float operations in the same
// order, so the results are the same bits on every instruction set. A lane in which a search of fits.h would stop early
// runs on unheard. They return the lanes, as bits from the lowest, in which a step is too large to be rounded as they round
// (infinities, NaN, quotients past 2^22): what they found there is unsound, and fits.h has to be asked.
namespace ropewalk::codecs {

/// Two vectors of AVX-512, so that their sums, which must not be split, need not wait for one another.
inline constexpr int kLanes = 32;

/// Element i of group g at [i * kLanes + g]; n <= 32 elements each.
struct LaneGroups {
  const float *x, *weights;
  int n;
};

/// n_groups groups of n consecutive elements (a multiple of 4), turned to stand so; lanes without a group are zero.
void turn(const float* x, int n, int n_groups, float* out);

/// Levels of 32 elements of each group, turned back: 16 bytes a group, element i with i + 16 above it, and the elements'
/// fifth bits, if not null.
void pack_levels(const std::uint8_t* levels, std::uint8_t* nibbles, std::uint32_t* fifths);

/// weigh() of each group, all turned: `spreads` one a group. `weights` may be `importances`. Of no use for sums: null.
void weigh_lanes(const float* x, const float* importances, const float* spreads, int n, float* weights, float* sums);
/// Without importances: the root of the mean square of the group (if `mean`), plus |x|.
void weigh_lanes(const float* x, int n, bool mean, float* weights);
/// x^2 of n elements of each group.
void square_lanes(const float* x, int n, float* squares);
/// sum_of_squares of n_runs runs of n elements each (a multiple of 4), one `apart` elements behind the other: their sums do
/// not wait for one another. A sum that is NaN may be another NaN.
void sums_of_squares(const float* x, std::int64_t n, std::int64_t apart, int n_runs, float* sums);

/// fit_affine of each group. `levels`, laid out as the elements are, only if not null.
std::uint32_t fit_affine_lanes(const LaneGroups& groups, const AffineSearch& search, float* scales, float* mins,
                               std::uint8_t* levels = nullptr);
/// fit_symmetric of each group.
std::uint32_t fit_symmetric_lanes(const LaneGroups& groups, int half, float* scales, std::uint8_t* levels = nullptr);
/// The scales of a block of Q3_K without importances: fit_by_moves, half = 4, of its groups, and their levels as
/// put_scales_q3_k() of k_blocks.h takes them; `scale` is theirs, 0 where all are.
struct MovedScales {
  std::uint8_t levels[16];
  float scale;
};
/// Groups in which nothing moves, four of five, are told apart first; the others are collected and moved side by side, so
/// that many blocks at once are worth while.
void fit_by_moves_lanes(const float* x, int n_blocks, MovedScales* fitted);

/// Levels of a block at the scales as stored: nearest((x + m) / d), limited, less `low`; of 256 / n groups of n
/// consecutive elements. A d of 0 gives what it gives.
struct StoredScales {
  alignas(64) float d[16] = {}, m[16] = {};  // of groups of 32 the second half stays 0
};
void take_levels(const float* x, const StoredScales& scales, int n, int low, int high, std::uint8_t* levels);

/// pack_levels() of k_blocks.h: of Q2_K, Q3_K, Q4_K, Q5_K and Q6_K, in order of their bits.
using PackBlock = void(const std::uint8_t* levels, std::byte* block);
PackBlock pack_q2_k_lanes, pack_q3_k_lanes, pack_q4_k_lanes, pack_q5_k_lanes, pack_q6_k_lanes;

/// fit_iq4 of each group.
void fit_iq4_lanes(const LaneGroups& groups, float* scales);
/// The nearest IQ4 levels of n consecutive elements times `inverse`; n is a multiple of 32.
void nearest_iq4_levels(const float* x, float inverse, int n, std::uint8_t* levels);

}  // namespace ropewalk::codecs
