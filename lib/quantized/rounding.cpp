#include "lib/quantized/rounding.h"

#include <algorithm>
#include <array>

#include "lib/convert.h"

namespace ropewalk {

void round_through(DType dtype, std::span<float> values) {
  if (dtype == DType::f32) return;
  constexpr std::size_t kStep = 4096;
  std::array<std::byte, kStep * 2> narrow;  // the types of weights have two bytes or one
  const auto width = static_cast<std::size_t>(info(dtype).block_bytes);
  for (std::size_t at = 0; at < values.size(); at += kStep) {
    const std::span<float> part = values.subspan(at, std::min(kStep, values.size() - at));
    const std::span<std::byte> bytes = std::span(narrow).first(part.size() * width);
    encode_f32(dtype, part, bytes);
    decode_f32(dtype, bytes, part);
  }
}

}  // namespace ropewalk
