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

struct Ranges {
  alignas(64) float low[kBatch], high[kBatch];
};

// Four vectors, each a block's, to one whose every four lanes are of those blocks.
template <class V, class Op>
HWY_INLINE V four_to_one(const V& a, const V& b, const V& c, const V& d, const Op& op) {
  const Floats df;
  const hn::RepartitionToWide<Floats> wide;
  const auto pairs = [&](const V& one, const V& other) {
    return hn::BitCast(wide, op(hn::InterleaveLower(df, one, other), hn::InterleaveUpper(df, one, other)));
  };
  const auto ab = pairs(a, b), cd = pairs(c, d);
  return op(hn::BitCast(df, hn::InterleaveLower(wide, ab, cd)), hn::BitCast(df, hn::InterleaveUpper(wide, ab, cd)));
}

// The smallest and the largest of 32 elements each of four blocks.
HWY_INLINE void ranges_of_four(const float* x, float* low, float* high) {
  const Floats df;
  constexpr int kMost = static_cast<int>(hn::MaxLanes(Floats()));
  const int lanes = static_cast<int>(hn::Lanes(df));
  const auto reduced = [&](const auto& op, float* out) {
    const auto of_block = [&](int b) {
      auto v = hn::LoadU(df, x + 32 * b);
      for (int i = lanes; i < 32; i += lanes) v = op(v, hn::LoadU(df, x + 32 * b + i));
      return v;
    };
    alignas(64) float fours[kMost];
    hn::Store(four_to_one(of_block(0), of_block(1), of_block(2), of_block(3), op), df, fours);
    const hn::FixedTag<float, 4> d4;
    auto v = hn::Load(d4, fours);
    for (int i = 4; i < lanes; i += 4) v = op(v, hn::Load(d4, fours + i));
    hn::Store(v, d4, out);
  };
  reduced([](auto a, auto b) { return hn::Min(a, b); }, low);
  reduced([](auto a, auto b) { return hn::Max(a, b); }, high);
}

// Of n_blocks of 32 finite elements.
HWY_INLINE void ranges_of(const float* x, int n_blocks, Ranges& ranges) {
  alignas(64) float last[4 * 32] = {};
  for (int b = 0; b < kBatch; b += 4) {
    const float* from = x + 32 * b;
    if (b + 4 > n_blocks) {
      if (b < n_blocks) std::copy_n(from, 32 * (n_blocks - b), last);
      from = last;
    }
    ranges_of_four(from, ranges.low + b, ranges.high + b);
  }
}

// 32 levels min(top, (x - low) * inverse + offset towards zero), none below 0: of each two that are 16 apart the low
// four bits in a byte, and the fifth ones at `fifths` if top is 31.
template <int top>
HWY_INLINE void put_levels(const float* x, float low, float inverse, float offset, std::byte* quarters,
                           std::byte* fifths) {
  const Floats df;
  const Ints di;
  const Bytes d8;
  const int lanes = static_cast<int>(hn::Lanes(df));
  const auto levels = [&](int i) {
    const auto up = hn::Mul(hn::Sub(hn::LoadU(df, x + i), hn::Set(df, low)), hn::Set(df, inverse));
    return hn::Min(hn::ConvertTo(di, hn::Add(up, hn::Set(df, offset))), hn::Set(di, top));
  };
  std::uint32_t bits = 0;
  const auto fifth = [&](auto level, int i) {
    std::uint8_t mask[8] = {};  // as many as the function may write
    hn::StoreMaskBits(di, hn::Gt(level, hn::Set(di, 15)), mask);
    bits |= static_cast<std::uint32_t>(mask[0] | mask[1] << 8) << i;
  };
  for (int i = 0; i < 16; i += lanes) {
    const auto first = levels(i), second = levels(i + 16);
    const auto low_bits = top == 15 ? first : hn::And(first, hn::Set(di, 15));
    const auto high_bits = top == 15 ? second : hn::And(second, hn::Set(di, 15));
    hn::StoreU(hn::DemoteTo(d8, hn::Or(low_bits, hn::ShiftLeft<4>(high_bits))), d8,
               reinterpret_cast<std::uint8_t*>(quarters + i));
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

// Q4_0, Q5_0: where the extremes tie, the first would decide.
template <class Type, int half, int fifth>
HWY_INLINE void symmetric_row(const float* x, std::int64_t n, std::byte* out, RowEncoder* definition) {
  for_batches(x, n, 32, Type::kBytes, out, [&](const float* in, int n_blocks, std::byte* to) {
    if (!simd::all_finite(in, 32 * static_cast<std::size_t>(n_blocks)))
      return definition(in, nullptr, 32 * n_blocks, to);
    Ranges ranges;
    ranges_of(in, n_blocks, ranges);
    alignas(64) float peaks[kBatch];
    for (int b = 0; b < kBatch; ++b) peaks[b] = ranges.high[b] > -ranges.low[b] ? ranges.high[b] : ranges.low[b];
    Scales scales;
    scales_of(peaks, -half, scales);
    for (int b = 0; b < n_blocks; ++b, in += 32, to += Type::kBytes) {
      if (ranges.high[b] == -ranges.low[b] || !(std::fabs(scales.inverse[b]) <= kFinite)) {
        definition(in, nullptr, 32, to);
        continue;
      }
      std::memcpy(to, scales.codes + 2 * b, 2);
      put_levels<2 * half - 1>(in, 0, scales.inverse[b], half + 0.5f, to + Type::kBytes - 16, to + fifth);
    }
  });
}

// Q4_1, Q5_1: the sign of a zero that is the smallest element is that of the first.
template <class Type, int top, int fifth>
HWY_INLINE void affine_row(const float* x, std::int64_t n, std::byte* out, RowEncoder* definition) {
  for_batches(x, n, 32, Type::kBytes, out, [&](const float* in, int n_blocks, std::byte* to) {
    if (!simd::all_finite(in, 32 * static_cast<std::size_t>(n_blocks)))
      return definition(in, nullptr, 32 * n_blocks, to);
    Ranges ranges;
    ranges_of(in, n_blocks, ranges);
    alignas(64) float extents[kBatch];
    for (int b = 0; b < kBatch; ++b) extents[b] = ranges.high[b] - ranges.low[b];
    Scales scales;
    scales_of(extents, top, scales);
    std::byte low_codes[2 * kBatch];
    simd::f32_to_f16(ranges.low, low_codes, kBatch);
    for (int b = 0; b < n_blocks; ++b, in += 32, to += Type::kBytes) {
      if (ranges.low[b] == 0 || !(extents[b] <= kFinite) || !(scales.inverse[b] <= kFinite)) {
        definition(in, nullptr, 32, to);
        continue;
      }
      std::memcpy(to, scales.codes + 2 * b, 2);
      std::memcpy(to + 2, low_codes + 2 * b, 2);
      put_levels<top>(in, ranges.low[b], scales.inverse[b], 0.5f, to + Type::kBytes - 16, to + fifth);
    }
  });
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

void Q4_0Row(const float* x, std::int64_t n, std::byte* out) { symmetric_row<Q4_0, 8, 0>(x, n, out, encode_q4_0); }
void Q5_0Row(const float* x, std::int64_t n, std::byte* out) { symmetric_row<Q5_0, 16, 2>(x, n, out, encode_q5_0); }
void Q4_1Row(const float* x, std::int64_t n, std::byte* out) { affine_row<Q4_1, 15, 0>(x, n, out, encode_q4_1); }
void Q5_1Row(const float* x, std::int64_t n, std::byte* out) { affine_row<Q5_1, 31, 4>(x, n, out, encode_q5_1); }

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
