#pragma once

#include <cstddef>
#include <span>

namespace ropewalk {

/// ggml's q8_0: 32 elements in 34 bytes (ggml 0.25.3, block_q8_0), value = d * q:
///   f16 d | i8 q[32]
/// Encoding is bit-identical to quantize_row_q8_0_ref, which llama-quantize calls (llama.cpp 0.5), and, for finite
/// input, to the Q8_0 of gguf-py 0.19 that convert_hf_to_gguf.py uses; tests/golden/q8_0 holds blocks by both (they
/// part only where a block holds NaN). In float: d = max|x| / 127, q = x * (1 / d) rounded half away from zero; d is
/// then stored as f16, so q is not what rounding x / d_stored would give. d of 0 gives all zeros. Where 1 / d overflows
/// (max|x| < 127 * 2^-128) or the block has no finite maximum, ggml converts infinities and NaN to int8, on x86-64 to
/// 0: so do we.
/// A NaN counts as a maximum only while nothing follows it, as in ggml's loop; d is then the NaN 0x7e00.

/// values.size() is a multiple of 32, bytes.size() = values.size() / 32 * 34. No alignment needed.
void encode_q8_0(std::span<const float> values, std::span<std::byte> bytes);
/// Exact: an 11-bit d times a 7-bit q fits a float.
void decode_q8_0(std::span<const std::byte> bytes, std::span<float> values);

}  // namespace ropewalk
