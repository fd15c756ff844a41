#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include "lib/small_float.h"

namespace ropewalk::codecs {

/// Little-endian fields of a block, at a byte offset: blocks lie anywhere.
constexpr std::uint32_t byte_at(const std::byte* block, int at) { return static_cast<std::uint32_t>(block[at]); }
constexpr std::uint32_t word_at(const std::byte* block, int at) {
  return byte_at(block, at) | byte_at(block, at + 1) << 8;
}
constexpr std::uint32_t dword_at(const std::byte* block, int at) {
  return word_at(block, at) | word_at(block, at + 2) << 16;
}
constexpr float half_at(const std::byte* block, int at) { return Half::widen(word_at(block, at)); }
constexpr int signed_byte_at(const std::byte* block, int at) { return static_cast<std::int8_t>(byte_at(block, at)); }

/// Field `i` of 4-bit fields whose low halves come first: of `n` bytes, i < n the low ones, i >= n the high ones.
constexpr int nibble(const std::byte* bytes, int i, int n) {
  return static_cast<int>(byte_at(bytes, i % n) >> (i / n * 4) & 15);
}

/// -x where `negative` is 1, x where it is 0; without a branch, which random signs would mislead.
constexpr float signed_by(float x, std::uint32_t negative) {
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(x) ^ negative << 31);
}

/// What a group of elements shares where a value is d * q - m or d * q + m.
struct Affine {
  float d, m;
};

}  // namespace ropewalk::codecs
