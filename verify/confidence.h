#pragma once

#include "verify/block_mean.h"
#include "verify/gates.h"

namespace ropewalk::verify {

/// Of positions [from, to) of all windows.
///   means (kl_mean, top1, nll_difference, ppl_ratio = exp of that): neighbouring positions resemble each other, so windows
///     are cut into blocks, whose means' spread tells the mean's error (verify/block_mean.h).
///   kl_growth: the same of both sides, errors of logarithms added in squares.
///   kl_median, kl_p999: order statistics (binomial, normal approximation); past the largest seen there is nothing to say, so
///     that is `high` where the text is too short for a bound.
///   kl_max: itself; it is of this text alone.
/// Where no two blocks can be cut nothing bounds a mean but its own range: infinity, 0 of what is not negative, 1 of a
/// share. NaN where there is no block.
Interval confidence(Figure figure, const LogitsReport& report, int from, std::optional<int> to);

}  // namespace ropewalk::verify
