#include "formats/unseen_angle.h"

#include <cmath>

#include "formats/json_fields.h"
#include "lib/rope_bands.h"
#include "lib/rope_coverage.h"

namespace ropewalk::formats {

std::optional<std::string> unseen_angle(const RopeSpec& spec, int context, int trained) {
  const RopeCoverage coverage = rope_coverage(unscaled_rope(spec), trained, spec, context);
  const double worst = coverage.unseen_angle_ratio;
  if (worst <= 1.05) return std::nullopt;
  return "at " + std::to_string(context) + " tokens pair " + std::to_string(coverage.unseen_pair) + " turns " +
         trimmed(std::round(worst * 100) / 100) + " times as far as " + std::to_string(trained) +
         " tokens of training took it";
}

}  // namespace ropewalk::formats
