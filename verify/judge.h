#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "verify/perplexity.h"
#include "verify/sweep.h"

namespace ropewalk::verify {

/// Positions t of the distributions compared: the one after t + 1 tokens of a window.
struct PairBucket {
  int from = 0, to = 0;  // [from, to)
  double kl_mean = 0, top1 = 0;
  std::optional<double> nll_difference;  // candidate less source, mean over the tokens that have a next one, if any has
  std::uint64_t tokens = 0;
};

/// Sums over windows of one position, or of several. Means are NaN where nothing was counted.
struct PairPosition {
  double kl_sum = 0, kl_max = 0, nll_source = 0, nll_candidate = 0;
  std::uint64_t tokens = 0, same_top1 = 0, scored = 0;  // scored: tokens that have a next one

  double kl_mean() const;
  double top1() const;
  double nll_difference() const;  // candidate less source
};
/// Positions [from, to) as one; no `to`: up to the end.
PairPosition sum_positions(std::span<const PairPosition> positions, int from, std::optional<int> to);

/// The larger, or NaN if either is: std::max would lose one.
inline double max_or_nan(double a, double b) { return a >= b || a != a ? a : b; }
/// What "the same" means of stored values: equal, both the same infinity, or both no number. A NaN against a number is
/// not.
inline bool same_value(double a, double b) { return a == b || (a != a && b != b); }

struct LogitsReport {
  double kl_mean = 0, kl_median = 0, kl_p999 = 0, kl_max = 0;
  // (mean KL at positions >= original context + f) / (mean KL below it + f), f = kKlFloor; nullopt if one side is empty
  std::optional<double> kl_growth;
  double top1 = 1;
  double perplexity_source = 0, perplexity_candidate = 0, ppl_ratio = 1;
  std::vector<PairBucket> positions;  // as position_buckets, from 0, and cut at the original context
  std::vector<double> layers;         // PairResult::layer_distance
  // first position of the first bucket in which the distributions part; set by apply_gates
  std::optional<int> parts_at;
  std::vector<std::pair<std::string_view, double>> left_out;  // default gates, and the positions they need; likewise
  std::vector<PairPosition> by_position;                      // what gates with a range are computed from
  std::vector<std::vector<PairScore>> scores;                 // of each window, what its confidence is computed from
  int original_context = 0;                                   // where kl_growth parts
};

/// KL that rounding in f32 alone can cause: figures below it mean "the same" (docs/protocols.md).
inline constexpr double kKlFloor = 1e-9;

/// Context before scaling: what the rope says, the served context divided by the factor for position interpolation, the
/// served one itself if nothing scales. nullopt: not known.
std::optional<int> original_context(const ModelConfig& config);

/// original_context: the source's, before scaling (0: not known); anything outside (0, context) leaves kl_growth out.
LogitsReport summarise_pair(const PairResult& result, int original_context, int context);

}  // namespace ropewalk::verify
