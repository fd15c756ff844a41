#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "lib/small_float.h"

// The fields of bytes.h and k_types.h, written. Bits are added: a block is zero before.
namespace ropewalk::codecs {

inline void add_bits(std::byte& byte, std::uint32_t bits) { byte |= static_cast<std::byte>(bits); }

inline void put_word(std::byte* bytes, std::uint32_t word) {
  static_assert(std::endian::native == std::endian::little);
  const auto stored = static_cast<std::uint16_t>(word);  // at once: of two bytes, reading it back waits for both
  std::memcpy(bytes, &stored, 2);
}
inline void put_dword(std::byte* bytes, std::uint32_t dword) {
  put_word(bytes, dword);
  put_word(bytes + 2, dword >> 16);
}
/// As f16; returns what was stored. ggml keeps no payload of a NaN.
inline float put_half(std::byte* bytes, float value) {
  const std::uint32_t code = std::isnan(value) ? (std::signbit(value) ? 0xfe00u : 0x7e00u) : Half::narrow(value);
  put_word(bytes, code);
  return Half::widen(code);
}

inline void put_nibble(std::byte* bytes, int i, int n, std::uint32_t level) {
  add_bits(bytes[i % n], (level & 15) << i / n * 4);
}
inline void put_two_bits(std::byte* bytes, int i, std::uint32_t level) {
  add_bits(bytes[i / 128 * 32 + i % 32], (level & 3) << i % 128 / 32 * 2);
}

/// A scale as NVFP4 stores it, rounded half up in its magnitude's bits; at most 448.
inline std::uint32_t narrow_ue4m3(float x) {
  if (!(x > 0.0f)) return 0;
  if (x > 448.0f) x = 448.0f;
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(x);
  const int exponent = static_cast<int>(bits >> 23 & 255) - 120;
  if (exponent <= 0) return static_cast<std::uint32_t>(std::min(7, static_cast<int>(x * 512.0f + 0.5f)));
  const std::uint32_t code = (static_cast<std::uint32_t>(exponent) << 3 | (bits >> 20 & 7)) + (bits >> 19 & 1);
  return code < 0x78 ? code : 0x7e;  // from 256 on all is 448
}

/// PackedScales. In order of groups: the first four also take what a wrapped level has above its six bits.
inline void put_scale_and_min(std::byte* s, int group, std::uint32_t scale, std::uint32_t min) {
  if (group < 4) {
    s[group] = static_cast<std::byte>(scale);
    s[group + 4] = static_cast<std::byte>(min);
  } else {
    s[group + 4] = static_cast<std::byte>((scale & 15) | (min & 15) << 4);
    add_bits(s[group - 4], scale >> 4 << 6);
    add_bits(s[group], min >> 4 << 6);
  }
}

}  // namespace ropewalk::codecs
