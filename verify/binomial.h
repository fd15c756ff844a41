#pragma once

#include "verify/block_mean.h"

// Exact bounds of shares and quantiles: nothing is taken as normal, which near 0 and 1 nothing is.
namespace ropewalk::verify {

/// P(X <= k) of X, the hits among n trials with chance p each: I_{1-p}(n - k, k + 1), the regularised incomplete beta
/// function (Abramowitz, Stegun 26.5.24), which goes on between the integers. 0 of k <= -1, 1 of k >= n. n > 0, 0 < p < 1.
double binomial_at_most(double k, double n, double p);

/// Of a share, found `hits` times in n > 0 (Clopper, Pearson 1934): `low` is the share that would give so many hits or more
/// in 5 of 100 cases, `high` so many or fewer. Of n hits in n `low` is 0.05^(1/n). Wilson's interval is not taken: its one
/// bound holds too rarely near 1 (Cai, J. Statist. Plann. Inference 131, 2005), where the shares of a sound export lie.
Interval share_interval(double hits, double n);

/// The same of values that resemble their neighbours: of so many independent ones as spread as these blocks do (Korn,
/// Graubard, Survey Methodology 24, 1998), n at most. Where all hit or none did nothing spreads, and n counts; of one block
/// with hits and misses nobody knows, so 0.
/// blocks: of ones and zeros, n their number.
double independent_values(std::span<const Block> blocks);

}  // namespace ropewalk::verify
