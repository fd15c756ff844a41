#pragma once

#include <bit>
#include <cstdint>
#include <limits>

namespace ropewalk {

/// The definition of every conversion to and from a binary format narrower than float, one value at a time. The vector
/// kernels (convert_simd.cpp) must give the same bits; their tails call these.
///   sign (1) | exponent (kExponentBits, bias 2^(kExponentBits - 1) - 1) | mantissa (kMantissaBits)
/// kInfinity false: no infinities, one NaN with all other bits set (OCP 8-bit floating point 1.0, E4M3).
template <int kExponentBits, int kMantissaBits, bool kInfinity = true>
struct SmallFloat {
  static constexpr int kBits = 1 + kExponentBits + kMantissaBits;
  static constexpr int kMinExponent = 2 - (1 << (kExponentBits - 1));  // of the smallest normal
  static constexpr std::uint32_t kMagnitude = (1u << (kBits - 1)) - 1;
  static constexpr std::uint32_t kTop = ((1u << kExponentBits) - 1) << kMantissaBits;  // exponent all ones
  static constexpr std::uint32_t kQuiet = 1u << (kMantissaBits - 1);
  static constexpr std::uint32_t kLargest = kInfinity ? kTop - 1 : kMagnitude - 1;  // code of the largest finite

  /// Exact. Infinities and NaN by the format's rules, NaN made quiet.
  static constexpr float widen(std::uint32_t code) {
    const std::uint32_t sign = (code >> (kBits - 1) & 1u) << 31, magnitude = code & kMagnitude;
    if (magnitude > kLargest) {
      const std::uint32_t payload = kInfinity ? magnitude - kTop : kQuiet;
      const std::uint32_t quiet = payload != 0 ? 0x400000u : 0u;
      return std::bit_cast<float>(sign | 0x7f800000u | quiet | payload << (23 - kMantissaBits));
    }
    if (magnitude >> kMantissaBits == 0) {
      // bf16's subnormals are float's own and reached by a shift
      if constexpr (kExponentBits == 8) return std::bit_cast<float>(sign | magnitude << (23 - kMantissaBits));
      // magnitude * 2^(kMinExponent - kMantissaBits): one exact product, a float has room
      const float unit = std::bit_cast<float>(static_cast<std::uint32_t>(127 + kMinExponent - kMantissaBits) << 23);
      const float value = static_cast<float>(magnitude) * unit;
      return sign != 0 ? -value : value;
    }
    const std::uint32_t rebias = static_cast<std::uint32_t>(126 + kMinExponent) << 23;
    return std::bit_cast<float>(sign | ((magnitude << (23 - kMantissaBits)) + rebias));
  }

  /// To nearest, ties to even, in one rounding. Past the largest finite: infinity, or NaN where there is none.
  static constexpr std::uint32_t narrow(double value) {
    constexpr int kDrop = 52 - kMantissaBits;
    const std::uint64_t bits = std::bit_cast<std::uint64_t>(value), magnitude = bits & ~(std::uint64_t{1} << 63);
    const std::uint32_t sign = static_cast<std::uint32_t>(bits >> 63) << (kBits - 1);
    if (magnitude > 0x7ff0000000000000u) {
      if constexpr (!kInfinity) return sign | kMagnitude;
      const auto payload = static_cast<std::uint32_t>(magnitude >> kDrop) & (2 * kQuiet - 1);
      return sign | kTop | kQuiet | payload;
    }
    const int exponent = static_cast<int>(magnitude >> 52) - 1023;
    const int shift = kDrop + (exponent < kMinExponent ? kMinExponent - exponent : 0);
    if (shift > 53) return sign;  // below half of the smallest subnormal (a double's own subnormals among them)
    const std::uint64_t significand = (magnitude & 0xfffffffffffffu) | 0x10000000000000u;
    const std::uint64_t kept = significand >> shift, rest = significand & ((std::uint64_t{1} << shift) - 1);
    const std::uint64_t half = std::uint64_t{1} << (shift - 1);
    auto code = static_cast<std::uint32_t>(kept + (rest > half || (rest == half && (kept & 1) != 0) ? 1 : 0));
    // a normal's hidden bit adds one to the exponent field; a subnormal that rounds up to 2^kMantissaBits becomes the
    // first normal
    if (exponent > kMinExponent) code += static_cast<std::uint32_t>(exponent - kMinExponent) << kMantissaBits;
    if (code > kLargest) code = kInfinity ? kTop : kMagnitude;
    return sign | code;
  }
};

using Half = SmallFloat<5, 10>;
using BFloat = SmallFloat<8, 7>;
using Float8E4M3 = SmallFloat<4, 3, false>;
using Float8E5M2 = SmallFloat<5, 2>;

}  // namespace ropewalk
