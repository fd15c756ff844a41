#pragma once

#include <optional>
#include <string>

#include "lib/rope.h"

namespace ropewalk::formats {

/// "at 4096 tokens pair 7 turns 16 times as far as 256 tokens of training took it", of the pair that goes farthest past
/// what training showed it, over the pairs that never turned once there; nullopt: none by more than a rounded factor's
/// 5 %. The linter's S1, and `rope --flags`.
std::optional<std::string> unseen_angle(const RopeSpec& spec, int context, int trained);

}  // namespace ropewalk::formats
