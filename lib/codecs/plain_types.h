#pragma once

#include <bit>

#include "lib/codecs/bytes.h"
#include "lib/codecs/table.h"

// ggml's types with one scale a block, and the ternary and 4-bit float ones (ggml 0.25.3). How a type is described is
// said in block_types.h.
namespace ropewalk::codecs {

/// f16 d | u4 q[32]
struct Q4_0 {
  static constexpr int kElements = 32, kBytes = 18, kGroup = 32;
  static constexpr float kLargest = 8;
  static constexpr float scale(const std::byte* block, int) { return half_at(block, 0); }
  static constexpr float value(const std::byte* block, float d, int i) {
    return static_cast<float>(nibble(block + 2, i, 16) - 8) * d;
  }
};

/// f16 d | f16 m | u4 q[32]
struct Q4_1 {
  static constexpr int kElements = 32, kBytes = 20, kGroup = 32;
  static constexpr float kLargest = 15;
  static constexpr Affine scale(const std::byte* block, int) { return {half_at(block, 0), half_at(block, 2)}; }
  static constexpr float value(const std::byte* block, Affine s, int i) {
    return static_cast<float>(nibble(block + 4, i, 16)) * s.d + s.m;
  }
};

/// f16 d | u32 fifth bits | u4 q[32]
struct Q5_0 {
  static constexpr int kElements = 32, kBytes = 22, kGroup = 32;
  static constexpr float kLargest = 16;
  static constexpr float scale(const std::byte* block, int) { return half_at(block, 0); }
  static constexpr float value(const std::byte* block, float d, int i) {
    const int fifth = static_cast<int>(dword_at(block, 2) >> i & 1);
    return static_cast<float>((nibble(block + 6, i, 16) | fifth << 4) - 16) * d;
  }
};

/// f16 d | f16 m | u32 fifth bits | u4 q[32]
struct Q5_1 {
  static constexpr int kElements = 32, kBytes = 24, kGroup = 32;
  static constexpr float kLargest = 31;
  static constexpr Affine scale(const std::byte* block, int) { return {half_at(block, 0), half_at(block, 2)}; }
  static constexpr float value(const std::byte* block, Affine s, int i) {
    const int fifth = static_cast<int>(dword_at(block, 4) >> i & 1);
    return static_cast<float>(nibble(block + 8, i, 16) | fifth << 4) * s.d + s.m;
  }
};

/// f16 d | i8 q[32]
struct Q8_0 {
  static constexpr int kElements = 32, kBytes = 34, kGroup = 32;
  static constexpr float kLargest = 128;
  static constexpr float scale(const std::byte* block, int) { return half_at(block, 0); }
  static constexpr float value(const std::byte* block, float d, int i) {
    return static_cast<float>(signed_byte_at(block, 2 + i)) * d;
  }
};

/// f16 d | u1 positive[128]
struct Q1_0 {
  static constexpr int kElements = 128, kBytes = 18, kGroup = 128;
  static constexpr float kLargest = 1;
  static constexpr float scale(const std::byte* block, int) { return half_at(block, 0); }
  static constexpr float value(const std::byte* block, float d, int i) {
    return signed_by(d, ~byte_at(block, 2 + i / 8) >> i % 8 & 1);
  }
};

/// f16 d | u2 q[64], of -1, 0, 1, 2
struct Q2_0 {
  static constexpr int kElements = 64, kBytes = 18, kGroup = 64;
  static constexpr float kLargest = 2;
  static constexpr float scale(const std::byte* block, int) { return half_at(block, 0); }
  static constexpr float value(const std::byte* block, float d, int i) {
    return static_cast<float>(static_cast<int>(byte_at(block, 2 + i / 4) >> i % 4 * 2 & 3) - 1) * d;
  }
};

/// u8 q[48], five digits of base 3 each | u8 q[4], four digits each | f16 d
/// A byte is its digits as a fraction of 256, rounded up: the first is the integer part of 3 / 256 of it, the rest of
/// that product has the others. Elements: digit 0 of 32 bytes, digit 1 of them .. digit 4; then those of 16; then of 4.
struct Tq1_0 {
  static constexpr int kElements = 256, kBytes = 54, kGroup = 256;
  static constexpr float kLargest = 1;
  static constexpr float scale(const std::byte* block, int) { return half_at(block, 52); }
  static constexpr float value(const std::byte* block, float d, int i) {
    const int at = i < 160 ? i % 32 : i < 240 ? 32 + i % 16 : 48 + i % 4;
    const int digit = i < 160 ? i / 32 : i < 240 ? (i - 160) / 16 : (i - 240) / 4;
    const std::uint32_t power =
        ((digit & 1) != 0 ? 3u : 1u) * ((digit & 2) != 0 ? 9u : 1u) * ((digit & 4) != 0 ? 81u : 1u);
    const std::uint32_t rest = byte_at(block, at) * power & 255;
    return static_cast<float>(static_cast<int>(rest * 3 >> 8) - 1) * d;
  }
};

/// u2 q[256] | f16 d: 2 * k bits up in bytes 32 b .. 32 b + 31 are elements 32 k .. of each half
struct Tq2_0 {
  static constexpr int kElements = 256, kBytes = 66, kGroup = 256;
  static constexpr float kLargest = 2;
  static constexpr float scale(const std::byte* block, int) { return half_at(block, 64); }
  static constexpr float value(const std::byte* block, float d, int i) {
    const std::uint32_t q = byte_at(block, i / 128 * 32 + i % 32) >> i % 128 / 32 * 2 & 3;
    return static_cast<float>(static_cast<int>(q) - 1) * d;
  }
};

/// Twice the value of an E2M1 code, without a negative zero.
constexpr int doubled_e2m1(int code) {
  const int magnitude = static_cast<int>(0xc8643210u >> (code & 7) * 4 & 15), negative = code >> 3;
  return (magnitude ^ -negative) + negative;
}

/// u8 e: scale 2^(e - 127) | e2m1 q[32]. The scale is halved, for the doubled values; e = 255, which is NaN elsewhere, is
/// 2^128 halved.
struct Mxfp4 {
  static constexpr int kElements = 32, kBytes = 17, kGroup = 32;
  static constexpr float kLargest = 12;
  static constexpr float halved_power(std::uint32_t e) {
    return std::bit_cast<float>(e < 2 ? 0x200000u << e : (e - 1) << 23);
  }
  static constexpr float scale(const std::byte* block, int) { return halved_power(byte_at(block, 0)); }
  static constexpr float value(const std::byte* block, float d, int i) {
    return static_cast<float>(doubled_e2m1(nibble(block + 1, i, 16))) * d;
  }
};

/// ue4m3 d[4] | e2m1 q[4][16]. A scale is without sign: bit 7 is ignored, but only code 0x7f, its NaN, counts as 0.
struct Nvfp4 {
  static constexpr int kElements = 64, kBytes = 36, kGroup = 16;
  static constexpr float kLargest = 12;
  static constexpr float halved_ue4m3(std::uint32_t code) {
    if (code == 0x7f) return 0;
    const std::uint32_t exponent = code >> 3 & 15, mantissa = code & 7;
    if (exponent == 0) return static_cast<float>(mantissa) * 0x1p-10f;
    return std::bit_cast<float>((exponent + 119) << 23 | mantissa << 20);  // half of 2^(exponent - 7)
  }
  static constexpr float scale(const std::byte* block, int group) { return halved_ue4m3(byte_at(block, group)); }
  static constexpr float value(const std::byte* block, float d, int i) {
    return static_cast<float>(doubled_e2m1(nibble(block + 4 + i / 16 * 8, i % 16, 8))) * d;
  }
};

/// The 16 levels of IQ4_NL and IQ4_XS.
ROPEWALK_TABLE std::int8_t kIq4Levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

/// f16 d | u4 q[32], indices of levels
struct Iq4Nl {
  static constexpr int kElements = 32, kBytes = 18, kGroup = 32;
  static constexpr float kLargest = 127;
  static constexpr float scale(const std::byte* block, int) { return half_at(block, 0); }
  static constexpr float value(const std::byte* block, float d, int i) {
    return d * static_cast<float>(kIq4Levels[nibble(block + 2, i, 16)]);
  }
};

}  // namespace ropewalk::codecs
