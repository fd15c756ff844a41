#pragma once

#include "verify/block_mean.h"
#include "verify/gates.h"

namespace ropewalk::verify {

/// Of positions [from, to) of all windows.
///   means (kl_mean, nll_difference, ppl_ratio = exp of that): neighbouring positions resemble each other, so windows are
///     cut into blocks, whose means' spread tells the mean's error (verify/block_mean.h); kl_mean's on a logarithmic
///     scale, for KL is never negative and its tail is long.
///   kl_growth: the same of both sides, errors of logarithms added in squares.
///   top1: of a share (verify/binomial.h), of as many independent positions as spread as the blocks do.
///   kl_median, kl_p999: order statistics, whatever the distribution. Where there are 30 positions or more on either side of
///     the quantile, of as many independent ones; fewer say nothing of how they cluster. Past the largest seen there is
///     nothing to say: `high` is infinite where the text is too short for a bound.
///   kl_max: itself; it is of this text alone.
/// Where no two blocks can be cut nothing bounds a mean but its own range: infinity, 0 of what is not negative. NaN where
/// there is no block.
Interval confidence(Figure figure, const LogitsReport& report, int from, std::optional<int> to);

/// No text of fewer positions can pass this gate, whatever it finds; 0 where one could: a mean's bound has no such number.
///   top1 >= s: n positions that all agree bound it by 0.05^(1/n), so n >= ln 0.05 / ln s. Infinite of s = 1.
///   the quantile q <= x: the largest of n lies above it in 95 of 100 texts from n >= ln 0.05 / ln q on.
double fewest_positions(const GateRequest& request);

}  // namespace ropewalk::verify
