#include "verify/block_mean.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace ropewalk::verify {
namespace {

constexpr std::size_t kBlocks = 8, kShortest = 32;

/// Student's t, one-sided 95 %, of 1 to 30 degrees of freedom (any table of it); beyond, the last, which is a little wide.
constexpr std::array<double, 30> kStudent = {6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833, 1.812,
                                             1.796, 1.782, 1.771, 1.761, 1.753, 1.746, 1.740, 1.734, 1.729, 1.725,
                                             1.721, 1.717, 1.714, 1.711, 1.708, 1.706, 1.703, 1.701, 1.699, 1.697};

}  // namespace

std::size_t block_length(std::size_t positions) {
  return std::max({positions / kBlocks, std::min(kShortest, positions / 2), std::size_t{1}});
}

BlockMean mean_of_blocks(std::span<const Block> blocks) {
  Block total;
  for (const Block& block : blocks) total.sum += block.sum, total.n += block.n;
  if (total.n == 0) return {};
  BlockMean out{total.sum / total.n, std::numeric_limits<double>::infinity()};
  const std::size_t n = blocks.size();
  if (n < 2) return out;
  double squares = 0;
  for (const Block& block : blocks) {
    const double residual = block.sum - out.value * block.n;
    squares += residual * residual;
  }
  const double error = std::sqrt(double(n) / double(n - 1) * squares) / total.n;
  out.error = kStudent[std::min(n - 1, kStudent.size()) - 1] * error;
  return out;
}

}  // namespace ropewalk::verify
