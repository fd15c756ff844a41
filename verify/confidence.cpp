#include "verify/confidence.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

namespace ropewalk::verify {
namespace {

constexpr std::size_t kBlock = 64, kFewestBlocks = 8;

/// Student's t, one-sided 95 %, of 1 to 30 degrees of freedom (any table of it); beyond, the last, which is a little wide.
constexpr std::array<double, 30> kStudent = {6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833, 1.812,
                                             1.796, 1.782, 1.771, 1.761, 1.753, 1.746, 1.740, 1.734, 1.729, 1.725,
                                             1.721, 1.717, 1.714, 1.711, 1.708, 1.706, 1.703, 1.701, 1.699, 1.697};
constexpr double kNormal = 1.645;

/// Sum and count of one block.
struct Block {
  double sum = 0;
  double n = 0;
};

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
  const std::size_t length = std::clamp<std::size_t>(positions / kFewestBlocks, 1, kBlock);
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

struct Mean {
  double value = std::numeric_limits<double>::quiet_NaN(), error = 0;  // error: half of the interval
};
Mean mean_of_blocks(const std::vector<Block>& all) {
  Block total;
  for (const Block& block : all) total.sum += block.sum, total.n += block.n;
  if (total.n == 0) return {};
  Mean out{total.sum / total.n, 0};
  const std::size_t n = all.size();
  if (n < 2) return out;
  double squares = 0;
  for (const Block& block : all) {
    const double residual = block.sum - out.value * block.n;
    squares += residual * residual;
  }
  const double error = std::sqrt(double(n) / double(n - 1) * squares) / total.n;
  out.error = kStudent[std::min(n - 1, kStudent.size()) - 1] * error;
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
  return {kl[rank_at(kl.size(), share, -kNormal)], kl[rank_at(kl.size(), share, kNormal)]};
}

Interval growth_interval(const LogitsReport& report) {
  if (!report.kl_growth) return {std::nan(""), std::nan("")};
  const Mean before = mean_of_blocks(blocks(Figure::kl_mean, report, 0, report.original_context)),
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
  const Mean mean = mean_of_blocks(blocks(figure, report, from, to));
  Interval out{mean.value - mean.error, mean.value + mean.error};
  if (figure == Figure::kl_mean) out.low = out.low < 0 ? 0 : out.low;  // as a NaN, which stays
  if (figure == Figure::top1) out = {out.low < 0 ? 0 : out.low, out.high > 1 ? 1 : out.high};
  if (figure == Figure::ppl_ratio) out = {std::exp(out.low), std::exp(out.high)};
  return out;
}

}  // namespace ropewalk::verify
