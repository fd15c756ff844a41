#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "lib/dtype.h"

namespace ropewalk {

/// The two 4-bit types of bitsandbytes 0.50.2. A block of consecutive elements (row ends do not matter) shares one
/// scale, the largest magnitude among them.
enum class FourBitType : std::uint8_t { nf4, fp4 };
const char* four_bit_name(FourBitType type) noexcept;  // "nf4"
std::optional<FourBitType> four_bit_type(std::string_view name);

/// What the 16 codes mean, in units of the block's absmax: the tables that bitsandbytes calls quant_map.
std::span<const float, 16> four_bit_levels(FourBitType type) noexcept;

/// values[i] = level(code first + i) * absmax of its block, one product in f32, rounded once to `dtype` (f32, f16,
/// bf16) and widened again.
/// packed: two codes to the byte, the even element in the high nibble; packed[0] holds element first / 2 * 2.
/// absmax[0] is that of block first / block_elements.
struct FourBitBlocks {
  FourBitType type;
  std::uint64_t block_elements;
  DType dtype;
};
void decode_four_bit(const FourBitBlocks& blocks, std::uint64_t first, std::span<const std::byte> packed,
                     std::span<const float> absmax, std::span<float> values);

}  // namespace ropewalk
