#include "tools/baseline.h"

#include <algorithm>
#include <cmath>

#include "formats/json.h"
#include "lib/error.h"

namespace ropewalk::tools {
namespace {

[[noreturn]] void refuse(const std::string& path, const std::string& problem) {
  throw Error(ErrorKind::bad_input, {.path = path}, problem,
              "give the --json of a verify at the same text and context");
}

double number_in(const Json& object, const char* key, const std::string& path) {
  if (!object.contains(key) || !object[key].is_number() || !std::isfinite(object[key].get<double>()))
    refuse(path, std::string("has no number '") + key + "'");
  return object[key].get<double>();
}

std::uint64_t compared(const verify::LogitsReport& report) {
  return verify::sum_positions(report.by_position, 0, {}).tokens;
}

}  // namespace

Baseline read_baseline(const std::string& path) {
  const Json json = formats::read_json(path);
  if (!json.is_object() || json.value("command", Json()) != "verify" || !json.contains("logits") ||
      !json["logits"].is_object() || !json.contains("corpus") || !json["corpus"].is_object() ||
      !json["corpus"].contains("sha256") || !json["corpus"]["sha256"].is_string() || !json.contains("positions") ||
      !json["positions"].is_array())
    refuse(path, "is no report of a verify that compared logits");
  Baseline out;
  out.path = path;
  out.corpus_sha256 = json["corpus"]["sha256"].get<std::string>();
  const double context = number_in(json, "context", path);
  out.context = context >= 0 && context <= 1e9 ? static_cast<int>(context) : -1;
  for (const Json& bucket : json["positions"]) {
    if (!bucket.is_object()) refuse(path, "has a bucket of positions that is none");
    out.tokens += static_cast<std::uint64_t>(std::clamp(number_in(bucket, "tokens", path), 0.0, 1e15));
  }
  const Json& logits = json["logits"];
  out.kl_mean = number_in(logits, "kl_mean", path), out.kl_p999 = number_in(logits, "kl_p999", path);
  out.top1 = number_in(logits, "top1", path), out.perplexity = number_in(logits, "perplexity_candidate", path);
  return out;
}

std::vector<verify::Gate> baseline_gates(const Baseline& baseline, double worse, const LogitsVerdict& logits,
                                         const std::string& corpus_sha256, int context) {
  const verify::LogitsReport& report = logits.report;
  if (baseline.corpus_sha256 != corpus_sha256) refuse(baseline.path, "is of another text");
  if (baseline.context != context || baseline.tokens != compared(report))
    refuse(baseline.path, "is of " + std::to_string(baseline.tokens) + " tokens at a context of " +
                              std::to_string(baseline.context) + ", and this is of " +
                              std::to_string(compared(report)) + " at " + std::to_string(context));
  using verify::Bound, verify::gate_on;
  return {gate_on("baseline kl_mean", report.kl_mean, Bound::max, baseline.kl_mean * (1 + worse) + verify::kKlFloor),
          gate_on("baseline kl_p999", report.kl_p999, Bound::max, baseline.kl_p999 * (1 + worse) + verify::kKlFloor),
          gate_on("baseline top1", report.top1, Bound::min, baseline.top1 * (1 - worse)),
          gate_on("baseline perplexity", report.perplexity_candidate, Bound::max, baseline.perplexity * (1 + worse))};
}

}  // namespace ropewalk::tools
