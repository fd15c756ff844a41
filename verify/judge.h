#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "verify/perplexity.h"
#include "verify/sweep.h"

namespace ropewalk::verify {

/// Positions t of the distributions compared: the one after t + 1 tokens of a window.
struct PairBucket {
  int from = 0, to = 0;  // [from, to)
  // nll_difference: candidate less source, mean over the positions that have a next token
  double kl_mean = 0, top1 = 0, nll_difference = 0;
  std::uint64_t tokens = 0;
};

/// One position over all windows.
struct PairPosition {
  double kl_sum = 0, kl_max = 0, nll_source = 0, nll_candidate = 0;  // sums
  std::uint64_t tokens = 0, same_top1 = 0, scored = 0;
};

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
  std::vector<PairPosition> by_position;  // what gates with a range are computed from
};

/// KL that rounding in f32 alone can cause: figures below it mean "the same" (docs/protocols.md).
inline constexpr double kKlFloor = 1e-9;

/// Context before scaling: what the rope says, the served context divided by the factor for position interpolation, the
/// served one itself if nothing scales.
/// nullopt: not known.
std::optional<int> original_context(const ModelConfig& config);

/// original_context: the source's, before scaling (0: not known); anything outside (0, context) leaves kl_growth out.
LogitsReport summarise_pair(const PairResult& result, int original_context, int context);

/// A bound on a figure, from the command line (--max/--min NAME[@FROM:TO]=V) or by default. Positions 0, 0: all of
/// them; to 0: up to the end.
struct GateRequest {
  std::string name, bound;  // bound: "max" or "min"
  int from = 0, to = 0;
  double limit = 0;
  bool if_measured = false;  // left out where there is nothing to measure, instead of failing
};
/// `bound` is "max" or "min". Sizes take suffixes (8k), V may be a percentage (99.5%).
/// Error(usage) with the text and what was expected.
GateRequest parse_gate(const std::string& bound, std::string_view text);

/// Bounds for a candidate whose coarsest weights are "f32", "f16", "bf16" or "q8_0"; others get q8_0's. kl_growth is
/// judged only where it was measured. Where they come from: docs/protocols.md.
std::vector<GateRequest> default_gates(std::string_view encoding);

/// Error(usage) for what no report could answer: a name that is no figure, a single position, a range on kl_median,
/// kl_p999 or kl_growth, or one that is not wholly within
/// the context evaluated. context 0: not known yet, ranges are then not held against it.
void check_gates(const std::vector<GateRequest>& requests, int context);

/// A bound and what it was held against.
struct Gate {
  // "kl_mean", "kl_median", "kl_p999", "kl_max", "kl_growth", "top1", "ppl_ratio", "nll_difference"
  std::string name;
  int from = 0, to = 0;  // positions [from, to); 0, 0: all
  double value = 0;      // NaN where there is nothing to measure
  std::string bound;     // "max" or "min"
  double limit = 0;
  bool pass = false;  // a NaN never passes
};
/// Mean gates (kl_mean, top1, ppl_ratio, nll_difference) without a range are applied to the whole and to the worst
/// bucket (top1 there with three standard
/// deviations of a share of so few tokens). Requests as check_gates lets them pass. Sets report.parts_at: where a bound
/// on how far the distributions lie apart (kl_mean and
/// kl_max from above, top1 from below) fails. A loss that is worse in some bucket says nothing of where they part:
/// chance alone moves it either way.
std::vector<Gate> apply_gates(const std::vector<GateRequest>& requests, LogitsReport& report);
/// At least one gate ran and all passed.
bool all_pass(const std::vector<Gate>& gates);

}  // namespace ropewalk::verify
