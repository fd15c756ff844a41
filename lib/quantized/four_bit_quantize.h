#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "lib/lazy_tensor.h"
#include "lib/quantized/four_bit.h"

namespace ropewalk {

// The quantizer of bitsandbytes 0.50.2's CPU back end, bit for bit (its CUDA kernels divide elsewhere and round
// reciprocals otherwise: a code can differ where a value lies between two levels). All arithmetic is f32.

/// The scale of one block: its largest magnitude. `whole`: the block has as many elements as blocks have; the tensor's
/// last one may be shorter, and its scale is never 0, but 1e-38.
float four_bit_scale(std::span<const float> block, bool whole);

/// The code of each element: the level nearest to value / scale (whole blocks multiply by 1 / scale), the lower of two
/// as near.
void encode_four_bit(FourBitType type, std::span<const float> block, float scale, bool whole,
                     std::span<std::uint8_t> codes);

/// Double quantization of scales: their mean is taken off, and blocks of 256 share one absmax of what is left.
struct NestedScales {
  static constexpr std::size_t kBlock = 256;
  std::vector<std::uint8_t> codes;  // into nested_levels()
  std::vector<float> absmax;
  float offset;  // the mean as torch 2.15 sums it on one thread
};
NestedScales quantize_scales(std::span<const float> scales);
/// The scales that those stand for.
std::vector<float> dequantize_scales(const NestedScales& nested);
/// bitsandbytes' dynamic map of 8 bits, rising: what it calls nested_quant_map.
std::span<const float, 256> nested_levels() noexcept;

/// `parent` (f32, f16 or bf16) as it is after quantizing and dequantizing, in its own type: what a QLoRA was trained
/// on. prepare() reads the parent once for the scales, of which it keeps two floats a block.
TensorPtr four_bit_round_trip(TensorPtr parent, FourBitType type, std::uint64_t block_elements,
                              bool double_quantization);

}  // namespace ropewalk
