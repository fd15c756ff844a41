#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "lib/dtype.h"

namespace ropewalk {

/// ggml's block types into floats, bit for bit as ggml 0.25.3's to_float (docs: codecs/block_types.h); any bytes are
/// accepted, and a scale that is infinite or NaN gives what IEEE arithmetic makes of it.
bool has_block_decoder(DType dtype);
/// Whether a block's values are products with f16 scales, or sums of such: f16 has their range, and rounds them less
/// than bf16. Of block types with a decoder only mxfp4 and nvfp4 have others, of few bits: bf16 holds them exactly.
bool has_f16_scales(DType dtype);
/// Whole blocks. Requires has_block_decoder(dtype); no alignment needed.
void decode_blocks(DType dtype, std::span<const std::byte> bytes, std::span<float> values);
/// An upper bound of the magnitudes, from the scales: NaN if one is NaN, else infinity if one is infinite.
double largest_block_magnitude(DType dtype, std::span<const std::byte> bytes);
/// The first block whose scale or minimum is infinite or NaN, or is MXFP4's code of NaN, 255: those that
/// ggml_validate_row_data refuses, although what they decode to may be finite. nullopt if there is none.
std::optional<std::uint64_t> first_spoilt_block(DType dtype, std::span<const std::byte> bytes);

}  // namespace ropewalk
