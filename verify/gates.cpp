#include "verify/gates.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "verify/confidence.h"

namespace ropewalk::verify {
namespace {

constexpr double kNothing = std::numeric_limits<double>::quiet_NaN();

static_assert(std::ranges::all_of(kFigures, [](const FigureInfo& f) { return &figure_info(f.figure) == &f; }),
              "kFigures stands in the order of Figure");

double ranged_value(Figure figure, const PairPosition& sum) {
  switch (figure) {
    case Figure::kl_mean: return sum.kl_mean();
    case Figure::kl_max: return sum.tokens ? sum.kl_max : kNothing;
    case Figure::top1: return sum.top1();
    case Figure::nll_difference: return sum.nll_difference();
    case Figure::ppl_ratio: return std::exp(sum.nll_difference());
    default: return kNothing;
  }
}

double whole_value(Figure figure, const LogitsReport& report) {
  if (report.by_position.empty()) return kNothing;
  switch (figure) {
    case Figure::kl_median: return report.kl_median;
    case Figure::kl_p999: return report.kl_p999;
    case Figure::kl_growth: return report.kl_growth.value_or(kNothing);
    default: return ranged_value(figure, sum_positions(report.by_position, 0, {}));
  }
}

Gate judge(const GateRequest& request, std::optional<Positions> positions, double value) {
  Gate gate = gate_on(figure_info(request.figure).name, value, request.bound, request.limit);
  gate.positions = positions;
  return gate;
}

/// The gate with the end of the interval that counts in place of the value.
Gate judge_confidently(const GateRequest& request, std::optional<Positions> positions, double value,
                       const LogitsReport& report) {
  Gate gate = judge(request, positions, value);
  const auto [from, to] = positions.value_or(Positions{});
  const Interval interval = confidence(request.figure, report, from, to);
  gate.confident = request.bound == Bound::max ? interval.high : interval.low;
  gate.fewest = fewest_positions(request);
  gate.positions_held = sum_positions(report.by_position, from, to).tokens;
  gate.pass = gate.pass && holds(request.bound, *gate.confident, request.limit);
  return gate;
}

/// True if `a` is worse than `b` for this bound; a NaN is worst.
bool worse(Bound bound, double a, double b) {
  if (std::isnan(a) || std::isnan(b)) return std::isnan(a) && !std::isnan(b);
  return bound == Bound::max ? a > b : a < b;
}

/// A bucket holds few tokens: one flip among 64 is 1.6 %. Its limit for a share is wider by three standard deviations
/// of a share of n.
GateRequest for_bucket(GateRequest request, std::uint64_t tokens) {
  if (request.figure != Figure::top1 || request.limit <= 0 || request.limit >= 1 || tokens == 0) return request;
  const double slack = 3 * std::sqrt(request.limit * (1 - request.limit) / double(tokens));
  request.limit += request.bound == Bound::min ? -slack : slack;
  return request;
}

/// Bounds whose failing says that the distributions lie apart.
bool measures_distance(const GateRequest& request) {
  if (request.bound == Bound::min) return request.figure == Figure::top1;
  return request.figure == Figure::kl_mean || request.figure == Figure::kl_max;
}

/// The buckets in which `request` fails go to `failed`.
std::optional<Gate> worst_bucket(const GateRequest& request, const LogitsReport& report, std::vector<int>& failed) {
  std::optional<Gate> worst;
  for (const PairBucket& bucket : report.positions) {
    const PairPosition sum = sum_positions(report.by_position, bucket.from, bucket.to);
    if (sum.scored == 0 && figure_info(request.figure).of_losses) continue;  // a bucket of last positions alone
    const Gate gate =
        judge(for_bucket(request, sum.tokens), Positions{bucket.from, bucket.to}, ranged_value(request.figure, sum));
    if (!gate.pass) failed.push_back(bucket.from);
    const bool fails_alone = !gate.pass && worst && worst->pass;  // limits differ: the one that fails is the worst
    const bool passes_beside = gate.pass && worst && !worst->pass;
    if (!worst || fails_alone || (!passes_beside && worse(request.bound, gate.value, worst->value))) worst = gate;
  }
  return worst;
}

}  // namespace

Gate gate_on(std::string_view name, double value, Bound bound, double limit) {
  return {std::string(name), {}, value, bound, limit, holds(bound, value, limit)};
}

// The figures behind these limits: docs/protocols.md.
std::vector<GateRequest> default_gates(DType encoding) {
  const auto gates = [](double kl_mean, double kl_p999, double top1, double ppl_ratio, double kl_growth) {
    return std::vector<GateRequest>{{Figure::kl_mean, Bound::max, kl_mean, {}, true},
                                    {Figure::kl_p999, Bound::max, kl_p999, {}, true},
                                    {Figure::top1, Bound::min, top1, {}, true},
                                    {Figure::ppl_ratio, Bound::max, ppl_ratio, {}, true},
                                    {Figure::kl_growth, Bound::max, kl_growth, {}, true}};
  };
  switch (encoding) {
    case DType::f32:
    case DType::f64: return gates(kKlFloor, 1e-6, 0.999, 1.0001, 10);
    case DType::f16: return gates(1e-5, 1e-3, 0.99, 1.002, 3);
    case DType::bf16: return gates(5e-4, 0.03, 0.95, 1.01, 3);
    default: break;
  }
  const double bits = 8.0 * info(encoding).block_bytes / info(encoding).block_elements;
  if (bits >= 8) return gates(5e-3, 0.25, 0.90, 1.03, 3);
  if (bits >= 6.5) return gates(0.02, 1, 0.85, 1.03, 3);  // q6_k
  if (bits >= 5.1) return gates(0.08, 4, 0.75, 1.08, 3);  // q5_*
  if (bits >= 4) return gates(0.25, 12, 0.55, 1.3, 3);    // q4_*, iq4_*, mxfp4
  if (bits >= 3) return gates(0.8, 40, 0.20, 2, 3);       // q3_k, iq3_*
  if (bits >= 2.2) return gates(2, 100, 0.05, 4, 3);      // q2_k, iq2_xs, iq2_s
  return gates(8, 400, 0, 40, 3);                         // iq2_xxs, iq1_*, ternary
}

std::vector<Gate> apply_gates(const std::vector<GateRequest>& requests, LogitsReport& report) {
  std::vector<Gate> gates;
  std::vector<int> parts;  // positions from which a bound on a distance fails
  report.left_out.clear();
  for (const GateRequest& request : requests) {
    if (request.if_measured && request.figure == Figure::kl_growth && !report.kl_growth) continue;
    if (request.positions) {
      const auto [from, to] = *request.positions;
      gates.push_back(judge_confidently(request, request.positions,
                                        ranged_value(request.figure, sum_positions(report.by_position, from, to)),
                                        report));
      if (!gates.back().pass && !gates.back().inconclusive() && measures_distance(request)) parts.push_back(from);
      continue;
    }
    Gate whole = judge_confidently(request, {}, whole_value(request.figure, report), report);
    if (request.if_measured && whole.inconclusive() && whole.too_few())
      report.left_out.emplace_back(figure_info(request.figure).name, whole.fewest);
    else gates.push_back(std::move(whole));
    if (!figure_info(request.figure).mean) continue;
    std::vector<int> failed;
    if (const std::optional<Gate> worst = worst_bucket(request, report, failed)) gates.push_back(*worst);
    if (measures_distance(request)) parts.insert(parts.end(), failed.begin(), failed.end());
  }
  report.parts_at = parts.empty() ? std::nullopt : std::optional(*std::ranges::min_element(parts));
  return gates;
}

void withhold(std::vector<Gate>& gates) {
  for (Gate& gate : gates)
    if (gate.pass || gate.inconclusive()) gate.pass = false, gate.unproven = true;
}

bool all_pass(const std::vector<Gate>& gates) { return !gates.empty() && std::ranges::all_of(gates, &Gate::pass); }

}  // namespace ropewalk::verify
