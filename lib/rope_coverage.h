#pragma once

#include <cstddef>

#include "lib/rope.h"

namespace ropewalk {

/// What a rope does to a model trained with another one, from the frequencies alone.
struct RopeCoverage {
  /// Largest angle at the target context over the largest angle seen in training, over the pairs that never completed a
  /// turn there. 1 or less:
  /// no pair meets an angle it was not trained on.
  double unseen_angle_ratio = 0;
  std::size_t unseen_pair = 0;  // whose ratio that is
  /// Largest relative slow-down of the pairs that turn at least 32 times in the training context: these tell neighbours
  /// apart. 0: untouched.
  double high_frequency_damage = 0;
  double attention_factor = 1;
};

/// `trained` at `trained_context` tokens against `target` at `target_context`. Both have the same number of pairs.
RopeCoverage rope_coverage(const RopeSpec& trained, int trained_context, const RopeSpec& target, int target_context);

}  // namespace ropewalk
