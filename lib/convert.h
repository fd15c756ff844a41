#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "lib/dtype.h"

namespace ropewalk {

/// Exact widening and correctly rounded narrowing between element types, vectorised, the same bits on every machine.
/// Narrowing rounds to nearest, ties to even; NaN stays NaN (sign and leading payload bits kept, made quiet); values
/// past the largest finite become infinity (f16, bf16, f8_e5m2) or NaN (f8_e4m3, which has no infinity). Subnormals are
/// kept in both directions.
/// bytes and values hold the same number of elements; `bytes` need not be aligned.

/// Any plain type, or a block type whose decoder exists. Integers and bools widen by value. f64 narrows to f32 (one
/// rounding).
/// Throws Error(unsupported) for a block type without decoder.
void decode_f32(DType dtype, std::span<const std::byte> bytes, std::span<float> values);
/// As above into double: exact for every plain float type and for integers up to 2^53.
void decode_f64(DType dtype, std::span<const std::byte> bytes, std::span<double> values);

/// Into any float type (one rounding) or a block type that needs no importances (codecs/encode.h takes them).
/// Throws Error(unsupported) otherwise.
void encode_f32(DType dtype, std::span<const float> values, std::span<std::byte> bytes);
/// From double in ONE rounding, also to f16 and bf16 (through float would be two). Block types are encoded from the
/// value rounded to f32.
void encode_f64(DType dtype, std::span<const double> values, std::span<std::byte> bytes);

/// True if decode_* / encode_* handle the type.
bool can_decode(DType dtype);
bool can_encode(DType dtype);

/// One value, for tables and tests; the same rounding as the vector forms.
float f16_to_f32(std::uint16_t half);
std::uint16_t f32_to_f16(float value);
std::uint16_t f64_to_f16(double value);
float bf16_to_f32(std::uint16_t bits);
std::uint16_t f32_to_bf16(float value);
std::uint16_t f64_to_bf16(double value);

/// The largest magnitude among the elements: NaN if one is NaN, else infinity if one is infinite; 0 for none. One pass
/// at the speed of memory, so that a writer need not look at single values. Of block types an upper bound, from the scales;
/// integers count as 0.
double largest_magnitude(DType dtype, std::span<const std::byte> bytes);
double largest_magnitude(std::span<const float> values);
double largest_magnitude(std::span<const double> values);

/// First index whose value is not finite; values.size() if all are. Readers that must refuse such weights name the
/// place by it.
std::size_t first_not_finite(std::span<const float> values);

}  // namespace ropewalk
