#pragma once

#include <type_traits>

#include "lib/codecs/iq_types.h"
#include "lib/codecs/k_types.h"
#include "lib/codecs/plain_types.h"
#include "lib/dtype.h"

namespace ropewalk::codecs {

/// How a ggml type is described: a struct of static members, whose layout comment is in file order and whose arithmetic is
/// ggml's, operation by operation. It is the definition that vector and device bodies are held against.
///   kElements, kBytes     of a block
///   kGroup                elements that share a scale
///   scale(block, group)   what they share: a float d, or an Affine
///   value(block, s, i)    element i of the block, s the scale of its group
///   kLargest              |value| <= kLargest |d| + |m|
/// All are functions of bytes that any bytes may be given to, without state or tables but constants (table.h): the
/// device's body is the same text, eight elements a thread (verify/cuda/decode_tile.h).

/// Element `i` of consecutive blocks.
template <class Type>
constexpr float element(const std::byte* blocks, std::uint64_t i) {
  const std::byte* block = blocks + i / Type::kElements * Type::kBytes;
  const int at = static_cast<int>(i % Type::kElements);
  return Type::value(block, Type::scale(block, at / Type::kGroup), at);
}

/// Calls `use(Type{})` for the struct that describes `dtype`; false if there is none: plain types, and q8_1 and q8_k,
/// which no file holds.
template <class Use>
constexpr bool with_block_type(DType dtype, Use&& use) {
  switch (dtype) {
    case DType::q4_0: return use(Q4_0{}), true;
    case DType::q4_1: return use(Q4_1{}), true;
    case DType::q5_0: return use(Q5_0{}), true;
    case DType::q5_1: return use(Q5_1{}), true;
    case DType::q8_0: return use(Q8_0{}), true;
    case DType::q2_k: return use(Q2K{}), true;
    case DType::q3_k: return use(Q3K{}), true;
    case DType::q4_k: return use(Q4K{}), true;
    case DType::q5_k: return use(Q5K{}), true;
    case DType::q6_k: return use(Q6K{}), true;
    case DType::iq1_s: return use(Iq1S{}), true;
    case DType::iq1_m: return use(Iq1M{}), true;
    case DType::iq2_xxs: return use(Iq2Xxs{}), true;
    case DType::iq2_xs: return use(Iq2Xs{}), true;
    case DType::iq2_s: return use(Iq2S{}), true;
    case DType::iq3_xxs: return use(Iq3Xxs{}), true;
    case DType::iq3_s: return use(Iq3S{}), true;
    case DType::iq4_nl: return use(Iq4Nl{}), true;
    case DType::iq4_xs: return use(Iq4Xs{}), true;
    case DType::tq1_0: return use(Tq1_0{}), true;
    case DType::tq2_0: return use(Tq2_0{}), true;
    case DType::mxfp4: return use(Mxfp4{}), true;
    case DType::nvfp4: return use(Nvfp4{}), true;
    case DType::q1_0: return use(Q1_0{}), true;
    case DType::q2_0: return use(Q2_0{}), true;
    default: return false;
  }
}

}  // namespace ropewalk::codecs
