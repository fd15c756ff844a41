#include "verify/binomial.h"

#include <algorithm>
#include <cmath>

namespace ropewalk::verify {
namespace {

/// The continued fraction of the incomplete beta function (Abramowitz, Stegun 26.5.8), by Lentz's method. It takes some
/// sqrt(max(a, b)) steps where x < (a + 1) / (a + b + 2).
double beta_fraction(double x, double a, double b) {
  constexpr double kTiny = 1e-300, kNear = 1e-15;
  constexpr int kMost = 1'000'000;
  const auto kept = [](double value) { return std::abs(value) < kTiny ? kTiny : value; };
  double c = 1, d = 1 / kept(1 - (a + b) * x / (a + 1)), value = d;
  for (int m = 1; m < kMost; ++m) {
    double last = 1;
    for (const double term : {m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
                              -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))}) {
      d = 1 / kept(1 + term * d), c = kept(1 + term / c);
      last = c * d, value *= last;
    }
    if (std::abs(last - 1) < kNear) break;
  }
  return value;
}

/// I_x(a, b), a and b > 0, 0 <= x <= 1.
double incomplete_beta(double x, double a, double b) {
  if (x <= 0 || x >= 1) return x <= 0 ? 0 : 1;
  const double front =
      std::exp(std::lgamma(a + b) - std::lgamma(a) - std::lgamma(b) + a * std::log(x) + b * std::log1p(-x));
  return x < (a + 1) / (a + b + 2) ? front * beta_fraction(x, a, b) / a : 1 - front * beta_fraction(1 - x, b, a) / b;
}

/// x with I_x(a, b) = share.
double beta_quantile(double share, double a, double b) {
  double low = 0, high = 1;
  for (double middle = 0.5; low < middle && middle < high; middle = (low + high) / 2)
    (incomplete_beta(middle, a, b) < share ? low : high) = middle;
  return low;
}

}  // namespace

double binomial_at_most(double k, double n, double p) {
  if (k <= -1) return 0;
  return k >= n ? 1 : incomplete_beta(1 - p, n - k, k + 1);
}

Interval share_interval(double hits, double n) {
  constexpr double kMiss = 0.05;
  return {hits > 0 ? beta_quantile(kMiss, hits, n - hits + 1) : 0,
          hits < n ? beta_quantile(1 - kMiss, hits + 1, n - hits) : 1};
}

double independent_values(std::span<const Block> blocks) {
  double n = 0;
  for (const Block& block : blocks) n += block.n;
  const BlockMean mean = mean_of_blocks(blocks);
  if (mean.value == 0 || mean.value == 1 || !(mean.error > 0)) return n;
  // error: t standard errors; of n independent values kNormal95 sqrt(share (1 - share) / n)
  const double ratio = kNormal95 / mean.error;
  return std::min(n, mean.value * (1 - mean.value) * ratio * ratio);
}

}  // namespace ropewalk::verify
