#include "formats/trained_rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "formats/json_fields.h"

namespace ropewalk::formats {

std::optional<std::string> unseen_angle(const RopeSpec& spec, int context, int trained) {
  RopeSpec plain = spec;
  plain.scaling = RopeUnscaled{};
  plain.frequency_divisors.clear();
  const std::vector<double> now = rope_table(spec, context).inv_freq, before = rope_table(plain, trained).inv_freq;
  double worst = 0;
  std::size_t pair = 0;
  for (std::size_t i = 0; i < std::min(now.size(), before.size()); ++i) {
    const double seen = trained * before[i];
    if (!(seen > 0) || seen >= 2 * std::numbers::pi) continue;
    if (const double u = context * now[i] / seen; u > worst) worst = u, pair = i;
  }
  if (worst <= 1.05) return std::nullopt;
  return "at " + std::to_string(context) + " tokens pair " + std::to_string(pair) + " turns " +
         trimmed(std::round(worst * 100) / 100) + " times as far as " + std::to_string(trained) +
         " tokens of training took it";
}

}  // namespace ropewalk::formats
