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

/// What the steps of a tokenizer.json may make of a text: those of published ones make at most some twenty bytes of one
/// (compatible forms, bytes as characters), and a chain of replacements would fill the memory before it is done.
inline constexpr std::size_t kMaxGrowth = 64;
inline std::size_t most_bytes_of(std::size_t text_bytes) {
  return std::clamp(text_bytes * kMaxGrowth, std::size_t{64} << 10, std::size_t{1} << 30);
}
/// Error(unsupported) without a place if `bytes` are more than `most`. `what`: "normalizing".
void check_growth(const char* what, std::size_t bytes, std::size_t most);

}  // namespace ropewalk::formats
