#pragma once

#include <cstddef>
#include <limits>
#include <span>

namespace ropewalk::verify {

/// What a figure of a longer text of the same kind would be, from this one: with 95 % confidence above `low`, with 95 % below
/// `high`.
struct Interval {
  double low = 0, high = 0;
};

/// Weighted sum of neighbouring values, and their weights: neighbours resemble each other, the sums of blocks far less.
struct Block {
  double sum = 0, n = 0;
};
/// Positions of a block, where so many in all are cut: an eighth of them, since nobody knows how far back a text remembers,
/// and eight blocks have spread enough for Student's t; at least 32, as neighbours resemble each other most, or half of
/// them. Blocks end with their window, so many windows are a block each.
std::size_t block_length(std::size_t positions);

struct BlockMean {
  double value = std::numeric_limits<double>::quiet_NaN();  // where there is no block
  double error = 0;  // half of the interval; infinite of one block, which has no spread
};
/// A ratio of sums (Cochran, Sampling Techniques, 3rd ed., section 6.3), Student's t with as many degrees of freedom as
/// blocks less one.
BlockMean mean_of_blocks(std::span<const Block> blocks);

/// One-sided 95 % of a normal distribution.
inline constexpr double kNormal95 = 1.645;

}  // namespace ropewalk::verify
