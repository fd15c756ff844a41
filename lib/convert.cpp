#include "lib/convert.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "lib/codecs/decode.h"
#include "lib/codecs/encode.h"
#include "lib/convert_simd.h"
#include "lib/error.h"
#include "lib/small_float.h"

namespace ropewalk {
namespace {

// Block types go through a float buffer of this many elements: a multiple of every block length, small enough for the
// first cache.
constexpr std::size_t kChunk = 2048;

template <class Format>
constexpr std::array<float, 256> table_of() {
  std::array<float, 256> table{};
  for (std::uint32_t code = 0; code < 256; ++code) table[code] = Format::widen(code);
  return table;
}
constexpr std::array<float, 256> kE4M3 = table_of<Float8E4M3>(), kE5M2 = table_of<Float8E5M2>();

template <class Float>
void look_up(const std::array<float, 256>& table, std::span<const std::byte> bytes, std::span<Float> values) {
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = table[static_cast<std::uint8_t>(bytes[i])];
}

template <class Stored, class Float>
void convert_from(std::span<const std::byte> bytes, std::span<Float> values) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    Stored stored;
    std::memcpy(&stored, bytes.data() + i * sizeof(Stored), sizeof(Stored));
    values[i] = static_cast<Float>(stored);
  }
}

template <class Format, class Float>
void narrow_to_bytes(std::span<const Float> values, std::span<std::byte> bytes) {
  for (std::size_t i = 0; i < values.size(); ++i)
    bytes[i] = static_cast<std::byte>(Format::narrow(static_cast<double>(values[i])));
}

[[noreturn]] void refuse(DType dtype, const char* what) {
  throw Error(ErrorKind::unsupported, {},
              "elements of type " + std::string(info(dtype).name) + " cannot be " + what + " by this version",
              "choose another type");
}

void check_sizes([[maybe_unused]] DType dtype, [[maybe_unused]] std::size_t elements,
                 [[maybe_unused]] std::size_t bytes) {
  assert(byte_size(dtype, elements) == bytes);
}

// What float and double share: everything narrower than both.
template <class Float>
void decode_small(DType dtype, std::span<const std::byte> bytes, std::span<Float> values) {
  switch (dtype) {
    case DType::f8_e4m3: return look_up(kE4M3, bytes, values);
    case DType::f8_e5m2: return look_up(kE5M2, bytes, values);
    case DType::i64: return convert_from<std::int64_t>(bytes, values);
    case DType::i32: return convert_from<std::int32_t>(bytes, values);
    case DType::i16: return convert_from<std::int16_t>(bytes, values);
    case DType::i8: return convert_from<std::int8_t>(bytes, values);
    case DType::u64: return convert_from<std::uint64_t>(bytes, values);
    case DType::u32: return convert_from<std::uint32_t>(bytes, values);
    case DType::u16: return convert_from<std::uint16_t>(bytes, values);
    case DType::u8: return convert_from<std::uint8_t>(bytes, values);
    case DType::boolean:
      for (std::size_t i = 0; i < values.size(); ++i) values[i] = bytes[i] != std::byte{0} ? 1 : 0;
      return;
    default: refuse(dtype, "read");
  }
}

}  // namespace

bool can_decode(DType dtype) { return !is_block_type(dtype) || has_block_decoder(dtype); }
bool can_encode(DType dtype) {
  return is_float(dtype) || (has_block_encoder(dtype) && importances_of(dtype) != Importances::required);
}

void decode_f32(DType dtype, std::span<const std::byte> bytes, std::span<float> values) {
  check_sizes(dtype, values.size(), bytes.size());
  if (values.empty()) return;
  switch (dtype) {
    case DType::f64: return convert_from<double>(bytes, values);
    case DType::f32: std::memcpy(values.data(), bytes.data(), bytes.size()); return;
    case DType::f16: return simd::f16_to_f32(bytes.data(), values.data(), values.size());
    case DType::bf16: return simd::bf16_to_f32(bytes.data(), values.data(), values.size());
    default:
      if (has_block_decoder(dtype)) return decode_blocks(dtype, bytes, values);
      return decode_small(dtype, bytes, values);
  }
}

void decode_f64(DType dtype, std::span<const std::byte> bytes, std::span<double> values) {
  check_sizes(dtype, values.size(), bytes.size());
  if (values.empty()) return;
  switch (dtype) {
    case DType::f64: std::memcpy(values.data(), bytes.data(), bytes.size()); return;
    case DType::f32: return convert_from<float>(bytes, values);
    case DType::f16: return simd::f16_to_f64(bytes.data(), values.data(), values.size());
    case DType::bf16: return simd::bf16_to_f64(bytes.data(), values.data(), values.size());
    default:
      if (has_block_decoder(dtype)) break;
      return decode_small(dtype, bytes, values);
  }
  std::array<float, kChunk> narrow;
  for (std::size_t begin = 0; begin < values.size(); begin += kChunk) {
    const std::size_t n = std::min(kChunk, values.size() - begin);
    const std::size_t first = *byte_size(dtype, begin), length = *byte_size(dtype, n);
    decode_f32(dtype, bytes.subspan(first, length), std::span(narrow).first(n));
    simd::f32_to_f64(narrow.data(), values.data() + begin, n);
  }
}

void encode_f32(DType dtype, std::span<const float> values, std::span<std::byte> bytes) {
  check_sizes(dtype, values.size(), bytes.size());
  if (values.empty()) return;
  switch (dtype) {
    case DType::f64:
      for (std::size_t i = 0; i < values.size(); ++i) {
        const double wide = values[i];
        std::memcpy(bytes.data() + i * sizeof wide, &wide, sizeof wide);
      }
      return;
    case DType::f32: std::memcpy(bytes.data(), values.data(), bytes.size()); return;
    case DType::f16: return simd::f32_to_f16(values.data(), bytes.data(), values.size());
    case DType::bf16: return simd::f32_to_bf16(values.data(), bytes.data(), values.size());
    case DType::f8_e4m3: return narrow_to_bytes<Float8E4M3>(values, bytes);
    case DType::f8_e5m2: return narrow_to_bytes<Float8E5M2>(values, bytes);
    default: break;
  }
  if (!can_encode(dtype)) refuse(dtype, "written");
  encode_blocks(dtype, values, values.size(), {}, bytes);
}

void encode_f64(DType dtype, std::span<const double> values, std::span<std::byte> bytes) {
  check_sizes(dtype, values.size(), bytes.size());
  if (values.empty()) return;
  switch (dtype) {
    case DType::f64: std::memcpy(bytes.data(), values.data(), bytes.size()); return;
    case DType::f16: return simd::f64_to_f16(values.data(), bytes.data(), values.size());
    case DType::bf16: return simd::f64_to_bf16(values.data(), bytes.data(), values.size());
    case DType::f8_e4m3: return narrow_to_bytes<Float8E4M3>(values, bytes);
    case DType::f8_e5m2: return narrow_to_bytes<Float8E5M2>(values, bytes);
    default: break;
  }
  if (!can_encode(dtype)) refuse(dtype, "written");
  std::array<float, kChunk> narrow;  // f32, and block types, which are defined on f32
  for (std::size_t begin = 0; begin < values.size(); begin += kChunk) {
    const std::size_t n = std::min(kChunk, values.size() - begin);
    simd::f64_to_f32(values.data() + begin, narrow.data(), n);
    encode_f32(dtype, std::span(narrow).first(n), bytes.subspan(*byte_size(dtype, begin), *byte_size(dtype, n)));
  }
}

float f16_to_f32(std::uint16_t half) { return Half::widen(half); }
std::uint16_t f32_to_f16(float value) { return static_cast<std::uint16_t>(Half::narrow(value)); }
std::uint16_t f64_to_f16(double value) { return static_cast<std::uint16_t>(Half::narrow(value)); }
float bf16_to_f32(std::uint16_t bits) { return BFloat::widen(bits); }
std::uint16_t f32_to_bf16(float value) { return static_cast<std::uint16_t>(BFloat::narrow(value)); }
std::uint16_t f64_to_bf16(double value) { return static_cast<std::uint16_t>(BFloat::narrow(value)); }

double largest_magnitude(std::span<const float> values) {
  return std::bit_cast<float>(simd::largest_code_32(std::as_bytes(values).data(), values.size()));
}
double largest_magnitude(std::span<const double> values) {
  return std::bit_cast<double>(simd::largest_code_64(std::as_bytes(values).data(), values.size()));
}

double largest_magnitude(DType dtype, std::span<const std::byte> bytes) {
  switch (dtype) {
    case DType::f64: return std::bit_cast<double>(simd::largest_code_64(bytes.data(), bytes.size() / 8));
    case DType::f32: return std::bit_cast<float>(simd::largest_code_32(bytes.data(), bytes.size() / 4));
    case DType::f16: return f16_to_f32(simd::largest_code_16(bytes.data(), bytes.size() / 2));
    case DType::bf16: return bf16_to_f32(simd::largest_code_16(bytes.data(), bytes.size() / 2));
    case DType::q8_0: {  // as below, at the speed of memory
      std::uint16_t most = 0;
      for (std::size_t at = 0; at < bytes.size(); at += 34) {
        std::uint16_t scale;
        std::memcpy(&scale, bytes.data() + at, 2);
        most = std::max<std::uint16_t>(most, scale & 0x7fff);
      }
      return 128.0 * f16_to_f32(most);
    }
    case DType::f8_e4m3:
    case DType::f8_e5m2: {
      const auto& table = dtype == DType::f8_e4m3 ? kE4M3 : kE5M2;
      std::uint8_t most = 0;
      for (const std::byte code : bytes) most = std::max<std::uint8_t>(most, static_cast<std::uint8_t>(code) & 0x7f);
      return table[most];
    }
    default: return has_block_decoder(dtype) ? largest_block_magnitude(dtype, bytes) : 0;
  }
}

std::size_t first_not_finite(std::span<const float> values) {
  for (std::size_t begin = 0; begin < values.size(); begin += kChunk) {
    const std::span chunk = values.subspan(begin, std::min(kChunk, values.size() - begin));
    if (simd::all_finite(chunk.data(), chunk.size())) continue;
    for (std::size_t i = 0; i < chunk.size(); ++i)
      if (!std::isfinite(chunk[i])) return begin + i;
  }
  return values.size();
}

}  // namespace ropewalk
