// The plain types' encoders of encode_plain.cpp with a block's elements side by side: only minima, maxima and what is
// done to each element alone, so the order of operations is that of the definition. Blocks whose bits could depend on
// more (a tie of extremes, zeros of either sign, what is not finite) are the definition's.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "lib/codecs/encoders.h"
#include "lib/codecs/pack.h"
#include "lib/codecs/plain_types.h"
#include "lib/convert_simd.h"
#include "lib/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lib/codecs/plain_vectors.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "lib/codecs/block_scales-inl.h"

#ifndef ROPEWALK_PLAIN_VECTORS_ONCE
#define ROPEWALK_PLAIN_VECTORS_ONCE
namespace ropewalk::codecs {

constexpr float kFinite = std::numeric_limits<float>::max();

/// ceil(digits * 256 / 243): how Tq1_0 stores five digits of base 3.
struct FractionOf256 {
  std::byte of[243];
  constexpr FractionOf256() : of() {
    for (int digits = 0; digits < 243; ++digits) of[digits] = static_cast<std::byte>((digits * 256 + 242) / 243);
  }
};
inline constexpr FractionOf256 kFractions;

/// floor(log2(x)) as encode_mxfp4 has it, of a positive finite x: log2's result is rounded to float, which takes what is
/// just below a power of two to that power.
inline int floor_log2(float x) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(x);
  if (bits >= 0x00800000 && (bits & 0x7fffff) < 0x7fff00) return static_cast<int>(bits >> 23) - 127;
  return static_cast<int>(std::floor(static_cast<float>(std::log2(static_cast<double>(x)))));
}

}  // namespace ropewalk::codecs
#endif

HWY_BEFORE_NAMESPACE();
namespace ropewalk::codecs::HWY_NAMESPACE {
#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128

void Q4_0Row(const float* x, std::int64_t n, std::byte* out) { encode_q4_0(x, nullptr, n, out); }
void Q4_1Row(const float* x, std::int64_t n, std::byte* out) { encode_q4_1(x, nullptr, n, out); }
void Q5_0Row(const float* x, std::int64_t n, std::byte* out) { encode_q5_0(x, nullptr, n, out); }
void Q5_1Row(const float* x, std::int64_t n, std::byte* out) { encode_q5_1(x, nullptr, n, out); }
void Q2_0Row(const float* x, std::int64_t n, std::byte* out) { encode_q2_0(x, nullptr, n, out); }
void Tq1_0Row(const float* x, std::int64_t n, std::byte* out) { encode_tq1_0(x, nullptr, n, out); }
void Tq2_0Row(const float* x, std::int64_t n, std::byte* out) { encode_tq2_0(x, nullptr, n, out); }
void Mxfp4Row(const float* x, std::int64_t n, std::byte* out) { encode_mxfp4(x, nullptr, n, out); }
void Nvfp4Row(const float* x, std::int64_t n, std::byte* out) { encode_nvfp4(x, nullptr, n, out); }

#else

using Bytes = hn::Rebind<std::uint8_t, Floats>;
constexpr int kBatch = Scales::kBatch;

using V = hn::Vec<Floats>;
using Mask = hn::Mask<Floats>;

constexpr int kLanesHere = static_cast<int>(hn::MaxLanes(Floats()));
constexpr int kVectors = kBatch / kLanesHere;  // that hold a value of each block of a batch

// Four vectors, each a block's, to one whose every four lanes are of those blocks.
template <class Op>
HWY_INLINE V four_to_one(const V* v, const Op& op) {
  const Floats df;
  const hn::RepartitionToWide<Floats> wide;
  const auto pairs = [&](const V& one, const V& other) HWY_ATTR {
    return hn::BitCast(wide, op(hn::InterleaveLower(df, one, other), hn::InterleaveUpper(df, one, other)));
  };
  const auto ab = pairs(v[0], v[1]), cd = pairs(v[2], v[3]);
  return op(hn::BitCast(df, hn::InterleaveLower(wide, ab, cd)), hn::BitCast(df, hn::InterleaveUpper(wide, ab, cd)));
}

// Four of those to as many vectors as 16 blocks take, a lane for each.
template <class Op>
HWY_INLINE void sixteen_to_one(const V* fours, const Op& op, V* out) {
  const Floats df;
  if constexpr (kLanesHere == 4) {
    std::copy_n(fours, 4, out);
  } else {
    const auto halves = [&](const V& one, const V& other) HWY_ATTR {
      return op(hn::ConcatLowerLower(df, other, one), hn::ConcatUpperUpper(df, other, one));
    };
    if constexpr (kLanesHere == 8) {
      out[0] = halves(fours[0], fours[1]);
      out[1] = halves(fours[2], fours[3]);
    } else {
      const V even = halves(fours[0], fours[2]),
              odd = halves(fours[1], fours[3]);  // of four lanes each, 0 0 2 2, 1 1 3 3
      out[0] = op(hn::OddEvenBlocks(hn::SwapAdjacentBlocks(odd), even),
                  hn::OddEvenBlocks(odd, hn::SwapAdjacentBlocks(even)));
    }
  }
}

// The smallest and the largest of 32 elements each of kBatch blocks. False where one is infinite or NaN (or a sum
// overflows): then they are nothing.
HWY_INLINE bool ranges_of(const float* x, V* low, V* high) {
  const Floats df;
  const auto least = [](const V& one, const V& other) HWY_ATTR { return hn::Min(one, other); };
  const auto most = [](const V& one, const V& other) HWY_ATTR { return hn::Max(one, other); };
  V lows[4], highs[4], all = hn::Zero(df);
  for (int four = 0; four < 4; ++four) {
    V of_low[4], of_high[4];
    for (int b = 0; b < 4; ++b, x += 32) {
      V sum = of_low[b] = of_high[b] = hn::LoadU(df, x);
      for (int i = kLanesHere; i < 32; i += kLanesHere) {
        const V more = hn::LoadU(df, x + i);
        of_low[b] = least(of_low[b], more);
        of_high[b] = most(of_high[b], more);
        sum = hn::Add(sum, more);
      }
      all = hn::Add(all, sum);
    }
    lows[four] = four_to_one(of_low, least);
    highs[four] = four_to_one(of_high, most);
  }
  sixteen_to_one(lows, least, low);
  sixteen_to_one(highs, most, high);
  return hn::AllTrue(df, hn::Le(hn::Abs(all), hn::Set(df, kFinite)));
}

// What a batch of blocks has beside its levels.
struct Frames {
  alignas(64) float low[kBatch], inverse[kBatch];
  alignas(64) float halves[2 * kBatch];  // each block's d, each block's smallest
  std::byte codes[4 * kBatch];
  std::uint32_t unsure = 0;  // blocks that are the definition's, as bits
};

// Of vector i of a batch.
HWY_INLINE void put_frames(int i, V d, V low, Mask unsure, Frames& frames) {
  const Floats df;
  const V inverse = hn::IfThenElseZero(hn::Ne(d, hn::Zero(df)), hn::Div(hn::Set(df, 1.0f), d));
  const Mask finite = hn::Le(hn::Abs(inverse), hn::Set(df, kFinite));
  std::uint8_t bits[8] = {};  // as many as the function may write
  hn::StoreMaskBits(df, hn::Or(unsure, hn::Not(finite)), bits);
  frames.unsure |= static_cast<std::uint32_t>(bits[0] | bits[1] << 8) << i * kLanesHere;
  hn::Store(inverse, df, frames.inverse + i * kLanesHere);
  hn::Store(low, df, frames.low + i * kLanesHere);
  hn::Store(d, df, frames.halves + i * kLanesHere);
  hn::Store(low, df, frames.halves + kBatch + i * kLanesHere);
}

// ConvertTo() of what an int holds, which on x86 spares three operations that see to the rest.
HWY_INLINE hn::Vec<Ints> whole_part(V x) {
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3
  return hn::Vec<Ints>{_mm512_cvttps_epi32(x.raw)};
#elif HWY_ARCH_X86 && HWY_TARGET == HWY_AVX2
  return hn::Vec<Ints>{_mm256_cvttps_epi32(x.raw)};
#else
  return hn::ConvertTo(Ints(), x);
#endif
}

// 32 levels min(top, (x - low) * inverse + offset towards zero), none below 0 and, unless `limits`, none above `top`: of
// each two that are 16 apart the low four bits in a byte, and the fifth ones at `fifths` if top is 31.
template <int top, bool affine>
HWY_INLINE void put_levels(const float* x, float low, float inverse, float offset, std::byte* quarters,
                           std::byte* fifths) {
  const Floats df;
  const Ints di;
  const hn::RebindToUnsigned<Ints> du;
  const Bytes d8;
  const auto levels = [&](int i) HWY_ATTR {
    V xi = hn::LoadU(df, x + i);
    if constexpr (affine) xi = hn::Sub(xi, hn::Set(df, low));
    const auto level = whole_part(hn::Add(hn::Mul(xi, hn::Set(df, inverse)), hn::Set(df, offset)));
    return affine ? level : hn::Min(level, hn::Set(di, top));
  };
  std::uint32_t bits = 0;
  const auto fifth = [&](auto level, int i) HWY_ATTR {
    std::uint8_t mask[8] = {};  // as many as the function may write
    hn::StoreMaskBits(di, hn::Gt(level, hn::Set(di, 15)), mask);
    bits |= static_cast<std::uint32_t>(mask[0] | mask[1] << 8) << i;
  };
  for (int i = 0; i < 16; i += kLanesHere) {
    const auto first = levels(i), second = levels(i + 16);
    const auto low_bits = top == 15 ? first : hn::And(first, hn::Set(di, 15));
    const auto high_bits = top == 15 ? second : hn::And(second, hn::Set(di, 15));
    const auto both = hn::BitCast(du, hn::Or(low_bits, hn::ShiftLeft<4>(high_bits)));
    hn::StoreU(hn::U8FromU32(both), d8, reinterpret_cast<std::uint8_t*>(quarters + i));
    if constexpr (top == 31) fifth(first, i), fifth(second, i + 16);
  }
  if constexpr (top == 31) std::memcpy(fifths, &bits, 4);
}

// round(x * inverse) + 1, half away from zero, where |x * inverse| is at most 1.5.
HWY_INLINE void ternary_levels(const float* x, int n, float inverse, std::uint8_t* levels) {
  const Floats df;
  const Ints di;
  const Bytes d8;
  for (int i = 0; i < n; i += static_cast<int>(hn::Lanes(df))) {
    const auto q = hn::Mul(hn::LoadU(df, x + i), hn::Set(df, inverse));
    const auto is = [&](auto mask) { return hn::VecFromMask(di, hn::RebindMask(di, mask)); };  // -1 if so
    const auto below = is(hn::Le(q, hn::Set(df, -0.5f))), above = is(hn::Ge(q, hn::Set(df, 0.5f)));
    hn::StoreU(hn::DemoteTo(d8, hn::Sub(hn::Add(hn::Set(di, 1), below), above)), d8, levels + i);
  }
}

// nearest_e2m1: a level of the other sign is never nearer than 0, so magnitudes are compared and the sign put back.
HWY_INLINE void e2m1_levels(const float* x, int n, float halved_scale, std::uint8_t* levels) {
  const Floats df;
  const Ints di;
  const Bytes d8;
  for (int i = 0; i < n; i += static_cast<int>(hn::Lanes(df))) {
    const auto v = hn::LoadU(df, x + i), magnitude = hn::Abs(v);
    auto least = magnitude;
    auto best = hn::Zero(di);
    for (int code = 1; code < 8; ++code) {
      const auto level = hn::Set(df, static_cast<float>(doubled_e2m1(code)) * halved_scale);
      const auto off = hn::Abs(hn::Sub(level, magnitude));
      const auto nearer = hn::Lt(off, least);
      least = hn::IfThenElse(nearer, off, least);
      best = hn::IfThenElse(hn::RebindMask(di, nearer), hn::Set(di, code), best);
    }
    const auto negative = hn::And(hn::Lt(hn::BitCast(di, v), hn::Zero(di)), hn::Gt(best, hn::Zero(di)));
    hn::StoreU(hn::DemoteTo(d8, hn::Or(best, hn::IfThenElseZero(negative, hn::Set(di, 8)))), d8, levels + i);
  }
}

// levels[0 .. n) below 16, and n more above them.
HWY_INLINE void put_nibbles(const std::uint8_t* levels, int n, std::byte* out) {
  for (int i = 0; i < n; ++i) out[i] = static_cast<std::byte>((levels[i] & 15) | levels[i + n] << 4);
}

template <class Encode>
HWY_INLINE void for_batches(const float* x, std::int64_t n, int block_elements, int block_bytes, std::byte* out,
                            const Encode& encode) {
  for (std::int64_t left = n / block_elements; left > 0; left -= kBatch) {
    encode(x, static_cast<int>(std::min<std::int64_t>(left, kBatch)), out);
    x += static_cast<std::ptrdiff_t>(kBatch) * block_elements;
    out += static_cast<std::ptrdiff_t>(kBatch) * block_bytes;
  }
}

// Q4_0 and Q5_0, where the first of extremes that tie would decide; Q4_1 and Q5_1, where the sign of a zero that is the
// smallest element is that of the first. A level of those is at most top + 1/2 and some roundings.
template <class Type, bool affine>
struct Plain {
  static constexpr int kHalf = static_cast<int>(Type::kLargest), kTop = affine ? kHalf : 2 * kHalf - 1;
};

template <class Type, bool affine>
HWY_INLINE void frames_of(const float* x, int n_blocks, Frames& frames) {
  constexpr int kHalf = Plain<Type, affine>::kHalf, kTop = Plain<Type, affine>::kTop;
  const Floats df;
  alignas(64) float last[32 * kBatch];
  if (n_blocks < kBatch) {
    std::fill(std::copy_n(x, 32 * n_blocks, last), last + 32 * kBatch, 0.0f);
    x = last;
  }
  V low[kVectors], high[kVectors];
  frames.unsure = ranges_of(x, low, high) ? 0 : ~0u;
  for (int i = 0; i < kVectors; ++i) {
    if constexpr (affine) {
      const V extent = hn::Sub(high[i], low[i]);
      const Mask finite = hn::Le(extent, hn::Set(df, kFinite));
      put_frames(i, hn::Div(extent, hn::Set(df, kTop)), low[i], hn::Or(hn::Eq(low[i], hn::Zero(df)), hn::Not(finite)),
                 frames);
    } else {
      const V mirrored = hn::Neg(low[i]), peak = hn::IfThenElse(hn::Gt(high[i], mirrored), high[i], low[i]);
      put_frames(i, hn::Mul(peak, hn::Set(df, -1.0f / kHalf)), low[i], hn::Eq(high[i], mirrored), frames);
    }
  }
  simd::f32_to_f16(frames.halves, frames.codes, affine ? 2 * kBatch : kBatch);
}

template <class Type, bool affine, int fifth>
HWY_INLINE void put_blocks(const float* x, int n_blocks, const Frames& frames, std::byte* out, RowEncoder* definition) {
  constexpr int kTop = Plain<Type, affine>::kTop;
  for (int b = 0; b < n_blocks; ++b, x += 32, out += Type::kBytes) {
    if ((frames.unsure >> b & 1) != 0) {
      definition(x, nullptr, 32, out);
      continue;
    }
    std::memcpy(out, frames.codes + 2 * b, 2);
    if constexpr (affine) std::memcpy(out + 2, frames.codes + 2 * (kBatch + b), 2);
    put_levels<kTop, affine>(x, frames.low[b], frames.inverse[b], affine ? 0.5f : Plain<Type, affine>::kHalf + 0.5f,
                             out + Type::kBytes - 16, out + fifth);
  }
}

// A batch's levels do not wait for its frame: that of the next is begun before.
template <class Type, bool affine, int fifth>
HWY_INLINE void plain_row(const float* x, std::int64_t n, std::byte* out, RowEncoder* definition) {
  const auto blocks = [](std::int64_t left) { return static_cast<int>(std::min<std::int64_t>(left / 32, kBatch)); };
  Frames frames[2];
  frames_of<Type, affine>(x, blocks(n), frames[0]);
  for (int batch = 0; n > 0; ++batch, n -= 32 * kBatch, x += 32 * kBatch, out += kBatch * Type::kBytes) {
    if (n > 32 * kBatch) frames_of<Type, affine>(x + 32 * kBatch, blocks(n - 32 * kBatch), frames[(batch + 1) % 2]);
    put_blocks<Type, affine, fifth>(x, blocks(n), frames[batch % 2], out, definition);
  }
}

// Q2_0, TQ1_0, TQ2_0: `pack` writes all of a block but its scale, which stands at `scale_at`.
template <class Type, int scale_at, class Pack>
HWY_INLINE void ternary_row(const float* x, std::int64_t n, std::byte* out, RowEncoder* definition, const Pack& pack) {
  constexpr int kN = Type::kElements;
  for_batches(x, n, kN, Type::kBytes, out, [&](const float* in, int n_blocks, std::byte* to) {
    alignas(64) float most[kBatch] = {};
    for (int b = 0; b < n_blocks; ++b) most[b] = largest_magnitude(in + kN * b, kN);
    Scales scales;
    scales_of(most, 1, scales);
    for (int b = 0; b < n_blocks; ++b, in += kN, to += Type::kBytes) {
      if (!(most[b] <= kFinite) || !(scales.inverse[b] <= kFinite)) {
        definition(in, nullptr, kN, to);
        continue;
      }
      std::uint8_t levels[kN];
      ternary_levels(in, kN, scales.inverse[b], levels);
      std::memcpy(to + scale_at, scales.codes + 2 * b, 2);
      pack(levels, to);
    }
  });
}

void Q4_0Row(const float* x, std::int64_t n, std::byte* out) { plain_row<Q4_0, false, 0>(x, n, out, encode_q4_0); }
void Q5_0Row(const float* x, std::int64_t n, std::byte* out) { plain_row<Q5_0, false, 2>(x, n, out, encode_q5_0); }
void Q4_1Row(const float* x, std::int64_t n, std::byte* out) { plain_row<Q4_1, true, 0>(x, n, out, encode_q4_1); }
void Q5_1Row(const float* x, std::int64_t n, std::byte* out) { plain_row<Q5_1, true, 4>(x, n, out, encode_q5_1); }

void Q2_0Row(const float* x, std::int64_t n, std::byte* out) {
  ternary_row<Q2_0, 0>(x, n, out, encode_q2_0, [](const std::uint8_t* l, std::byte* to) {
    for (int i = 0; i < 16; ++i, l += 4) to[2 + i] = static_cast<std::byte>(l[0] | l[1] << 2 | l[2] << 4 | l[3] << 6);
  });
}

void Tq1_0Row(const float* x, std::int64_t n, std::byte* out) {
  ternary_row<Tq1_0, 52>(x, n, out, encode_tq1_0, [](const std::uint8_t* l, std::byte* to) {
    // five digits of elements `step` apart
    const auto put = [](const std::uint8_t* of, int step, int digits, std::byte* at) {
      for (int i = 0; i < step; ++i) {
        int code = 0;
        for (int k = 0; k < 5; ++k) code = 3 * code + (k < digits ? of[i + k * step] : 0);
        at[i] = kFractions.of[code];
      }
    };
    put(l, 32, 5, to);
    put(l + 160, 16, 5, to + 32);
    put(l + 240, 4, 4, to + 48);
  });
}

void Tq2_0Row(const float* x, std::int64_t n, std::byte* out) {
  ternary_row<Tq2_0, 64>(x, n, out, encode_tq2_0, [](const std::uint8_t* l, std::byte* to) {
    for (int half = 0; half < 2; ++half, l += 128, to += 32)
      for (int i = 0; i < 32; ++i)
        to[i] = static_cast<std::byte>(l[i] | l[i + 32] << 2 | l[i + 64] << 4 | l[i + 96] << 6);
  });
}

void Mxfp4Row(const float* x, std::int64_t n, std::byte* out) {
  for (; n > 0; n -= 32, x += 32, out += Mxfp4::kBytes) {
    const float most = largest_magnitude(x, 32);
    if (!(most > 0 && most <= kFinite)) {
      encode_mxfp4(x, nullptr, 32, out);
      continue;
    }
    const auto e = static_cast<std::uint8_t>(floor_log2(most) - 2 + 127);
    std::uint8_t levels[32];
    e2m1_levels(x, 32, Mxfp4::halved_power(e), levels);
    out[0] = static_cast<std::byte>(e);
    put_nibbles(levels, 16, out + 1);
  }
}

void Nvfp4Row(const float* x, std::int64_t n, std::byte* out) {
  for (; n > 0; n -= 64, x += 64, out += Nvfp4::kBytes) {
    float most[4];
    for (int group = 0; group < 4; ++group) most[group] = largest_magnitude(x + 16 * group, 16);
    if (!std::all_of(most, most + 4, [](float value) { return value <= kFinite; })) {
      encode_nvfp4(x, nullptr, 64, out);
      continue;
    }
    for (int group = 0; group < 4; ++group) {
      const std::uint32_t code = narrow_ue4m3(most[group] / 6.0f);
      std::uint8_t levels[16];
      e2m1_levels(x + 16 * group, 16, Nvfp4::halved_ue4m3(code), levels);
      out[group] = static_cast<std::byte>(code);
      put_nibbles(levels, 8, out + 4 + 8 * group);
    }
  }
}

#endif

}  // namespace ropewalk::codecs::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ropewalk::codecs {

HWY_EXPORT(Q4_0Row);
HWY_EXPORT(Q4_1Row);
HWY_EXPORT(Q5_0Row);
HWY_EXPORT(Q5_1Row);
HWY_EXPORT(Q2_0Row);
HWY_EXPORT(Tq1_0Row);
HWY_EXPORT(Tq2_0Row);
HWY_EXPORT(Mxfp4Row);
HWY_EXPORT(Nvfp4Row);

void encode_q4_0_vectors(const float* x, const float*, std::int64_t columns, std::byte* out) {
  HWY_DYNAMIC_DISPATCH(Q4_0Row)(x, columns, out);
}
void encode_q4_1_vectors(const float* x, const float*, std::int64_t columns, std::byte* out) {
  HWY_DYNAMIC_DISPATCH(Q4_1Row)(x, columns, out);
}
void encode_q5_0_vectors(const float* x, const float*, std::int64_t columns, std::byte* out) {
  HWY_DYNAMIC_DISPATCH(Q5_0Row)(x, columns, out);
}
void encode_q5_1_vectors(const float* x, const float*, std::int64_t columns, std::byte* out) {
  HWY_DYNAMIC_DISPATCH(Q5_1Row)(x, columns, out);
}
void encode_q2_0_vectors(const float* x, const float*, std::int64_t columns, std::byte* out) {
  HWY_DYNAMIC_DISPATCH(Q2_0Row)(x, columns, out);
}
void encode_tq1_0_vectors(const float* x, const float*, std::int64_t columns, std::byte* out) {
  HWY_DYNAMIC_DISPATCH(Tq1_0Row)(x, columns, out);
}
void encode_tq2_0_vectors(const float* x, const float*, std::int64_t columns, std::byte* out) {
  HWY_DYNAMIC_DISPATCH(Tq2_0Row)(x, columns, out);
}
void encode_mxfp4_vectors(const float* x, const float*, std::int64_t columns, std::byte* out) {
  HWY_DYNAMIC_DISPATCH(Mxfp4Row)(x, columns, out);
}
void encode_nvfp4_vectors(const float* x, const float*, std::int64_t columns, std::byte* out) {
  HWY_DYNAMIC_DISPATCH(Nvfp4Row)(x, columns, out);
}

}  // namespace ropewalk::codecs
#endif
