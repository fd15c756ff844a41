#include <algorithm>
#include <cmath>

#include "lib/rope_bands.h"
#include "lib/rope_coverage.h"
#include "tools/describe.h"
#include "tools/rope_report.h"

namespace ropewalk::tools {
namespace {

using formats::EngineRope;

Json number_or_null(const std::optional<double>& value) { return value ? Json(*value) : Json(nullptr); }
Json count_or_null(const std::optional<int>& value) { return value ? Json(*value) : Json(nullptr); }

/// As the engine rounds: its table in float32.
Json turned(const EngineRope& rope, int length) {
  const RopeSpec& spec = rope.spec;
  const formats::EngineTable table = engine_table(rope, length);
  std::vector<double> inv_freq(table.inv_freq.begin(), table.inv_freq.end());
  for (double& f : inv_freq) f /= rope.position_divisor;
  return {{"method", rope_method_name(spec)},
          {"theta", spec.theta},
          {"inv_freq", inv_freq},
          {"attention_factor", rope_table(spec, length).attention_factor},
          {"original_context", count_or_null(rope_original_context(spec))},
          {"factor", number_or_null(rope_factor(spec))}};
}

Json error_json(const std::optional<formats::EngineError>& error) {
  if (!error) return nullptr;
  return {{"kind", error->kind}, {"text", error->text}, {"pointer", error->pointer}};
}

Json difference_json(const RopeTarget& target) {
  if (!target.difference || target.reading.error) return nullptr;
  const formats::RopeDifference& difference = *target.difference;
  return {{"pairs", difference.pairs},
          {"first_pair", difference.first_pair < 0 ? Json(nullptr) : Json(difference.first_pair)},
          {"worst_ratio", difference.worst_ratio},
          {"attention_factor", difference.attention},
          {"context", difference.context},
          {"shape", difference.shape}};
}

Json flags_json(const std::optional<formats::EngineFlags>& flags) {
  if (!flags) return nullptr;
  return {{"possible", flags->possible},
          {"line", flags->possible ? Json(flags->line) : Json(nullptr)},
          {"reason", flags->reason.empty() ? Json(nullptr) : Json(flags->reason)},
          {"notes", flags->notes}};
}

/// One rope: its keys at the top. Several: each under its kind of layer, and the keys at the top are null.
Json target_json(const RopeTarget& target, const std::string& name, int length) {
  const formats::EngineReading& reading = target.reading;
  Json json = {{"engine", name}};
  const bool single = reading.ropes.size() == 1 && reading.ropes[0].layer_type.empty();
  if (single) json.update(turned(reading.ropes[0], length));
  else
    for (const char* key : {"method", "theta", "inv_freq", "attention_factor", "original_context", "factor"})
      json[key] = nullptr;
  json["layers"] = nullptr;
  if (!single && !reading.ropes.empty()) {
    json["layers"] = Json::object();
    for (const EngineRope& rope : reading.ropes) json["layers"][rope.layer_type] = turned(rope, length);
  }
  json["context"] = count_or_null(reading.context);
  json["error"] = error_json(reading.error);
  json["context_error"] = error_json(reading.context_error);
  json["difference"] = difference_json(target);
  json["flags"] = flags_json(target.flags);
  Json notices = Json::array();
  for (const formats::EngineNotice& notice : reading.notices)
    notices.push_back({{"pointer", notice.pointer}, {"text", notice.text}});
  json["notices"] = notices;
  return json;
}

Json meant_json(const RopeSource& source, const formats::WantedLayer& layer, int length) {
  const int original = trained_on(source, layer);
  const RopeCoverage coverage =
      rope_coverage(unscaled_rope(layer.spec), original, layer.spec, std::max(1, reach_of(source, layer)));
  Json pairs = Json::array();
  for (const RopePair& pair : rope_pairs(layer.spec, original, length))
    pairs.push_back({{"wavelength", pair.wavelength},
                     {"turns", pair.turns},
                     {"before", pair.before},
                     {"after", pair.after},
                     {"band", rope_band_name(pair.band)}});
  return {{"layers", layer.layer_type.empty() ? Json(nullptr) : Json(layer.layer_type)},
          {"rope", rope_json(layer.spec, length)},
          {"original_context", original},
          {"unseen_angle_ratio", coverage.unseen_angle_ratio},
          {"high_frequency_damage", coverage.high_frequency_damage},
          {"pairs", pairs}};
}

}  // namespace

Json rope_report_json(const RopeSource& source, const std::vector<RopeTarget>& targets, const RopeQuestion& question) {
  Json meant = nullptr;
  if (source.meant) {
    meant = Json::array();
    for (const formats::WantedLayer& layer : source.meant->layers)
      meant.push_back(meant_json(source, layer, question.sequence_length));
  }
  Json list = Json::array();
  for (const RopeTarget& target : targets)
    list.push_back(target_json(target, target.reading.engine.title(), question.sequence_length));
  if (targets.empty() && source.meant) {  // asked for none: what is meant
    RopeTarget meaning;
    for (const formats::WantedLayer& layer : source.meant->layers)
      meaning.reading.ropes.push_back({layer.layer_type, layer.spec});
    meaning.reading.context = source.meant->context;
    list.push_back(target_json(meaning, source.read_as, question.sequence_length));
  }
  return {{"read_as", source.read_as.empty() ? Json(nullptr) : Json(source.read_as)},
          {"context", source.meant ? Json(source.meant->context) : Json(nullptr)},
          {"sequence_length", question.sequence_length},
          {"meant", meant},
          {"targets", list},
          {"engines", nullptr}};
}

}  // namespace ropewalk::tools
