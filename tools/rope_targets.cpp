// What engines answer, and which of them turn alike.
#include <algorithm>

#include "formats/unseen_angle.h"
#include "tools/rope_report.h"

namespace ropewalk::tools {
namespace {

using formats::EngineReading;
using formats::WantedLayer;

/// What the linter's S1 says, of a context that was asked for: flags lift limits, not what the model has seen.
std::vector<std::string> past_training(const RopeSource& source) {
  std::vector<std::string> out;
  if (source.meant->context <= source.declared) return out;
  for (const WantedLayer& layer : source.meant->layers) {
    const bool known = layer.spec.frequency_divisors.empty() || rope_original_context(layer.spec);
    if (!known || std::holds_alternative<RopeProportional>(layer.spec.scaling)) continue;
    if (const auto unseen = formats::unseen_angle(layer.spec, reach_of(source, layer), trained_on(source, layer)))
      out.push_back((layer.layer_type.empty() ? "" : layer.layer_type + ": ") + *unseen +
                    ": no flag mends that, extend --plan says what does");
  }
  return out;
}

}  // namespace

bool not_followed(const EngineReading& reading) {
  return reading.error && reading.error->kind == formats::kNotFollowed;
}

std::vector<RopeTarget> ask_engines(const RopeSource& source, const RopeQuestion& question) {
  std::vector<RopeTarget> targets;
  const std::vector<std::string> untrained =
      question.flags && source.meant ? past_training(source) : std::vector<std::string>();
  for (const formats::EngineVersion& engine : question.engines) {
    RopeTarget target{source.read(engine, question.options), std::nullopt, std::nullopt};
    if (source.meant) {
      target.difference = compare_rope(*source.meant, target.reading, question.sequence_length);
      if (target.reading.starts() && !target.difference->context) target.reading.context = source.meant->context;
      if (question.flags) {
        formats::EngineOptions alone = question.options;
        alone.context.reset();
        alone.tokenizer_limit = source.tokenizer_limit;
        target.flags = engine_flags(engine, source.on_disk(), *source.meant, alone);
        if (target.flags->possible)
          target.flags->notes.insert(target.flags->notes.end(), untrained.begin(), untrained.end());
      }
    }
    targets.push_back(std::move(target));
  }
  return targets;
}

std::vector<RopeGroup> rope_readings(const RopeSource& source, const std::vector<RopeTarget>& targets) {
  std::vector<RopeGroup> readings;
  if (source.meant) readings.push_back({"meant", *source.meant});
  for (const RopeTarget& target : targets)
    if (!target.reading.error) readings.push_back({target.reading.engine.title(), wanted_rope(target.reading, 0)});
  return readings;
}

std::vector<std::string> without_rope(const std::vector<RopeTarget>& targets) {
  std::vector<std::string> out;
  for (const RopeTarget& target : targets)
    if (target.reading.error)
      out.push_back(target.reading.engine.title() +
                    (not_followed(target.reading) ? ", which is not followed here" : " does not load it"));
  return out;
}

std::vector<RopeGroup> distinct_ropes(const RopeSource& source, const std::vector<RopeTarget>& targets,
                                      int sequence_length) {
  std::vector<RopeGroup> groups;
  if (source.meant) groups.push_back({"meant", *source.meant});
  for (const RopeTarget& target : targets) {
    if (target.reading.error) continue;
    const auto same = std::find_if(groups.begin(), groups.end(), [&](const RopeGroup& group) {
      return compare_rope(group.rope, target.reading, sequence_length).same_rotation();
    });
    if (same != groups.end()) same->name += ", " + target.reading.engine.title();
    else groups.push_back({target.reading.engine.title(), wanted_rope(target.reading, 0)});
  }
  return groups;
}

}  // namespace ropewalk::tools
