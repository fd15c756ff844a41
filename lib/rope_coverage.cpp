#include "lib/rope_coverage.h"

#include <algorithm>
#include <numbers>

namespace ropewalk {

RopeCoverage rope_coverage(const RopeSpec& trained, int trained_context, const RopeSpec& target, int target_context) {
  constexpr double kTurn = 2 * std::numbers::pi;
  constexpr double kManyTurns = 32;  // YaRN's beta_fast: pairs above it are never interpolated there
  const RopeTable before = rope_table(trained, trained_context), after = rope_table(target, target_context);
  RopeCoverage coverage{.attention_factor = after.attention_factor};
  for (std::size_t pair = 0; pair < std::min(before.inv_freq.size(), after.inv_freq.size()); ++pair) {
    const double seen = trained_context * before.inv_freq[pair];  // radians
    if (seen <= 0) continue;
    if (seen < kTurn)
      if (const double ratio = target_context * after.inv_freq[pair] / seen; ratio > coverage.unseen_angle_ratio)
        coverage.unseen_angle_ratio = ratio, coverage.unseen_pair = pair;
    if (seen >= kManyTurns * kTurn)
      coverage.high_frequency_damage =
          std::max(coverage.high_frequency_damage, 1 - after.inv_freq[pair] / before.inv_freq[pair]);
  }
  return coverage;
}

}  // namespace ropewalk
