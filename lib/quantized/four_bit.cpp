#include "lib/quantized/four_bit.h"

#include <algorithm>
#include <array>
#include <cassert>

#include "lib/quantized/rounding.h"

namespace ropewalk {
namespace {

// Quantiles of a normal distribution, arXiv:2305.14314v1, appendix E; as float32 they are bitsandbytes' quant_map.
constexpr std::array<float, 16> kNf4 = {
    -1.0f,
    -0.6961928009986877f,
    -0.5250730514526367f,
    -0.39491748809814453f,
    -0.28444138169288635f,
    -0.18477343022823334f,
    -0.09105003625154495f,
    0.0f,
    0.07958029955625534f,
    0.16093020141124725f,
    0.24611230194568634f,
    0.33791524171829224f,
    0.44070982933044434f,
    0.5626170039176941f,
    0.7229568362236023f,
    1.0f,
};
// Twelfths of 0, 1/16, 8, 12, 4, 6, 2, 3; the sign is the highest bit, and minus zero is plus zero.
constexpr std::array<float, 16> kFp4 = {
    0.0f, 0.0625f / 12,  8.0f / 12,  1.0f,  4.0f / 12,  0.5f,  2.0f / 12,  0.25f,
    0.0f, -0.0625f / 12, -8.0f / 12, -1.0f, -4.0f / 12, -0.5f, -2.0f / 12, -0.25f,
};

}  // namespace

const char* four_bit_name(FourBitType type) noexcept { return type == FourBitType::nf4 ? "nf4" : "fp4"; }

std::optional<FourBitType> four_bit_type(std::string_view name) {
  if (name == "nf4") return FourBitType::nf4;
  if (name == "fp4") return FourBitType::fp4;
  return std::nullopt;
}

std::span<const float, 16> four_bit_levels(FourBitType type) noexcept {
  return type == FourBitType::nf4 ? std::span(kNf4) : std::span(kFp4);
}

void decode_four_bit(const FourBitBlocks& blocks, std::uint64_t first, std::span<const std::byte> packed,
                     std::span<const float> absmax, std::span<float> values) {
  const std::span<const float, 16> levels = four_bit_levels(blocks.type);
  const std::uint64_t end = first + values.size(), first_block = first / blocks.block_elements, origin = first / 2 * 2;
  const auto code = [&](std::uint64_t element) {
    const auto byte = std::to_integer<unsigned>(packed[(element - origin) / 2]);
    return element % 2 == 0 ? byte >> 4 : byte & 15;
  };
  for (std::uint64_t element = first; element < end;) {
    const std::uint64_t block = element / blocks.block_elements;
    const std::uint64_t stop = std::min(end, (block + 1) * blocks.block_elements);
    // A block has 16 values at most, so those are computed instead of each element's.
    std::array<float, 16> value;
    for (std::size_t level = 0; level < 16; ++level) value[level] = levels[level] * absmax[block - first_block];
    round_through(blocks.dtype, value);
    float* out = values.data() + (element - first);
    if (element % 2 != 0) *out++ = value[code(element++)];
    for (; element + 2 <= stop; element += 2) {
      const auto byte = std::to_integer<unsigned>(packed[(element - origin) / 2]);
      *out++ = value[byte >> 4];
      *out++ = value[byte & 15];
    }
    if (element < stop) *out++ = value[code(element++)];
  }
}

}  // namespace ropewalk
