#pragma once

#include <cstdint>

#include "lib/codecs/block_types.h"
#include "verify/cuda/block.h"
#include "verify/cuda/element.h"

// Weights from the encodings files have into what matrices are multiplied in. A block takes kDecodeElements elements of
// a row; of a ggml type it brings their bytes to shared memory, 16 at a time where they lie so, and each thread decodes
// eight, for what eight share (block_types.h) to be found once, and writes them side by side. The arithmetic is that of
// lib's own descriptions, compiled by nvcc: nothing of a type is said here.
namespace ropewalk::verify {

/// What values become: rounded once, or bf16 terms that add up to them.
enum class DecodedAs : std::uint8_t { f32, bf16, f16, terms };

struct DecodeArgs {
  const std::byte* bytes;
  std::uint64_t elements;  // of a row: whole blocks
  DecodedAs as;
  void* y;
  int terms = 0;
  std::uint64_t term_stride = 0;                // from term to term of y; elements
  const std::int32_t* ids = nullptr;            // row r is row ids[r] of `bytes`; null: row 0 alone
  std::uint64_t row_bytes = 0, row_stride = 0;  // from row to row of `bytes`, of y
};
inline constexpr std::uint64_t kDecodeElements = 8 * kRowThreads;
/// Blocks of a row.
constexpr std::uint64_t decode_tiles(std::uint64_t elements) {
  return (elements + kDecodeElements - 1) / kDecodeElements;
}

/// values[0] .. to y[0] ..; eight as 16 bytes at a time where y starts so.
template <class Block, class T, int kCount>
ROPEWALK_DEVICE void put(const Block& block, T* y, const T (&values)[kCount]) {
  if constexpr (kCount == 8) {
    if (reinterpret_cast<std::uintptr_t>(y) % 16 == 0) {
      constexpr int kWords = 8 * sizeof(T) / 4;
      std::uint32_t words[kWords];
      ROPEWALK_UNROLL
      for (int j = 0; j < kWords; ++j) {
        if constexpr (sizeof(T) == 4) words[j] = std::bit_cast<std::uint32_t>(values[j]);
        else words[j] = std::uint32_t{values[2 * j].bits} | std::uint32_t{values[2 * j + 1].bits} << 16;
      }
      ROPEWALK_UNROLL
      for (int j = 0; j < kWords; j += 4) block.store_16(reinterpret_cast<std::byte*>(y) + 4 * j, words + j);
      return;
    }
  }
  ROPEWALK_UNROLL
  for (int j = 0; j < kCount; ++j) y[j] = values[j];
}
template <class T, class Block, int kCount>
ROPEWALK_DEVICE void put_rounded(const Block& block, void* y, std::uint64_t at, const float (&values)[kCount]) {
  T rounded[kCount];
  ROPEWALK_UNROLL
  for (int j = 0; j < kCount; ++j) rounded[j] = from_float<T>(values[j]);
  put(block, static_cast<T*>(y) + at, rounded);
}
template <class Block, int kCount>
ROPEWALK_DEVICE void put_decoded(const Block& block, const DecodeArgs& args, std::uint64_t at,
                                 const float (&values)[kCount]) {
  if (args.as == DecodedAs::bf16) put_rounded<Bf16>(block, args.y, at, values);
  else if (args.as == DecodedAs::f16) put_rounded<Fp16>(block, args.y, at, values);
  else if (args.as == DecodedAs::f32) put_rounded<float>(block, args.y, at, values);
  else {
    float rest[kCount];
    ROPEWALK_UNROLL
    for (int j = 0; j < kCount; ++j) rest[j] = values[j];
    ROPEWALK_NO_UNROLL
    for (int term = 0; term < args.terms; ++term) {
      Bf16 parts[kCount];
      ROPEWALK_UNROLL
      for (int j = 0; j < kCount; ++j) parts[j] = take_term(rest[j]);
      put(block, static_cast<Bf16*>(args.y) + std::uint64_t(term) * args.term_stride + at, parts);
    }
  }
}

/// What block x has to do: elements first .. first + count of the row at `bytes`, into y from `to` on.
struct DecodePart {
  const std::byte* bytes;
  std::uint64_t first, to;
  int count;
};
template <class Block>
ROPEWALK_DEVICE DecodePart decode_part(const Block& block, const DecodeArgs& args) {
  const std::uint64_t tiles = decode_tiles(args.elements), row = block.x() / tiles,
                      first = block.x() % tiles * kDecodeElements, rest = args.elements - first;
  const std::byte* bytes =
      args.ids ? args.bytes + static_cast<std::uint64_t>(args.ids[row]) * args.row_bytes : args.bytes;
  return {bytes, first, row * args.row_stride + first,
          static_cast<int>(rest < kDecodeElements ? rest : kDecodeElements)};
}

template <class Type>
struct DecodeShared {
  static constexpr std::uint64_t kBytes = kDecodeElements / Type::kElements * Type::kBytes;
  static_assert(kDecodeElements % Type::kElements == 0 && kBytes % 16 == 0);
  alignas(16) std::byte bytes[kBytes];
};
/// The device body of lib/codecs/decode.h's decoder, then one rounding or a split.
template <class Type, class Block>
ROPEWALK_DEVICE void decode_block(const Block& block, const DecodeArgs& args, DecodeShared<Type>& shared) {
  const DecodePart part = decode_part(block, args);
  const std::byte* from = part.bytes + part.first / Type::kElements * Type::kBytes;
  const int bytes = part.count / Type::kElements * Type::kBytes,
            vectors = reinterpret_cast<std::uintptr_t>(from) % 16 == 0 ? bytes / 16 : 0;
  block.lanes([&](int thread) {
    for (int i = thread; i < vectors; i += kRowThreads) block.copy_16(shared.bytes + 16 * i, from + 16 * i, true);
    for (int i = 16 * vectors + thread; i < bytes; i += kRowThreads) shared.bytes[i] = from[i];
  });
  block.finish_copies();
  block.lanes([&](int thread) {
    if (8 * thread >= part.count) return;
    constexpr int kEights = Type::kElements / 8;
    const std::byte* at = shared.bytes + thread / kEights * Type::kBytes;
    const int eight = thread % kEights;
    const auto scale = Type::scale(at, eight / (Type::kGroup / 8));
    float values[8];
    ROPEWALK_UNROLL
    for (int j = 0; j < 8; ++j) values[j] = Type::value(at, scale, eight << 3 | j);
    put_decoded(block, args, part.to + std::uint64_t(8 * thread), values);
  });
}

/// Element `index` of f32, bf16 or f16 at any address.
ROPEWALK_DEVICE float plain_element(DType dtype, const std::byte* bytes, std::uint64_t index) {
  const auto bits = [&](std::uint64_t at) {
    return static_cast<std::uint16_t>(static_cast<unsigned>(bytes[at]) | static_cast<unsigned>(bytes[at + 1]) << 8);
  };
  if (dtype == DType::bf16) return to_float(Bf16{bits(2 * index)});
  if (dtype == DType::f16) return to_float(Fp16{bits(2 * index)});
  return std::bit_cast<float>(std::uint32_t{bits(4 * index)} | std::uint32_t{bits(4 * index + 2)} << 16);
}
/// The same of types that are no blocks; a row may have any length.
template <class Block>
ROPEWALK_DEVICE void decode_plain_block(const Block& block, DType dtype, const DecodeArgs& args) {
  const DecodePart part = decode_part(block, args);
  block.lanes([&](int thread) {
    for (int i = thread; i < part.count; i += kRowThreads) {
      const float value[1] = {plain_element(dtype, part.bytes, part.first + std::uint64_t(i))};
      put_decoded(block, args, part.to + std::uint64_t(i), value);
    }
  });
}
constexpr bool is_plain(DType dtype) { return dtype == DType::f32 || dtype == DType::bf16 || dtype == DType::f16; }

}  // namespace ropewalk::verify
