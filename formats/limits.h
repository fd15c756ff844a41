#pragma once

#include <cstdint>

namespace ropewalk::formats {

/// Tensors one file may claim: every one costs some hundred bytes before the first check of the whole. Checkpoints of a
/// trillion parameters in many shards have some 200,000 in all.
inline constexpr std::uint64_t kMaxTensorsPerFile = std::uint64_t{1} << 18;

}  // namespace ropewalk::formats
