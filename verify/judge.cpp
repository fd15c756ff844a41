#include "verify/judge.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace ropewalk::verify {
namespace {

/// The value below which a share of `sorted` lies: the smallest that at least that share does not exceed.
double quantile(const std::vector<double>& sorted, double share) {
  const auto rank = static_cast<std::size_t>(std::ceil(share * double(sorted.size())));
  return sorted[std::min(sorted.size() - 1, rank == 0 ? 0 : rank - 1)];
}

std::vector<std::pair<int, int>> buckets(int context, int original_context) {
  std::vector<std::pair<int, int>> out;
  for (auto [from, to] : position_buckets(context)) {
    if (out.empty()) from = 0;
    if (original_context > from && original_context < to) {
      out.emplace_back(from, original_context);
      from = original_context;
    }
    out.emplace_back(from, to);
  }
  return out;
}

std::vector<PairPosition> sum_by_position(const PairResult& result) {
  std::vector<PairPosition> out;
  for (const auto& window : result.scores) {
    out.resize(std::max(out.size(), window.size()));
    for (std::size_t t = 0; t < window.size(); ++t) {
      PairPosition& p = out[t];
      p.kl_sum += window[t].kl;
      p.kl_max = max_or_nan(p.kl_max, window[t].kl);
      p.same_top1 += window[t].same_top1 ? 1 : 0;
      ++p.tokens;
      if (t + 1 == window.size()) continue;
      p.nll_source += window[t].nll_a, p.nll_candidate += window[t].nll_b;
      ++p.scored;
    }
  }
  return out;
}

double mean(double sum, std::uint64_t n) { return n ? sum / double(n) : std::numeric_limits<double>::quiet_NaN(); }

}  // namespace

double PairPosition::kl_mean() const { return mean(kl_sum, tokens); }
double PairPosition::top1() const { return mean(double(same_top1), tokens); }
double PairPosition::nll_difference() const { return mean(nll_candidate - nll_source, scored); }

PairPosition sum_positions(std::span<const PairPosition> positions, int from, std::optional<int> to) {
  PairPosition sum;
  const std::size_t end = to ? std::min(positions.size(), std::size_t(*to)) : positions.size();
  for (std::size_t t = std::size_t(from); t < end; ++t) {
    const PairPosition& p = positions[t];
    sum.kl_sum += p.kl_sum;
    sum.kl_max = max_or_nan(sum.kl_max, p.kl_max);
    sum.nll_source += p.nll_source, sum.nll_candidate += p.nll_candidate;
    sum.tokens += p.tokens, sum.same_top1 += p.same_top1, sum.scored += p.scored;
  }
  return sum;
}

std::optional<int> original_context(const ModelConfig& config) {
  if (const std::optional<int> said = rope_original_context(config.rope)) return said;
  if (std::holds_alternative<RopeUnscaled>(config.rope.scaling))
    return config.context > 0 ? std::optional(config.context) : std::nullopt;
  const auto* linear = std::get_if<RopeLinear>(&config.rope.scaling);
  if (!linear || !(linear->factor >= 1) || config.context < linear->factor) return std::nullopt;
  return static_cast<int>(std::lround(config.context / linear->factor));
}

LogitsReport summarise_pair(const PairResult& result, int original_context, int context) {
  LogitsReport report;
  report.layers = result.layer_distance;
  report.by_position = sum_by_position(result);
  report.scores = result.scores, report.original_context = original_context;
  std::vector<double> kl;
  bool nan = false;
  for (const auto& window : result.scores)
    for (const PairScore& score : window) kl.push_back(score.kl), nan = nan || std::isnan(score.kl);
  if (kl.empty()) return report;
  if (nan)  // they cannot be ordered, and no quantile of them means anything
    report.kl_median = report.kl_p999 = report.kl_max = std::nan("");
  else {
    std::ranges::sort(kl);
    report.kl_median = quantile(kl, 0.5), report.kl_p999 = quantile(kl, 0.999), report.kl_max = kl.back();
  }

  const auto total = [&](int from, std::optional<int> to) { return sum_positions(report.by_position, from, to); };
  const PairPosition whole = total(0, {});
  report.kl_mean = whole.kl_mean(), report.top1 = whole.top1();
  if (whole.scored) {
    report.ppl_ratio = std::exp(whole.nll_difference());
    report.perplexity_source = std::exp(whole.nll_source / double(whole.scored));
    report.perplexity_candidate = std::exp(whole.nll_candidate / double(whole.scored));
  }

  const int longest = static_cast<int>(report.by_position.size());
  for (const auto& [from, to] : buckets(std::max(context, longest), original_context))
    if (const PairPosition sum = total(from, to); sum.tokens)
      report.positions.push_back({from, to, sum.kl_mean(), sum.top1(),
                                  sum.scored ? std::optional(sum.nll_difference()) : std::nullopt, sum.tokens});
  if (original_context > 0 && original_context < longest)
    report.kl_growth =
        (total(original_context, {}).kl_mean() + kKlFloor) / (total(0, original_context).kl_mean() + kKlFloor);
  return report;
}

}  // namespace ropewalk::verify
