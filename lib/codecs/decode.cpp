#include "lib/codecs/decode.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <type_traits>

#include "lib/codecs/block_types.h"
#include "lib/codecs/q8_0.h"

namespace ropewalk {
namespace {

template <class Type>
void decode(const std::byte* __restrict block, std::size_t n_blocks, float* __restrict values) {
  for (std::size_t b = 0; b < n_blocks; ++b, block += Type::kBytes, values += Type::kElements)
    for (int group = 0; group < Type::kElements / Type::kGroup; ++group) {
      const auto scale = Type::scale(block, group);
      // in eights, for what eight elements share (an entry of a code book, signs, a byte of bits) to be found once
      for (int i = group * Type::kGroup / 8; i < (group + 1) * Type::kGroup / 8; ++i)
        for (int j = 0; j < 8; ++j) values[i << 3 | j] = Type::value(block, scale, i << 3 | j);
    }
}

double magnitude(float d, float largest) { return std::fabs(d) * double(largest); }
double magnitude(codecs::Affine s, float largest) { return std::fabs(s.d) * double(largest) + std::fabs(s.m); }

template <class Type>
double largest_of(const std::byte* block, std::size_t n_blocks) {
  double most = 0;
  for (std::size_t b = 0; b < n_blocks; ++b, block += Type::kBytes)
    for (int group = 0; group < Type::kElements / Type::kGroup; ++group) {
      const double here = magnitude(Type::scale(block, group), Type::kLargest);
      if (std::isnan(here)) return here;
      most = std::max(most, here);
    }
  return most * (1 + 0x1p-22);  // values are rounded
}

bool finite(float d) { return std::isfinite(d); }
bool finite(codecs::Affine s) { return std::isfinite(s.d) && std::isfinite(s.m); }

/// The scale of one group tells: it is a product with the block's, which none makes finite.
template <class Type>
bool spoilt(const std::byte* block) {
  if constexpr (std::is_same_v<Type, codecs::Mxfp4>) return codecs::byte_at(block, 0) == 255;
  else return !finite(Type::scale(block, 0));
}

}  // namespace

bool has_block_decoder(DType dtype) {
  return codecs::with_block_type(dtype, [](auto) {});
}

bool has_f16_scales(DType dtype) { return has_block_decoder(dtype) && dtype != DType::mxfp4 && dtype != DType::nvfp4; }

void decode_blocks(DType dtype, std::span<const std::byte> bytes, std::span<float> values) {
  assert(byte_size(dtype, values.size()) == bytes.size());
  if (dtype == DType::q8_0) return decode_q8_0(bytes, values);
  [[maybe_unused]] const bool known = codecs::with_block_type(dtype, [&]<class Type>(Type) {
    static_assert(Type::kElements % Type::kGroup == 0 && Type::kGroup % 8 == 0);
    decode<Type>(bytes.data(), bytes.size() / Type::kBytes, values.data());
  });
  assert(known);
}

double largest_block_magnitude(DType dtype, std::span<const std::byte> bytes) {
  double most = 0;
  [[maybe_unused]] const bool known = codecs::with_block_type(
      dtype, [&]<class Type>(Type) { most = largest_of<Type>(bytes.data(), bytes.size() / Type::kBytes); });
  assert(known);
  return most;
}

std::optional<std::uint64_t> first_spoilt_block(DType dtype, std::span<const std::byte> bytes) {
  std::optional<std::uint64_t> first;
  [[maybe_unused]] const bool known = codecs::with_block_type(dtype, [&]<class Type>(Type) {
    for (std::size_t at = 0; at < bytes.size() && !first; at += Type::kBytes)
      if (spoilt<Type>(bytes.data() + at)) first = at / Type::kBytes;
  });
  assert(known);
  return first;
}

}  // namespace ropewalk
