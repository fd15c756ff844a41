#pragma once

#include "verify/gates.h"

namespace ropewalk::verify {

/// What a figure of a longer text of the same kind would be, from this one: with 95 % confidence above `low`, with 95 % below
/// `high`.
struct Interval {
  double low = 0, high = 0;
};

/// Of positions [from, to) of all windows.
///   means (kl_mean, top1, nll_difference, ppl_ratio = exp of that): neighbouring positions resemble each other, so windows
///     are cut into blocks of up to 64 positions, at least eight in all where there are enough, and the spread of the
///     blocks' means tells the mean's error: a ratio of sums (Cochran, Sampling Techniques, 3rd ed., section 6.3), Student's
///     t with as many degrees of freedom as blocks less one.
///   kl_growth: the same of both sides, errors of logarithms added in squares.
///   kl_median, kl_p999: order statistics (binomial, normal approximation); past the largest seen there is nothing to say, so
///     that is `high` where the text is too short for a bound.
///   kl_max: itself; it is of this text alone.
/// Both ends are the value where no two blocks can be cut, NaN where there is none.
Interval confidence(Figure figure, const LogitsReport& report, int from, std::optional<int> to);

}  // namespace ropewalk::verify
