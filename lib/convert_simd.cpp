#include "lib/convert_simd.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "lib/simd_targets.h"
#include "lib/small_float.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lib/convert_simd.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace ropewalk::simd::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Tails, and all of it on the SCALAR target: Highway's emulation there saturates where IEEE 754 overflows.
template <class Format, class Float>
void narrow_rest(const Float* in, std::byte* out, std::size_t begin, std::size_t n) {
  for (std::size_t i = begin; i < n; ++i) {
    const auto code = static_cast<std::uint16_t>(Format::narrow(static_cast<double>(in[i])));
    std::memcpy(out + 2 * i, &code, 2);
  }
}
template <class Format, class Float>
void widen_rest(const std::byte* in, Float* out, std::size_t begin, std::size_t n) {
  for (std::size_t i = begin; i < n; ++i) {
    std::uint16_t code;
    std::memcpy(&code, in + 2 * i, 2);
    out[i] = static_cast<Float>(Format::widen(code));
  }
}
template <class To, class From>
void cast_rest(const From* in, To* out, std::size_t begin, std::size_t n) {
  for (std::size_t i = begin; i < n; ++i) out[i] = static_cast<To>(in[i]);
}
bool all_finite_rest(const float* values, std::size_t begin, std::size_t n) {
  bool finite = true;
  for (std::size_t i = begin; i < n; ++i) finite &= std::isfinite(values[i]);
  return finite;
}

// Without their sign bits codes are not negative, so that signed comparisons, which every target has, order them.
// Integers alone: the same on SCALAR too.
template <class Code>
Code largest_code(const std::byte* in, std::size_t n) {
  const hn::ScalableTag<Code> d;
  const std::size_t lanes = hn::Lanes(d);
  const auto magnitude = hn::Set(d, std::numeric_limits<Code>::max());
  const auto load = [&](std::size_t i) {
    return hn::And(hn::LoadU(d, reinterpret_cast<const Code*>(in) + i), magnitude);
  };
  auto a = hn::Zero(d), b = a, c = a, e = a;  // four chains: one would wait for each maximum
  std::size_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    a = hn::Max(a, load(i));
    b = hn::Max(b, load(i + lanes));
    c = hn::Max(c, load(i + 2 * lanes));
    e = hn::Max(e, load(i + 3 * lanes));
  }
  for (; i + lanes <= n; i += lanes) a = hn::Max(a, load(i));
  HWY_ALIGN Code last[HWY_MAX_BYTES / sizeof(Code)];
  hn::Store(hn::Max(hn::Max(a, b), hn::Max(c, e)), d, last);
  Code most = 0;
  for (std::size_t lane = 0; lane < lanes; ++lane) most = std::max(most, last[lane]);
  for (; i < n; ++i) {
    Code code;
    std::memcpy(&code, in + i * sizeof(Code), sizeof(Code));
    most = std::max<Code>(most, code & std::numeric_limits<Code>::max());
  }
  return most;
}
std::int16_t LargestCode16(const std::byte* in, std::size_t n) { return largest_code<std::int16_t>(in, n); }
std::int32_t LargestCode32(const std::byte* in, std::size_t n) { return largest_code<std::int32_t>(in, n); }
std::int64_t LargestCode64(const std::byte* in, std::size_t n) { return largest_code<std::int64_t>(in, n); }

#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128

void F16ToF32(const std::byte* in, float* out, std::size_t n) { widen_rest<Half>(in, out, 0, n); }
void Bf16ToF32(const std::byte* in, float* out, std::size_t n) { widen_rest<BFloat>(in, out, 0, n); }
void F32ToF16(const float* in, std::byte* out, std::size_t n) { narrow_rest<Half>(in, out, 0, n); }
void F32ToBf16(const float* in, std::byte* out, std::size_t n) { narrow_rest<BFloat>(in, out, 0, n); }
void F16ToF64(const std::byte* in, double* out, std::size_t n) { widen_rest<Half>(in, out, 0, n); }
void Bf16ToF64(const std::byte* in, double* out, std::size_t n) { widen_rest<BFloat>(in, out, 0, n); }
void F32ToF64(const float* in, double* out, std::size_t n) { cast_rest(in, out, 0, n); }
void F64ToF16(const double* in, std::byte* out, std::size_t n) { narrow_rest<Half>(in, out, 0, n); }
void F64ToBf16(const double* in, std::byte* out, std::size_t n) { narrow_rest<BFloat>(in, out, 0, n); }
void F64ToF32(const double* in, float* out, std::size_t n) { cast_rest(in, out, 0, n); }
bool AllFinite(const float* values, std::size_t n) { return all_finite_rest(values, 0, n); }

#else

// x86 from AVX2 on converts halves in hardware (F16C): to nearest even whatever MXCSR says of denormals, NaN made
// quiet.
#define ROPEWALK_F16C (HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2)

template <class D>  // of float or double
using Codes = hn::Rebind<std::uint16_t, D>;

template <class D>
HWY_INLINE hn::Vec<Codes<D> > load_codes(D, const std::byte* in) {
  return hn::LoadU(Codes<D>(), reinterpret_cast<const std::uint16_t*>(in));
}
template <class D>
HWY_INLINE void store_codes(D, hn::Vec<Codes<D> > codes, std::byte* out) {
  hn::StoreU(codes, Codes<D>(), reinterpret_cast<std::uint16_t*>(out));
}

template <class DF>
HWY_INLINE hn::Vec<DF> widen_half(DF df, hn::Vec<Codes<DF> > codes) {
#if ROPEWALK_F16C
  return hn::PromoteTo(df, hn::BitCast(hn::Rebind<hwy::float16_t, DF>(), codes));
#else
  const hn::RebindToSigned<DF> di;
  const auto bits = hn::BitCast(di, hn::PromoteTo(hn::Rebind<std::uint32_t, DF>(), codes));
  const auto magnitude = hn::And(bits, hn::Set(di, 0x7fff));
  const auto sign = hn::ShiftLeft<16>(hn::Xor(bits, magnitude));
  const auto shifted = hn::ShiftLeft<13>(magnitude);
  const auto normal = hn::Add(shifted, hn::Set(di, (127 - 15) << 23));
  const auto subnormal = hn::BitCast(di, hn::Mul(hn::ConvertTo(df, magnitude), hn::Set(df, 0x1p-24f)));
  auto value = hn::IfThenElse(hn::Lt(magnitude, hn::Set(di, 0x400)), subnormal, normal);
  const auto special = hn::Or(shifted, hn::Set(di, 0x7f800000));
  value = hn::IfThenElse(hn::Gt(magnitude, hn::Set(di, 0x7bff)), special, value);
  value = hn::Or(value, hn::IfThenElseZero(hn::Gt(magnitude, hn::Set(di, 0x7c00)), hn::Set(di, 0x400000)));
  return hn::BitCast(df, hn::Or(value, sign));
#endif
}

template <class DF>
HWY_INLINE hn::Vec<Codes<DF> > narrow_half(DF df, hn::Vec<DF> v) {
#if ROPEWALK_F16C
  return hn::BitCast(Codes<DF>(), hn::DemoteTo(hn::Rebind<hwy::float16_t, DF>(), v));
#else
  const hn::RebindToSigned<DF> di;
  const auto bits = hn::BitCast(di, v);
  const auto magnitude = hn::And(bits, hn::Set(di, 0x7fffffff));
  // the codes as i32 lanes: round by adding just under half a unit, or half if the kept part is odd
  const auto odd = hn::And(hn::ShiftRight<13>(magnitude), hn::Set(di, 1));
  const auto biased = hn::Add(hn::Add(magnitude, odd), hn::Set(di, 0xfff - ((127 - 15) << 23)));
  auto code = hn::Min(hn::ShiftRight<13>(biased), hn::Set(di, 0x7c00));
  // below 2^-14: adding 0.5, whose last place is a half's smallest subnormal, rounds to nearest even in hardware
  const auto half = hn::Set(df, 0.5f);
  const auto tiny = hn::Sub(hn::BitCast(di, hn::Add(hn::BitCast(df, magnitude), half)), hn::BitCast(di, half));
  code = hn::IfThenElse(hn::Lt(magnitude, hn::Set(di, 0x38800000)), tiny, code);
  const auto payload = hn::And(hn::ShiftRight<13>(magnitude), hn::Set(di, 0x3ff));
  code = hn::IfThenElse(hn::Gt(magnitude, hn::Set(di, 0x7f800000)), hn::Or(payload, hn::Set(di, 0x7e00)), code);
  const auto sign = hn::And(hn::ShiftRight<16>(bits), hn::Set(di, 0x8000));
  return hn::DemoteTo(Codes<DF>(), hn::Or(code, sign));  // 0..65535: the saturating pack changes nothing
#endif
}

template <class DF>
HWY_INLINE hn::Vec<DF> widen_bfloat(DF df, hn::Vec<Codes<DF> > codes) {
  const hn::RebindToSigned<DF> di;
  const auto bits = hn::ShiftLeft<16>(hn::BitCast(di, hn::PromoteTo(hn::Rebind<std::uint32_t, DF>(), codes)));
  const auto nan = hn::Gt(hn::And(bits, hn::Set(di, 0x7fffffff)), hn::Set(di, 0x7f800000));
  return hn::BitCast(df, hn::Or(bits, hn::IfThenElseZero(nan, hn::Set(di, 0x400000))));
}

template <class DF>
HWY_INLINE hn::Vec<Codes<DF> > narrow_bfloat(DF df, hn::Vec<DF> v) {
  const hn::RebindToUnsigned<DF> du;
  const hn::RebindToSigned<DF> di;
  const auto bits = hn::BitCast(du, v);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1));
  const auto rounded = hn::Add(hn::Add(bits, odd), hn::Set(du, 0x7fff));
  const auto code = hn::IfThenElse(hn::RebindMask(du, hn::IsNaN(v)), hn::Or(bits, hn::Set(du, 0x400000)), rounded);
  (void)df;
  return hn::DemoteTo(Codes<DF>(), hn::BitCast(di, hn::ShiftRight<16>(code)));
}

// A double cut to its leading kKept bits, the last of which is set if any bit was cut (round to odd). With kKept >=
// target's precision + 2, rounding that to the target, by way of float, equals rounding the double once: the sticky bit
// keeps it off every false tie. With 13 (f16) or 10 (bf16) bits float holds it exactly, but for magnitudes that become
// 0 in either case; a sticky bit keeps NaN from turning into infinity.
template <int kKept, class D>
HWY_INLINE hn::Vec<hn::Rebind<float, D> > odd_float(D, hn::Vec<D> v) {
  const hn::RebindToUnsigned<D> du;
  const auto mask = hn::Set(du, (std::uint64_t{1} << (53 - kKept)) - 1);
  const auto bits = hn::BitCast(du, v);
  const auto sticky = hn::Add(hn::And(bits, mask), mask);
  return hn::DemoteTo(hn::Rebind<float, D>(), hn::BitCast(D(), hn::AndNot(mask, hn::Or(bits, sticky))));
}

void F16ToF32(const std::byte* in, float* out, std::size_t n) {
  const hn::ScalableTag<float> d;
  std::size_t i = 0;
  for (; i + hn::Lanes(d) <= n; i += hn::Lanes(d)) hn::StoreU(widen_half(d, load_codes(d, in + 2 * i)), d, out + i);
  widen_rest<Half>(in, out, i, n);
}
void Bf16ToF32(const std::byte* in, float* out, std::size_t n) {
  const hn::ScalableTag<float> d;
  std::size_t i = 0;
  for (; i + hn::Lanes(d) <= n; i += hn::Lanes(d)) hn::StoreU(widen_bfloat(d, load_codes(d, in + 2 * i)), d, out + i);
  widen_rest<BFloat>(in, out, i, n);
}
void F32ToF16(const float* in, std::byte* out, std::size_t n) {
  const hn::ScalableTag<float> d;
  std::size_t i = 0;
  for (; i + hn::Lanes(d) <= n; i += hn::Lanes(d)) store_codes(d, narrow_half(d, hn::LoadU(d, in + i)), out + 2 * i);
  narrow_rest<Half>(in, out, i, n);
}
void F32ToBf16(const float* in, std::byte* out, std::size_t n) {
  const hn::ScalableTag<float> d;
  std::size_t i = 0;
  for (; i + hn::Lanes(d) <= n; i += hn::Lanes(d)) store_codes(d, narrow_bfloat(d, hn::LoadU(d, in + i)), out + 2 * i);
  narrow_rest<BFloat>(in, out, i, n);
}

using Doubles = hn::ScalableTag<double>;
using Floats = hn::Rebind<float, Doubles>;  // as many floats as a vector holds doubles

void F16ToF64(const std::byte* in, double* out, std::size_t n) {
  const Doubles d;
  const Floats df;
  std::size_t i = 0;
  for (; i + hn::Lanes(d) <= n; i += hn::Lanes(d))
    hn::StoreU(hn::PromoteTo(d, widen_half(df, load_codes(df, in + 2 * i))), d, out + i);
  widen_rest<Half>(in, out, i, n);
}
void Bf16ToF64(const std::byte* in, double* out, std::size_t n) {
  const Doubles d;
  const Floats df;
  std::size_t i = 0;
  for (; i + hn::Lanes(d) <= n; i += hn::Lanes(d))
    hn::StoreU(hn::PromoteTo(d, widen_bfloat(df, load_codes(df, in + 2 * i))), d, out + i);
  widen_rest<BFloat>(in, out, i, n);
}
void F32ToF64(const float* in, double* out, std::size_t n) {
  const Doubles d;
  std::size_t i = 0;
  for (; i + hn::Lanes(d) <= n; i += hn::Lanes(d))
    hn::StoreU(hn::PromoteTo(d, hn::LoadU(Floats(), in + i)), d, out + i);
  cast_rest(in, out, i, n);
}
void F64ToF16(const double* in, std::byte* out, std::size_t n) {
  const Doubles d;
  const Floats df;
  std::size_t i = 0;
  for (; i + hn::Lanes(d) <= n; i += hn::Lanes(d))
    store_codes(df, narrow_half(df, odd_float<13>(d, hn::LoadU(d, in + i))), out + 2 * i);
  narrow_rest<Half>(in, out, i, n);
}
void F64ToBf16(const double* in, std::byte* out, std::size_t n) {
  const Doubles d;
  const Floats df;
  std::size_t i = 0;
  for (; i + hn::Lanes(d) <= n; i += hn::Lanes(d))
    store_codes(df, narrow_bfloat(df, odd_float<10>(d, hn::LoadU(d, in + i))), out + 2 * i);
  narrow_rest<BFloat>(in, out, i, n);
}
void F64ToF32(const double* in, float* out, std::size_t n) {
  const Doubles d;
  std::size_t i = 0;
  for (; i + hn::Lanes(d) <= n; i += hn::Lanes(d))
    hn::StoreU(hn::DemoteTo(Floats(), hn::LoadU(d, in + i)), Floats(), out + i);
  cast_rest(in, out, i, n);
}

bool AllFinite(const float* values, std::size_t n) {
  const hn::ScalableTag<float> d;
  const hn::RebindToSigned<decltype(d)> di;
  const auto top = hn::Set(di, 0x7f800000);  // exponent all ones: infinity or NaN
  auto found = hn::Zero(di);
  std::size_t i = 0;
  for (; i + hn::Lanes(d) <= n; i += hn::Lanes(d)) {
    const auto exponent = hn::And(hn::BitCast(di, hn::LoadU(d, values + i)), top);
    found = hn::Or(found, hn::VecFromMask(di, hn::Eq(exponent, top)));
  }
  return hn::AllFalse(di, hn::MaskFromVec(found)) && all_finite_rest(values, i, n);
}

#endif

}  // namespace ropewalk::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ropewalk::simd {

HWY_EXPORT(F16ToF32);
HWY_EXPORT(Bf16ToF32);
HWY_EXPORT(F32ToF16);
HWY_EXPORT(F32ToBf16);
HWY_EXPORT(F16ToF64);
HWY_EXPORT(Bf16ToF64);
HWY_EXPORT(F32ToF64);
HWY_EXPORT(F64ToF16);
HWY_EXPORT(F64ToBf16);
HWY_EXPORT(F64ToF32);
HWY_EXPORT(LargestCode16);
HWY_EXPORT(LargestCode32);
HWY_EXPORT(LargestCode64);
HWY_EXPORT(AllFinite);

void f16_to_f32(const std::byte* in, float* out, std::size_t n) { HWY_DYNAMIC_DISPATCH(F16ToF32)(in, out, n); }
void bf16_to_f32(const std::byte* in, float* out, std::size_t n) { HWY_DYNAMIC_DISPATCH(Bf16ToF32)(in, out, n); }
void f32_to_f16(const float* in, std::byte* out, std::size_t n) { HWY_DYNAMIC_DISPATCH(F32ToF16)(in, out, n); }
void f32_to_bf16(const float* in, std::byte* out, std::size_t n) { HWY_DYNAMIC_DISPATCH(F32ToBf16)(in, out, n); }
void f16_to_f64(const std::byte* in, double* out, std::size_t n) { HWY_DYNAMIC_DISPATCH(F16ToF64)(in, out, n); }
void bf16_to_f64(const std::byte* in, double* out, std::size_t n) { HWY_DYNAMIC_DISPATCH(Bf16ToF64)(in, out, n); }
void f32_to_f64(const float* in, double* out, std::size_t n) { HWY_DYNAMIC_DISPATCH(F32ToF64)(in, out, n); }
void f64_to_f16(const double* in, std::byte* out, std::size_t n) { HWY_DYNAMIC_DISPATCH(F64ToF16)(in, out, n); }
void f64_to_bf16(const double* in, std::byte* out, std::size_t n) { HWY_DYNAMIC_DISPATCH(F64ToBf16)(in, out, n); }
void f64_to_f32(const double* in, float* out, std::size_t n) { HWY_DYNAMIC_DISPATCH(F64ToF32)(in, out, n); }
std::uint16_t largest_code_16(const std::byte* codes, std::size_t n) {
  return static_cast<std::uint16_t>(HWY_DYNAMIC_DISPATCH(LargestCode16)(codes, n));
}
std::uint32_t largest_code_32(const std::byte* codes, std::size_t n) {
  return static_cast<std::uint32_t>(HWY_DYNAMIC_DISPATCH(LargestCode32)(codes, n));
}
std::uint64_t largest_code_64(const std::byte* codes, std::size_t n) {
  return static_cast<std::uint64_t>(HWY_DYNAMIC_DISPATCH(LargestCode64)(codes, n));
}
bool all_finite(const float* values, std::size_t n) { return HWY_DYNAMIC_DISPATCH(AllFinite)(values, n); }

}  // namespace ropewalk::simd
#endif
