#pragma once

#include <cstddef>
#include <cstdint>

namespace ropewalk::simd {

/// The vectorised loops of convert.h, dispatched at run time (Highway). Same bits on every target as small_float.h.
/// `n` elements each; byte pointers need no alignment; input and output do not overlap.
void f16_to_f32(const std::byte* in, float* out, std::size_t n);
void bf16_to_f32(const std::byte* in, float* out, std::size_t n);
void f32_to_f16(const float* in, std::byte* out, std::size_t n);
void f32_to_bf16(const float* in, std::byte* out, std::size_t n);

void f16_to_f64(const std::byte* in, double* out, std::size_t n);
void bf16_to_f64(const std::byte* in, double* out, std::size_t n);
void f32_to_f64(const float* in, double* out, std::size_t n);
void f64_to_f16(const double* in, std::byte* out, std::size_t n);
void f64_to_bf16(const double* in, std::byte* out, std::size_t n);
void f64_to_f32(const double* in, float* out, std::size_t n);

/// The largest of n codes of 16, 32 or 64 bits without their sign bits; 0 if there are none. Codes of one IEEE format
/// order by magnitude, infinity and then NaN above all.
std::uint16_t largest_code_16(const std::byte* codes, std::size_t n);
std::uint32_t largest_code_32(const std::byte* codes, std::size_t n);
std::uint64_t largest_code_64(const std::byte* codes, std::size_t n);
/// True if no value is infinite or NaN.
bool all_finite(const float* values, std::size_t n);

}  // namespace ropewalk::simd
