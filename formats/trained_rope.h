#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "lib/model_config.h"

namespace ropewalk::formats {

/// What a SPEC (parse_rope_spec) scales.
struct TrainedRope {
  int context = 0;  // tokens, the SPEC's original or the base's; 0: the SPEC scales nothing anew (native)
  double theta = 10000;
  std::optional<double> alpha = std::nullopt;  // of method ntk, which is written as a base that is raised by it
};
TrainedRope trained_rope(std::string_view spec, const ModelConfig& base);

/// "at 4096 tokens pair 7 turns 16 times as far as 256 tokens of training took it", of the pair that goes farthest past
/// what training showed it, over the pairs that never turned once there; nullopt: none by more than a rounded factor's
/// 5 %. The linter's S1, and `rope --flags`.
std::optional<std::string> unseen_angle(const RopeSpec& spec, int context, int trained);

}  // namespace ropewalk::formats
