#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "lib/dtype.h"

namespace ropewalk {

/// What an encoder does with importances, one weight a column (of the input that meets it; an imatrix).
enum class Importances : std::uint8_t { ignored, used, required };
/// Requires has_block_encoder(dtype).
Importances importances_of(DType dtype);

/// ggml's block types from floats, bit for bit as ggml_quantize_chunk of ggml 0.25.3 built for x86-64 Linux, which
/// llama-quantize 0.5 calls: strict IEEE operations in its order, whatever the machine. Any floats are accepted;
/// infinities and NaN, and values past what a scale holds, give what its arithmetic gives (value_range.h refuses them).
bool has_block_encoder(DType dtype);
/// Rows of `columns` elements, each a whole number of blocks. `importances` is empty or has `columns` of them, not empty
/// where they are required. Without them rows do not matter: any whole blocks may be given as one.
void encode_blocks(DType dtype, std::span<const float> values, std::uint64_t columns,
                   std::span<const float> importances, std::span<std::byte> bytes);

}  // namespace ropewalk
