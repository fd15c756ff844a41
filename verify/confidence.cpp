#include "verify/confidence.h"

#include <algorithm>
#include <cmath>
#include <limits>

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

std::vector<Block> blocks(Figure figure, const LogitsReport& report, int from, std::optional<int> to) {
  const auto first = std::size_t(from);
  std::size_t positions = 0;
  for (const auto& window : report.scores) positions += end_in(window, to) - std::min(first, end_in(window, to));
  const std::size_t length = block_length(positions);
  std::vector<Block> out;
  for (const auto& window : report.scores)
    for (std::size_t begin = first; begin < end_in(window, to); begin += length) {
      Block block;
      for (std::size_t t = begin; t < std::min(begin + length, end_in(window, to)); ++t)
        if (const auto value = value_of(figure, window, t)) block.sum += *value, block.n += 1;
      if (block.n > 0) out.push_back(block);
    }
  return out;
}

/// The rank within n whose value is the quantile's bound, `side` standard deviations away; from 0.
std::size_t rank_at(std::size_t n, double share, double side) {
  const double rank = std::ceil(share * double(n) + side * std::sqrt(double(n) * share * (1 - share))) - 1;
  return std::size_t(std::clamp(rank, 0.0, double(n - 1)));
}
Interval quantile_interval(const LogitsReport& report, double share) {
  std::vector<double> kl;
  for (const auto& window : report.scores)
    for (const PairScore& score : window) kl.push_back(score.kl);
  if (kl.empty() || std::ranges::any_of(kl, [](double x) { return std::isnan(x); }))
    return {std::nan(""), std::nan("")};
  std::ranges::sort(kl);
  return {kl[rank_at(kl.size(), share, -kNormal95)], kl[rank_at(kl.size(), share, kNormal95)]};
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
  const BlockMean mean = mean_of_blocks(blocks(figure, report, from, to));
  Interval out{mean.value - mean.error, mean.value + mean.error};
  if (figure == Figure::kl_mean) out.low = out.low < 0 ? 0 : out.low;  // as a NaN, which stays
  if (figure == Figure::top1) out = {out.low < 0 ? 0 : out.low, out.high > 1 ? 1 : out.high};
  if (figure == Figure::ppl_ratio) out = {std::exp(out.low), std::exp(out.high)};
  return out;
}

}  // namespace ropewalk::verify
