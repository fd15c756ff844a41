#pragma once

#include <bit>
#include <cstdint>

#include "verify/cuda/block.h"
#ifndef __CUDACC__
#include <type_traits>

#include "lib/convert.h"
#include "verify/accelerator.h"
#endif

namespace ropewalk::verify {

/// 16-bit floats as they stand in memory, the same type on host and device.
struct Bf16 {
  std::uint16_t bits;
};
struct Fp16 {
  std::uint16_t bits;
};

ROPEWALK_DEVICE float to_float(float x) { return x; }
ROPEWALK_DEVICE float to_float(Bf16 x) { return std::bit_cast<float>(std::uint32_t{x.bits} << 16); }
ROPEWALK_DEVICE float to_float(Fp16 x) {
#ifdef __CUDACC__
  float out;
  asm("cvt.f32.f16 %0, %1;" : "=f"(out) : "h"(x.bits));
  return out;
#else
  return f16_to_f32(x.bits);
#endif
}

/// To nearest, ties to even. NaN stays NaN (on the device without its payload).
template <class T>
ROPEWALK_DEVICE T from_float(float x);
template <>
ROPEWALK_DEVICE float from_float<float>(float x) {
  return x;
}
template <>
ROPEWALK_DEVICE Bf16 from_float<Bf16>(float x) {
#ifdef __CUDACC__
  Bf16 out;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(out.bits) : "f"(x));
  return out;
#else
  return {f32_to_bf16(x)};
#endif
}
template <>
ROPEWALK_DEVICE Fp16 from_float<Fp16>(float x) {
#ifdef __CUDACC__
  Fp16 out;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(out.bits) : "f"(x));
  return out;
#else
  return {f32_to_f16(x)};
#endif
}

#ifndef __CUDACC__
/// f(std::type_identity<T>) with the type of a matrix (accelerator.h).
template <class F>
void with_element(ElementType type, F f) {
  if (type == ElementType::f32) f(std::type_identity<float>());
  else if (type == ElementType::bf16) f(std::type_identity<Bf16>());
  else f(std::type_identity<Fp16>());
}
#endif

/// The largest bf16 term of `rest`, cut towards 0: never past the largest bf16, and 8 bits at a time. What remains
/// becomes the rest.
ROPEWALK_DEVICE Bf16 take_term(float& rest) {
  const Bf16 term{static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(rest) >> 16)};
  rest -= to_float(term);  // exact
  return term;
}

/// Two elements in a register as tensor cores take them: the first in the low half.
template <class T>
ROPEWALK_DEVICE std::uint32_t pack_two(float first, float second) {
  return std::uint32_t{from_float<T>(first).bits} | std::uint32_t{from_float<T>(second).bits} << 16;
}

}  // namespace ropewalk::verify
