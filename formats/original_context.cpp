#include "formats/original_context.h"

#include <cmath>

#include "formats/known_models.h"

namespace ropewalk::formats {

OriginalContext original_context(const ModelConfig& config, std::string_view length) {
  const std::string declared(length);
  if (const std::optional<int> said = rope_original_context(config.rope)) {
    for (const RopeProvenance& from : config.rope.provenance)
      if (from.field == "original_context" && !from.pointer.empty())
        return {*said, from.pointer.substr(from.pointer.rfind('/') + 1)};
    return {*said, "the rope"};
  }
  if (const std::optional<double> s = rope_factor(config.rope); s && *s != 1)
    return {int(std::lround(config.context / *s)), declared + " / factor"};
  const KnownModel* known = known_model(config.model_type, config.rope.theta, config.n_vocab);
  if (config.rope.frequency_divisors.empty() && known && known->trained > 0 && known->trained < config.context)
    return {known->trained, std::string("what ") + known->name + " was trained at, which the file looks like; " +
                                declared + " is " + std::to_string(config.context)};
  return {config.context, declared};
}

}  // namespace ropewalk::formats
