#include "lib/codecs/q8_0.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "lib/simd_targets.h"
#include "lib/small_float.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lib/codecs/q8_0.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "lib/codecs/block_scales-inl.h"

#ifndef ROPEWALK_BLOCK_Q8_0_ONCE
#define ROPEWALK_BLOCK_Q8_0_ONCE
namespace ropewalk::q8_0 {

inline constexpr std::size_t kElements = 32, kBytes = 34;

inline std::uint16_t scale_code(float d) {
  if (std::isnan(d)) return std::signbit(d) ? 0xfe00 : 0x7e00;  // ggml keeps no payload
  return static_cast<std::uint16_t>(Half::narrow(d));
}

/// The definition, one block.
inline void encode_block(const float* x, std::byte* block) {
  float largest = 0;
  for (std::size_t i = 0; i < kElements; ++i) {
    const float magnitude = std::fabs(x[i]);
    largest = largest > magnitude ? largest : magnitude;  // not fmax: this order decides what a NaN does
  }
  const float d = largest / 127, inverse = d != 0 ? 1 / d : 0.0f;
  const std::uint16_t code = scale_code(d);
  std::memcpy(block, &code, 2);
  for (std::size_t i = 0; i < kElements; ++i) {
    const float q = std::round(x[i] * inverse);
    block[2 + i] = static_cast<std::byte>(std::isfinite(q) ? static_cast<std::int8_t>(q) : std::int8_t{0});
  }
}

}  // namespace ropewalk::q8_0
#endif

HWY_BEFORE_NAMESPACE();
namespace ropewalk::q8_0::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128

void Encode(const float* x, std::byte* blocks, std::size_t n_blocks) {
  for (std::size_t b = 0; b < n_blocks; ++b) encode_block(x + b * kElements, blocks + b * kBytes);
}
void Decode(const std::byte* blocks, float* x, std::size_t n_blocks) {
  for (std::size_t b = 0; b < n_blocks; ++b, blocks += kBytes) {
    std::uint16_t code;
    std::memcpy(&code, blocks, 2);
    const float d = Half::widen(code);
    for (std::size_t i = 0; i < kElements; ++i) *x++ = static_cast<float>(static_cast<std::int8_t>(blocks[2 + i])) * d;
  }
}

#else

using codecs::HWY_NAMESPACE::Floats;
using codecs::HWY_NAMESPACE::Scales;
constexpr std::size_t kBatch = Scales::kBatch;

// 32 elements times `inverse`, rounded half away from zero. All products are finite and at most 127.5 in magnitude.
HWY_INLINE void round_elements(const float* x, float inverse, std::byte* out) {
  const Floats df;
  const hn::RebindToSigned<Floats> di;
  const hn::Rebind<std::int8_t, Floats> d8;
  const auto factor = hn::Set(df, inverse), half = hn::Set(df, 0.5f);
  for (std::size_t i = 0; i < kElements; i += hn::Lanes(df)) {
    const auto q = hn::Mul(hn::LoadU(df, x + i), factor);
    const auto magnitude = hn::Abs(q);
    auto whole = hn::ConvertTo(di, magnitude);                                            // towards zero
    const auto rest = hn::Sub(magnitude, hn::ConvertTo(df, whole));                       // exact
    whole = hn::Sub(whole, hn::VecFromMask(di, hn::RebindMask(di, hn::Ge(rest, half))));  // a true lane is -1
    const auto sign = hn::BroadcastSignBit(hn::BitCast(di, q));
    hn::StoreU(hn::DemoteTo(d8, hn::Sub(hn::Xor(whole, sign), sign)), d8, reinterpret_cast<std::int8_t*>(out + i));
  }
}

void EncodeBatch(const float* x, std::byte* blocks, std::size_t n_blocks) {
  alignas(64) float largest[kBatch] = {};
  for (std::size_t b = 0; b < n_blocks; ++b)
    largest[b] = codecs::HWY_NAMESPACE::largest_magnitude(x + b * kElements, kElements);
  Scales scales;
  codecs::HWY_NAMESPACE::scales_of(largest, 127, scales);
  for (std::size_t b = 0; b < n_blocks; ++b, x += kElements, blocks += kBytes) {
    if (largest[b] <= std::numeric_limits<float>::max() && scales.inverse[b] <= std::numeric_limits<float>::max()) {
      std::memcpy(blocks, scales.codes + 2 * b, 2);
      round_elements(x, scales.inverse[b], blocks + 2);
    } else {
      encode_block(x, blocks);
    }
  }
}
void Encode(const float* x, std::byte* blocks, std::size_t n_blocks) {
  for (std::size_t b = 0; b < n_blocks; b += kBatch)
    EncodeBatch(x + b * kElements, blocks + b * kBytes, std::min(kBatch, n_blocks - b));
}

void Decode(const std::byte* blocks, float* x, std::size_t n_blocks) {
  const Floats df;
  const hn::RebindToSigned<Floats> di;
  const hn::Rebind<std::int8_t, Floats> d8;
  for (std::size_t b = 0; b < n_blocks; ++b, x += kElements, blocks += kBytes) {
    std::uint16_t code;
    std::memcpy(&code, blocks, 2);
    const auto d = hn::Set(df, Half::widen(code));
    for (std::size_t i = 0; i < kElements; i += hn::Lanes(df)) {
      const auto q = hn::PromoteTo(di, hn::LoadU(d8, reinterpret_cast<const std::int8_t*>(blocks + 2 + i)));
      hn::StoreU(hn::Mul(hn::ConvertTo(df, q), d), df, x + i);
    }
  }
}

#endif

}  // namespace ropewalk::q8_0::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ropewalk {
namespace q8_0 {
HWY_EXPORT(Encode);
HWY_EXPORT(Decode);
}  // namespace q8_0

void encode_q8_0(std::span<const float> values, std::span<std::byte> bytes) {
  assert(values.size() % q8_0::kElements == 0 && bytes.size() == values.size() / q8_0::kElements * q8_0::kBytes);
  using namespace q8_0;
  HWY_DYNAMIC_DISPATCH(Encode)(values.data(), bytes.data(), values.size() / kElements);
}

void decode_q8_0(std::span<const std::byte> bytes, std::span<float> values) {
  assert(values.size() % q8_0::kElements == 0 && bytes.size() == values.size() / q8_0::kElements * q8_0::kBytes);
  using namespace q8_0;
  HWY_DYNAMIC_DISPATCH(Decode)(bytes.data(), values.data(), values.size() / kElements);
}

}  // namespace ropewalk
#endif
