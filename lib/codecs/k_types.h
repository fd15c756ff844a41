#pragma once

#include "lib/codecs/bytes.h"
#include "lib/codecs/plain_types.h"

// ggml's types of 256 elements whose groups have quantized scales (ggml 0.25.3). How a type is described is said in
// block_types.h.
namespace ropewalk::codecs {

/// 2-bit field of element `i` of 256: bytes 32 h .. 32 h + 31 hold elements 128 h + 32 k .. + 31 in their bits 2 k.
constexpr int two_bits(const std::byte* bytes, int i) {
  return static_cast<int>(byte_at(bytes, i / 128 * 32 + i % 32) >> i % 128 / 32 * 2 & 3);
}
/// 4-bit field of element `i` of 256: bytes 32 k .. 32 k + 31 hold elements 64 k .. + 31 below and the next 32 above.
constexpr int four_bits(const std::byte* bytes, int i) {
  return static_cast<int>(byte_at(bytes, i / 64 * 32 + i % 32) >> i % 64 / 32 * 4 & 15);
}
/// Bit `i / 32` of byte `i % 32`: the top bit of element `i` of 256.
constexpr int top_bit(const std::byte* bytes, int i) { return static_cast<int>(byte_at(bytes, i % 32) >> i / 32 & 1); }

/// Eight 6-bit scales and eight 6-bit mins in 12 bytes: the first four of each in bytes 0-3 and 4-7, whose top two bits
/// are those of the last four, the lower halves of which are in bytes 8-11, scales below, mins above.
struct PackedScales {
  static constexpr int scale(const std::byte* s, int group) { return field(s, group, 0); }
  static constexpr int min(const std::byte* s, int group) { return field(s, group, 1); }

 private:
  static constexpr int field(const std::byte* s, int group, int which) {
    const std::uint32_t here = byte_at(s, group % 4 + 4 * which);
    if (group < 4) return static_cast<int>(here & 63);
    return static_cast<int>((byte_at(s, group + 4) >> 4 * which & 15) | here >> 6 << 4);
  }
};

/// u4 scale, u4 min [16] | u2 q[256] | f16 d | f16 dmin
struct Q2K {
  static constexpr int kElements = 256, kBytes = 84, kGroup = 16;
  static constexpr float kLargest = 3;
  static constexpr Affine scale(const std::byte* block, int group) {
    const std::uint32_t both = byte_at(block, group);
    return {half_at(block, 80) * static_cast<float>(both & 15), half_at(block, 82) * static_cast<float>(both >> 4)};
  }
  static constexpr float value(const std::byte* block, Affine s, int i) {
    return s.d * static_cast<float>(two_bits(block + 16, i)) - s.m;
  }
};

/// top bits, 32 bytes | u2 q[256] | i6 scales[16] in 12 bytes, offset by 32 | f16 d
struct Q3K {
  static constexpr int kElements = 256, kBytes = 110, kGroup = 16;
  static constexpr float kLargest = 4;
  static constexpr float scale(const std::byte* block, int group) {
    const std::byte* s = block + 96;  // 8 bytes of low halves, then 4 of top pairs
    const int low = nibble(s, group, 8), high = static_cast<int>(byte_at(s, 8 + group % 4) >> group / 4 * 2 & 3);
    return half_at(block, 108) * static_cast<float>((low | high << 4) - 32);
  }
  static constexpr float value(const std::byte* block, float d, int i) {
    return d * static_cast<float>(two_bits(block + 32, i) - (top_bit(block, i) != 0 ? 0 : 4));
  }
};

/// f16 d | f16 dmin | u6 scales[8], mins[8] in 12 bytes | u4 q[256]
struct Q4K {
  static constexpr int kElements = 256, kBytes = 144, kGroup = 32;
  static constexpr float kLargest = 15;
  static constexpr Affine scale(const std::byte* block, int group) {
    return {half_at(block, 0) * static_cast<float>(PackedScales::scale(block + 4, group)),
            half_at(block, 2) * static_cast<float>(PackedScales::min(block + 4, group))};
  }
  static constexpr float value(const std::byte* block, Affine s, int i) {
    return s.d * static_cast<float>(four_bits(block + 16, i)) - s.m;
  }
};

/// f16 d | f16 dmin | u6 scales[8], mins[8] in 12 bytes | top bits, 32 bytes | u4 q[256]
struct Q5K {
  static constexpr int kElements = 256, kBytes = 176, kGroup = 32;
  static constexpr float kLargest = 31;
  static constexpr Affine scale(const std::byte* block, int group) { return Q4K::scale(block, group); }
  static constexpr float value(const std::byte* block, Affine s, int i) {
    return s.d * static_cast<float>(four_bits(block + 48, i) + 16 * top_bit(block + 16, i)) - s.m;
  }
};

/// u4 low[256] | u2 high[256] | i8 scales[16] | f16 d. The low halves: bytes 64 h .. 64 h + 63 hold elements 128 h ..
/// + 63 below and the next 64 above.
struct Q6K {
  static constexpr int kElements = 256, kBytes = 210, kGroup = 16;
  static constexpr float kLargest = 32;
  static constexpr float scale(const std::byte* block, int group) {
    return half_at(block, 208) * static_cast<float>(signed_byte_at(block, 192 + group));
  }
  static constexpr float value(const std::byte* block, float d, int i) {
    const int low = nibble(block + i / 128 * 64, i % 128, 64);
    return d * static_cast<float>((low | two_bits(block + 128, i) << 4) - 32);
  }
};

/// f16 d | u2 high[8] | u4 low[8]: scales, offset by 32 | u4 q[8][32], indices of levels
struct Iq4Xs {
  static constexpr int kElements = 256, kBytes = 136, kGroup = 32;
  static constexpr float kLargest = 127;
  static constexpr float scale(const std::byte* block, int group) {
    const std::uint32_t low = byte_at(block, 4 + group / 2) >> group % 2 * 4 & 15,
                        high = word_at(block, 2) >> 2 * group & 3;
    return half_at(block, 0) * static_cast<float>(static_cast<int>(low | high << 4) - 32);
  }
  static constexpr float value(const std::byte* block, float d, int i) {
    return d * static_cast<float>(kIq4Levels[nibble(block + 8 + i / 32 * 16, i % 32, 16)]);
  }
};

}  // namespace ropewalk::codecs
