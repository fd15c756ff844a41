#pragma once

#include "lib/codecs/bytes.h"
#include "lib/codecs/iq_grids.h"

// ggml's types that store groups of elements as entries of a code book (ggml 0.25.3). How a type is described is said in
// block_types.h.
namespace ropewalk::codecs {

/// Levels of the code books.
constexpr float iq2_level(std::uint32_t entry, int i) {
  const std::uint32_t level = entry >> 2 * i & 3;
  return static_cast<float>(8 + 17 * level + (level >> 1));  // 8, 25, 43
}
constexpr float iq3_xxs_level(std::uint32_t entry, int i) {
  const std::uint32_t level = entry >> 3 * i & 7;
  return static_cast<float>(4 + 8 * level + ((level + 1) >> 3 << 1));  // 4, 12 .. 52, 62
}
constexpr float iq3_s_level(std::uint32_t entry, int i) { return static_cast<float>(1 + 2 * (entry >> 3 * i & 7)); }
constexpr float iq1_level(std::uint32_t entry, int i) {
  return static_cast<float>(static_cast<int>(entry >> 2 * i & 3) - 1);
}

/// Seven signs and an eighth that makes their number even.
constexpr std::uint32_t even_signs(std::uint32_t seven) {
  std::uint32_t parity = seven ^ seven >> 4;  // no popcount: baseline x86-64 has none
  parity ^= parity >> 2;
  return seven | ((parity ^ parity >> 1) & 1) << 7;
}

/// f16 d | 8 groups of: u8 entry[4] | u7 signs[4], u4 scale
struct Iq2Xxs {
  static constexpr int kElements = 256, kBytes = 66, kGroup = 32;
  static constexpr float kLargest = 43;
  static constexpr float scale(const std::byte* block, int group) {
    return half_at(block, 0) * (0.5f + static_cast<float>(dword_at(block, 6 + 8 * group) >> 28)) * 0.25f;
  }
  static constexpr float value(const std::byte* block, float d, int i) {
    const std::byte* group = block + 2 + i / 32 * 8;
    const int eight = i % 32 / 8;
    const std::uint32_t signs = even_signs(dword_at(group, 4) >> 7 * eight & 127);
    return signed_by(d * iq2_level(kIq2Xxs[byte_at(group, eight)], i % 8), signs >> i % 8 & 1);
  }
};

/// f16 d | u9 entry, u7 signs [32] | u4 scales[16]
struct Iq2Xs {
  static constexpr int kElements = 256, kBytes = 74, kGroup = 16;
  static constexpr float kLargest = 43;
  static constexpr float scale(const std::byte* block, int group) {
    const std::uint32_t s = byte_at(block, 66 + group / 2) >> group % 2 * 4 & 15;
    return half_at(block, 0) * (0.5f + static_cast<float>(s)) * 0.25f;
  }
  static constexpr float value(const std::byte* block, float d, int i) {
    const std::uint32_t q = word_at(block, 2 + i / 8 * 2);
    return signed_by(d * iq2_level(kIq2Xs[q & 511], i % 8), even_signs(q >> 9) >> i % 8 & 1);
  }
};

/// f16 d | u8 entry[32] | u8 signs[32] | u2 top bits of entry[32] | u4 scales[16]
struct Iq2S {
  static constexpr int kElements = 256, kBytes = 82, kGroup = 16;
  static constexpr float kLargest = 43;
  static constexpr float scale(const std::byte* block, int group) {
    const std::uint32_t s = byte_at(block, 74 + group / 2) >> group % 2 * 4 & 15;
    return half_at(block, 0) * (0.5f + static_cast<float>(s)) * 0.25f;
  }
  static constexpr float value(const std::byte* block, float d, int i) {
    const std::uint32_t top = byte_at(block, 66 + i / 32) >> i % 32 / 8 * 2 & 3;
    const std::uint32_t entry = kIq2S[byte_at(block, 2 + i / 8) | top << 8];
    return signed_by(d * iq2_level(entry, i % 8), byte_at(block, 34 + i / 8) >> i % 8 & 1);
  }
};

/// f16 d | u8 entry[64] | 8 of: u7 signs[4], u4 scale
struct Iq3Xxs {
  static constexpr int kElements = 256, kBytes = 98, kGroup = 32;
  static constexpr float kLargest = 62;
  static constexpr float scale(const std::byte* block, int group) {
    return half_at(block, 0) * (0.5f + static_cast<float>(dword_at(block, 66 + 4 * group) >> 28)) * 0.5f;
  }
  static constexpr float value(const std::byte* block, float d, int i) {
    const std::uint32_t signs = even_signs(dword_at(block, 66 + i / 32 * 4) >> i % 32 / 8 * 7 & 127);
    return signed_by(d * iq3_xxs_level(kIq3Xxs[byte_at(block, 2 + i / 4)], i % 4), signs >> i % 8 & 1);
  }
};

/// f16 d | u8 entry[64] | u1 top bit of entry[64] | u8 signs[32] | u4 scales[8]
struct Iq3S {
  static constexpr int kElements = 256, kBytes = 110, kGroup = 32;
  static constexpr float kLargest = 15;
  static constexpr float scale(const std::byte* block, int group) {
    const std::uint32_t s = byte_at(block, 106 + group / 2) >> group % 2 * 4 & 15;
    return half_at(block, 0) * static_cast<float>(1 + 2 * s);
  }
  static constexpr float value(const std::byte* block, float d, int i) {
    const std::uint32_t top = byte_at(block, 66 + i / 32) >> i % 32 / 4 & 1;
    const std::uint32_t entry = kIq3S[byte_at(block, 2 + i / 4) | top << 8];
    return signed_by(d * iq3_s_level(entry, i % 4), byte_at(block, 74 + i / 8) >> i % 8 & 1);
  }
};

/// What IQ1's levels -1, 0, 1 are shifted by, up or down.
inline constexpr float kIq1Shift = 0.125f;

/// f16 d | u8 entry[32] | 8 of: u3 top bits of entry[4], u3 scale, u1 shift is down
struct Iq1S {
  static constexpr int kElements = 256, kBytes = 50, kGroup = 32;
  static constexpr float kLargest = 1.125f;
  static constexpr float scale(const std::byte* block, int group) {
    return half_at(block, 0) * static_cast<float>(2 * (word_at(block, 34 + 2 * group) >> 12 & 7) + 1);
  }
  static constexpr float value(const std::byte* block, float d, int i) {
    const std::uint32_t high = word_at(block, 34 + i / 32 * 2), top = high >> i % 32 / 8 * 3 & 7;
    const float shift = high >> 15 != 0 ? -kIq1Shift : kIq1Shift;
    return d * (iq1_level(kIq1[byte_at(block, 2 + i / 8) | top << 8], i % 8) + shift);
  }
};

/// u8 entry[32] | u4 [32]: three top bits of entry, shift is down | 4 of: u3 scales[4], u4 of the f16 d, lowest first
struct Iq1M {
  static constexpr int kElements = 256, kBytes = 56, kGroup = 16;
  static constexpr float kLargest = 1.125f;
  static constexpr float scale(const std::byte* block, int group) {
    const std::uint32_t d = word_at(block, 48) >> 12 | word_at(block, 50) >> 12 << 4 | word_at(block, 52) >> 12 << 8 |
                            word_at(block, 54) >> 12 << 12;
    return Half::widen(d) * static_cast<float>(2 * (word_at(block, 48 + group / 4 * 2) >> group % 4 * 3 & 7) + 1);
  }
  static constexpr float value(const std::byte* block, float d, int i) {
    const std::uint32_t high = byte_at(block, 32 + i / 16) >> i / 8 % 2 * 4;
    const float shift = (high & 8) != 0 ? -kIq1Shift : kIq1Shift;
    return d * (iq1_level(kIq1[byte_at(block, i / 8) | (high & 7) << 8], i % 8) + shift);
  }
};

}  // namespace ropewalk::codecs
