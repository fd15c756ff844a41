#pragma once

#include <cstddef>
#include <span>

#include "lib/dtype.h"

namespace ropewalk {

/// ggml's block types into floats, bit for bit as ggml 0.25.3's to_float (docs: codecs/block_types.h); any bytes are
/// accepted, and a scale that is infinite or NaN gives what IEEE arithmetic makes of it.
bool has_block_decoder(DType dtype);
/// Whole blocks. Requires has_block_decoder(dtype); no alignment needed.
void decode_blocks(DType dtype, std::span<const std::byte> bytes, std::span<float> values);
/// An upper bound of the magnitudes, from the scales: NaN if one is NaN, else infinity if one is infinite.
double largest_block_magnitude(DType dtype, std::span<const std::byte> bytes);

}  // namespace ropewalk
