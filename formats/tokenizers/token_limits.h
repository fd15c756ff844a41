#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace ropewalk::formats {

inline constexpr std::int64_t kMaxTokenId = (1 << 24) - 1;
/// Of an added token or a piece: what a search looks ahead.
inline constexpr std::size_t kMaxTokenBytes = 4096;

/// One past the largest id that a file of `n` tokens may give one. Tables by id are made of it, and a lone id of 16
/// million would claim a gigabyte; real files have few holes.
inline std::int64_t token_id_end(std::size_t n) {
  return std::min(kMaxTokenId + 1, static_cast<std::int64_t>(n) * 4 + 65536);
}

}  // namespace ropewalk::formats
