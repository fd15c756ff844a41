#include "tools/baseline.h"

#include <algorithm>
#include <cmath>

#include "formats/json.h"
#include "lib/error.h"
#include "lib/number_text.h"
#include "verify/reference.h"

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

std::string text_in(const Json& object, const char* key, const std::string& path) {
  if (!object.contains(key) || !object[key].is_string()) refuse(path, std::string("has no text '") + key + "'");
  return object[key].get<std::string>();
}

const Json& object_in(const Json& json, const char* key, const std::string& path) {
  if (!json.contains(key) || !json[key].is_object())
    refuse(path, std::string("is no report of a verify that compared logits: it has no object '") + key + "'");
  return json[key];
}

/// Error(bad_input) unless both runs have the same there.
template <class Value>
void same(const Baseline& baseline, const std::string& what, const Value& there, const Value& here) {
  if (there != here)
    refuse(baseline.path,
           "is of another run: " + what + " is " + Json(there).dump() + " there and " + Json(here).dump() + " here");
}

}  // namespace

Json run_identity(const ModelConfig& source, int original_context, const std::string& rope,
                  const std::vector<verify::Window>& windows) {
  return {{"n_layers", source.n_layers},
          {"d_model", source.d_model},
          {"n_heads", source.n_heads},
          {"n_kv_heads", source.n_kv_heads},
          {"head_dim", source.head_dim},
          {"n_vocab", source.n_vocab},
          {"sliding_window", source.sliding_window ? Json(*source.sliding_window) : Json(nullptr)},
          {"original_context", original_context > 0 ? Json(original_context) : Json(nullptr)},
          {"rope", rope},
          {"windows", windows.size()},
          {"ids_sha256", verify::ids_sha256(windows)}};
}

ComparedRun compared_run(const Corpus& corpus, int context, const std::vector<verify::Window>& windows,
                         const Checkpoint& candidate) {
  ComparedRun run{.corpus_sha256 = corpus.sha256, .context = context, .read_as = candidate.read_as, .identity = {}};
  for (const verify::Window& window : windows) run.tokens += window.size();
  return run;
}

Baseline read_baseline(const std::string& path) {
  const Json json = formats::read_json(path);
  if (!json.is_object() || json.value("command", Json()) != "verify" || !json.contains("positions") ||
      !json["positions"].is_array())
    refuse(path, "is no report of a verify that compared logits");
  const Json& logits = object_in(json, "logits", path);
  Baseline out;
  out.path = path;
  ComparedRun& run = out.run;
  if (json.value("pass", Json()) != true)
    out.doubts.push_back(path + " is of a verify that did not pass: being no worse than it says little");
  if (const Json version = json.value("ropewalk", Json()); version != ROPEWALK_VERSION)
    out.doubts.push_back(path + " is of ropewalk " + (version.is_string() ? version.get<std::string>() : "unknown") +
                         ", and this is " + ROPEWALK_VERSION);
  run.corpus_sha256 = text_in(object_in(json, "corpus", path), "sha256", path);
  const double context = number_in(json, "context", path);
  run.context = context >= 0 && context <= 1e9 ? static_cast<int>(context) : -1;
  for (const Json& bucket : json["positions"]) {
    if (!bucket.is_object()) refuse(path, "has a bucket of positions that is none");
    run.tokens += static_cast<std::uint64_t>(std::clamp(number_in(bucket, "tokens", path), 0.0, 1e15));
  }
  run.read_as = text_in(json, "candidate_read_as", path);
  out.precision = text_in(object_in(json, "device", path), "precision", path);
  if (!json.contains("unmerged") || !json["unmerged"].is_boolean()) refuse(path, "does not say 'unmerged'");
  run.unmerged = json["unmerged"].get<bool>();
  run.identity = object_in(json, "run", path);
  out.kl_mean = number_in(logits, "kl_mean", path), out.kl_p999 = number_in(logits, "kl_p999", path);
  out.top1 = number_in(logits, "top1", path), out.perplexity = number_in(logits, "perplexity_candidate", path);
  out.source_perplexity = number_in(logits, "perplexity_source", path);
  return out;
}

void check_same_run(const Baseline& baseline, const ComparedRun& run) {
  same(baseline, "the text's sha256", baseline.run.corpus_sha256, run.corpus_sha256);
  same(baseline, "the context", baseline.run.context, run.context);
  for (const auto& [key, here] : run.identity.items())
    same(baseline, "'" + key + "'", baseline.run.identity.value(key, Json()), here);
  same(baseline, "the number of tokens", baseline.run.tokens, run.tokens);
  same(baseline, "whose rules the candidate is read by", baseline.run.read_as, run.read_as);
  same(baseline, "'unmerged'", baseline.run.unmerged, run.unmerged);
}

std::vector<verify::Gate> baseline_gates(const Baseline& baseline, double worse, const verify::LogitsReport& report,
                                         const std::string& precision) {
  same(baseline, "the precision", baseline.precision, precision);
  using verify::Bound, verify::gate_on;
  return {gate_on("baseline kl_mean", report.kl_mean, Bound::max, baseline.kl_mean * (1 + worse) + verify::kKlFloor),
          gate_on("baseline kl_p999", report.kl_p999, Bound::max, baseline.kl_p999 * (1 + worse) + verify::kKlFloor),
          gate_on("baseline top1", report.top1, Bound::min, baseline.top1 * (1 - worse)),
          gate_on("baseline perplexity", report.perplexity_candidate, Bound::max, baseline.perplexity * (1 + worse))};
}

std::optional<std::string> other_weights(const Baseline& baseline, const verify::LogitsReport& report) {
  constexpr double kSame = 1e-3;  // another release's order of sums is far below, another training far above
  const double now = report.perplexity_source, then = baseline.source_perplexity;
  if (std::abs(now - then) <= kSame * then) return std::nullopt;
  return baseline.path + " is of a source whose perplexity on this text is " + number_text(then, 6) +
         ", and this one's is " + number_text(now, 6) + ": other weights, of which the KL is another's";
}

}  // namespace ropewalk::tools
