#include "verify/confidence.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <ranges>

#include "verify/binomial.h"

namespace ropewalk::verify {
namespace {

/// What a position adds to a mean; nullopt: nothing.
std::optional<double> value_of(Figure figure, std::span<const PairScore> window, std::size_t t) {
  switch (figure) {
    case Figure::kl_mean:
    case Figure::kl_growth: return window[t].kl;
    case Figure::top1: return window[t].same_top1 ? 1.0 : 0.0;
    default: return t + 1 < window.size() ? std::optional(window[t].nll_b - window[t].nll_a) : std::nullopt;
  }
}

std::size_t end_in(std::span<const PairScore> window, std::optional<int> to) {
  return to ? std::min(window.size(), std::size_t(*to)) : window.size();
}

/// value_at(window, t): what a position adds, nullopt or a number.
template <class Value>
std::vector<Block> blocks(const LogitsReport& report, int from, std::optional<int> to, const Value& value_at) {
  const auto first = std::size_t(from);
  std::size_t positions = 0;
  for (const auto& window : report.scores) positions += end_in(window, to) - std::min(first, end_in(window, to));
  const std::size_t length = block_length(positions);
  std::vector<Block> out;
  for (const auto& window : report.scores)
    for (std::size_t begin = first; begin < end_in(window, to); begin += length) {
      Block block;
      for (std::size_t t = begin; t < std::min(begin + length, end_in(window, to)); ++t)
        if (const std::optional<double> value = value_at(window, t)) block.sum += *value, block.n += 1;
      if (block.n > 0) out.push_back(block);
    }
  return out;
}
std::vector<Block> blocks(Figure figure, const LogitsReport& report, int from, std::optional<int> to) {
  return blocks(report, from, to,
                [&](std::span<const PairScore> window, std::size_t t) { return value_of(figure, window, t); });
}

/// The k-th smallest of n values lies at or above the quantile if at most k - 1 of them lie below it, and at or below it if
/// k or more do. `independent`: as many of the n as count.
Interval quantile_interval(const LogitsReport& report, double share) {
  std::vector<double> kl;
  for (const auto& window : report.scores)
    for (const PairScore& score : window) kl.push_back(score.kl);
  if (kl.empty() || std::ranges::any_of(kl, [](double x) { return std::isnan(x); }))
    return {std::nan(""), std::nan("")};
  std::ranges::sort(kl);
  const auto n = double(kl.size());
  double independent = n;
  constexpr double kTold = 30;
  if (n * std::min(share, 1 - share) >= kTold) {
    const double at = kl[std::size_t(std::ceil(share * n)) - 1];
    independent = independent_values(
        blocks(report, 0, {}, [&](const auto& window, std::size_t t) { return window[t].kl > at ? 1.0 : 0.0; }));
  }
  const auto below = [&](std::size_t k) {  // P(at most k - 1 below the quantile)
    return binomial_at_most(double(k) * independent / n - 1, independent, share);
  };
  const auto ranks = std::views::iota(std::size_t{1}, kl.size() + 1);
  const auto high = std::ranges::partition_point(ranks, [&](std::size_t k) { return below(k) < 0.95; }),
             past_low = std::ranges::partition_point(ranks, [&](std::size_t k) { return below(k) <= 0.05; });
  // of few independent values the rank may lie past the quantile itself
  const double itself = kl[std::size_t(std::ceil(share * n)) - 1];
  return {past_low == ranks.begin() ? 0 : std::min(kl[*past_low - 2], itself),
          high == ranks.end() ? std::numeric_limits<double>::infinity() : kl[*high - 1]};
}

Interval growth_interval(const LogitsReport& report) {
  if (!report.kl_growth) return {std::nan(""), std::nan("")};
  const BlockMean before = mean_of_blocks(blocks(Figure::kl_mean, report, 0, report.original_context)),
                  after = mean_of_blocks(blocks(Figure::kl_mean, report, report.original_context, {}));
  const double error = std::hypot(before.error / (before.value + kKlFloor), after.error / (after.value + kKlFloor));
  return {*report.kl_growth * std::exp(-error), *report.kl_growth * std::exp(error)};
}

}  // namespace

Interval confidence(Figure figure, const LogitsReport& report, int from, std::optional<int> to) {
  switch (figure) {
    case Figure::kl_median: return quantile_interval(report, 0.5);
    case Figure::kl_p999: return quantile_interval(report, 0.999);
    case Figure::kl_growth: return growth_interval(report);
    case Figure::kl_max: {
      const PairPosition sum = sum_positions(report.by_position, from, to);
      const double value = sum.tokens > 0 ? sum.kl_max : std::nan("");
      return {value, value};
    }
    default: break;
  }
  const std::vector<Block> cut = blocks(figure, report, from, to);
  const BlockMean mean = mean_of_blocks(cut);
  if (std::isnan(mean.value)) return {mean.value, mean.value};
  if (figure == Figure::top1) {
    const double n = independent_values(cut);
    return share_interval(mean.value * n, n);
  }
  if (figure == Figure::kl_mean) {
    const double error = mean.value > 0 ? mean.error / mean.value : 0;
    return {mean.value * std::exp(-error), mean.value * std::exp(error)};
  }
  const Interval out{mean.value - mean.error, mean.value + mean.error};
  return figure == Figure::ppl_ratio ? Interval{std::exp(out.low), std::exp(out.high)} : out;
}

double fewest_positions(const GateRequest& request) {
  const auto all_of = [](double share) { return std::ceil(std::abs(std::log(0.05) / std::log(share))); };
  if (request.figure == Figure::top1)
    return request.bound == Bound::min && request.limit > 0 ? all_of(request.limit) : 0;
  if (request.bound == Bound::min) return 0;
  if (request.figure == Figure::kl_median) return all_of(0.5);
  return request.figure == Figure::kl_p999 ? all_of(0.999) : 0;
}

}  // namespace ropewalk::verify
