#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <limits>
#include <string>

#include "formats/rope_config.h"
#include "lib/error.h"
#include "verify/judge.h"

namespace ropewalk::verify {
namespace {

constexpr double kNothing = std::numeric_limits<double>::quiet_NaN();

[[noreturn]] void bad_gate(std::string_view text, const std::string& problem) {
  throw Error(ErrorKind::usage, {}, "gate '" + std::string(text) + "' " + problem,
              "write NAME=V or NAME@FROM:TO=V, for example kl_mean@4k:=0.01");
}

int parse_position(std::string_view text, std::string_view gate) {
  if (text == "0") return 0;
  const std::optional<int> position = formats::parse_context(text);
  if (!position) bad_gate(gate, "has '" + std::string(text) + "' where a position was expected");
  return *position;
}

double parse_limit(std::string_view text, std::string_view gate) {
  const bool percent = text.ends_with('%');
  if (percent) text.remove_suffix(1);
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value))
    bad_gate(gate, "has '" + std::string(text) + "' where a number was expected");
  return percent ? value / 100 : value;
}

/// "256:512", "1024:"
std::string range_text(int from, int to) { return std::to_string(from) + ":" + (to == 0 ? "" : std::to_string(to)); }

/// The figures of positions [from, to).
PairPosition over_range(const LogitsReport& report, int from, int to) {
  PairPosition sum;
  const auto end =
      to == 0 ? report.by_position.size() : std::min(report.by_position.size(), static_cast<std::size_t>(to));
  for (std::size_t position = static_cast<std::size_t>(from); position < end; ++position) {
    const PairPosition& p = report.by_position[position];
    sum.kl_sum += p.kl_sum;
    sum.kl_max = max_or_nan(sum.kl_max, p.kl_max);
    sum.nll_source += p.nll_source, sum.nll_candidate += p.nll_candidate;
    sum.tokens += p.tokens, sum.same_top1 += p.same_top1, sum.scored += p.scored;
  }
  return sum;
}

std::string limit_text(double limit) {
  char text[32];
  std::snprintf(text, sizeof text, "%.6g", limit);
  return text;
}

double nll_difference(const PairPosition& p) {
  return p.scored ? (p.nll_candidate - p.nll_source) / double(p.scored) : kNothing;
}

/// A figure that has a value on any range; nullopt if `name` is none.
std::optional<double> ranged_value(const std::string& name, const PairPosition& p) {
  if (name == "kl_mean") return p.tokens ? p.kl_sum / double(p.tokens) : kNothing;
  if (name == "kl_max") return p.tokens ? p.kl_max : kNothing;
  if (name == "top1") return p.tokens ? double(p.same_top1) / double(p.tokens) : kNothing;
  if (name == "nll_difference") return nll_difference(p);
  if (name == "ppl_ratio") return std::exp(nll_difference(p));
  return std::nullopt;
}

bool whole_only(const std::string& name) { return name == "kl_median" || name == "kl_p999" || name == "kl_growth"; }

/// A figure of the whole only.
std::optional<double> whole_value(const std::string& name, const LogitsReport& report) {
  if (report.by_position.empty()) return whole_only(name) ? std::optional(kNothing) : std::nullopt;
  if (name == "kl_median") return report.kl_median;
  if (name == "kl_p999") return report.kl_p999;
  if (name == "kl_growth") return report.kl_growth.value_or(kNothing);
  return std::nullopt;
}

Gate judge(const GateRequest& request, int from, int to, double value) {
  const bool pass =
      request.bound == "max" ? value <= request.limit : value >= request.limit;  // false for NaN either way
  return {request.name, from, to, value, request.bound, request.limit, pass};
}

/// True if `a` is worse than `b` for this bound; a NaN is worst.
bool worse(const GateRequest& request, double a, double b) {
  if (std::isnan(a) || std::isnan(b)) return std::isnan(a) && !std::isnan(b);
  return request.bound == "max" ? a > b : a < b;
}

/// A bucket holds few tokens: one flip among 64 is 1.6 %. Its limit for a share is wider by three standard deviations
/// of a share of n.
GateRequest for_bucket(GateRequest request, std::uint64_t tokens) {
  if (request.name != "top1" || request.limit <= 0 || request.limit >= 1 || tokens == 0) return request;
  const double slack = 3 * std::sqrt(request.limit * (1 - request.limit) / double(tokens));
  request.limit += request.bound == "min" ? -slack : slack;
  return request;
}

/// Bounds whose failing says that the distributions lie apart.
bool measures_distance(const GateRequest& request) {
  return request.bound == "max" ? request.name == "kl_mean" || request.name == "kl_max" : request.name == "top1";
}

bool of_losses(const std::string& name) { return name == "ppl_ratio" || name == "nll_difference"; }

bool is_mean(const std::string& name) {
  return name == "kl_mean" || name == "top1" || name == "ppl_ratio" || name == "nll_difference";
}

}  // namespace

GateRequest parse_gate(const std::string& bound, std::string_view text) {
  const std::size_t equals = text.find('=');
  if (equals == std::string_view::npos || equals == 0) bad_gate(text, "has no NAME=V");
  GateRequest out{.name = {}, .bound = bound, .from = 0, .to = 0, .limit = parse_limit(text.substr(equals + 1), text)};
  const std::string_view left = text.substr(0, equals);
  const std::size_t at = left.find('@');
  out.name = left.substr(0, at);
  if (out.name.empty()) bad_gate(text, "has no NAME=V");
  if (at == std::string_view::npos) return out;
  const std::string_view range = left.substr(at + 1);
  const std::size_t colon = range.find(':');
  if (colon == std::string_view::npos) {
    parse_position(range, text);
    bad_gate(text, "has one position, a range was expected");  // not even 0, whose 0:0 would mean all
  }
  if (colon > 0) out.from = parse_position(range.substr(0, colon), text);
  if (colon + 1 < range.size()) {
    out.to = parse_position(range.substr(colon + 1), text);
    if (out.to <= out.from) bad_gate(text, "has an empty range");
  }
  return out;
}

// The figures behind these limits: docs/protocols.md.
std::vector<GateRequest> default_gates(std::string_view encoding) {
  const auto gates = [](double kl_mean, double kl_p999, double top1, double ppl_ratio, double kl_growth) {
    return std::vector<GateRequest>{{"kl_mean", "max", 0, 0, kl_mean},
                                    {"kl_p999", "max", 0, 0, kl_p999},
                                    {"top1", "min", 0, 0, top1},
                                    {"ppl_ratio", "max", 0, 0, ppl_ratio},
                                    {"kl_growth", "max", 0, 0, kl_growth, true}};
  };
  if (encoding == "f32" || encoding == "f64") return gates(kKlFloor, 1e-6, 0.999, 1.0001, 10);
  if (encoding == "f16") return gates(1e-5, 1e-3, 0.99, 1.002, 3);
  if (encoding == "bf16") return gates(5e-4, 0.03, 0.95, 1.01, 3);
  return gates(5e-3, 0.25, 0.90, 1.03, 3);
}

void check_gates(const std::vector<GateRequest>& requests, int context) {
  const auto refuse = [](const std::string& problem, const std::string& fix) {
    throw Error(ErrorKind::usage, {}, problem, fix);
  };
  for (const GateRequest& request : requests) {
    if (!whole_only(request.name) && !ranged_value(request.name, {}))
      refuse("gate '" + request.name + "' is not known",
             "use kl_mean, kl_median, kl_p999, kl_max, kl_growth, top1, ppl_ratio or nll_difference");
    if (request.name == "top1" && !(request.limit >= 0 && request.limit <= 1))
      refuse("gate 'top1' has a limit of " + limit_text(request.limit) + ", shares go up to 1", "write 98% or 0.98");
    if (request.from == 0 && request.to == 0) continue;
    const std::string gate =
        "gate '" + request.name + "@" +
        (request.from == request.to ? std::to_string(request.from) : range_text(request.from, request.to)) + "'";
    if (request.from == request.to)
      refuse(gate + " has one position, a range was expected", "write " + request.name + "@FROM:TO");
    if (whole_only(request.name))
      refuse("gate '" + request.name + "' has no value on a range of positions", "leave the range out");
    if (context == 0) continue;
    const int last = context - (of_losses(request.name) ? 1 : 0);  // nothing follows a window's last token
    if (request.from >= last || request.to > context)
      refuse(gate + " reaches past the context evaluated, whose positions are 0:" + std::to_string(context),
             "give a larger -c or a range within it");
  }
}

std::vector<Gate> apply_gates(const std::vector<GateRequest>& requests, LogitsReport& report) {
  std::vector<Gate> gates;
  check_gates(requests, 0);
  report.parts_at.reset();
  const auto part = [&](int position) { report.parts_at = std::min(report.parts_at.value_or(position), position); };
  for (const GateRequest& request : requests) {
    const bool ranged = request.from != 0 || request.to != 0;
    if (request.if_measured && request.name == "kl_growth" && !report.kl_growth) continue;
    if (const std::optional<double> whole = whole_value(request.name, report)) {
      gates.push_back(judge(request, 0, 0, *whole));
      continue;
    }
    gates.push_back(judge(request, request.from, request.to,
                          ranged_value(request.name, over_range(report, request.from, request.to)).value()));
    if (ranged && !gates.back().pass && measures_distance(request)) part(request.from);
    if (ranged || !is_mean(request.name)) continue;

    std::optional<Gate> worst;
    for (const PairBucket& bucket : report.positions) {
      const PairPosition inside = over_range(report, bucket.from, bucket.to);
      if (inside.scored == 0 && of_losses(request.name)) continue;  // a bucket of last positions alone
      const Gate gate =
          judge(for_bucket(request, inside.tokens), bucket.from, bucket.to, *ranged_value(request.name, inside));
      if (!gate.pass && measures_distance(request)) part(bucket.from);
      const bool fails_alone = !gate.pass && worst && worst->pass;  // limits differ: the one that fails is the worst
      const bool passes_beside = gate.pass && worst && !worst->pass;
      if (!worst || fails_alone || (!passes_beside && worse(request, gate.value, worst->value))) worst = gate;
    }
    if (worst) gates.push_back(*worst);
  }
  return gates;
}

bool all_pass(const std::vector<Gate>& gates) { return !gates.empty() && std::ranges::all_of(gates, &Gate::pass); }

}  // namespace ropewalk::verify
