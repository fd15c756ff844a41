// Included once per SIMD target (see Highway's foreach_target.h). What every vector body of verify is made of: lanes
// are independent, or summed as 16 fixed lanes, so a result has the same bits whatever the register width.
#if defined(ROPEWALK_VERIFY_SIMD_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ROPEWALK_VERIFY_SIMD_MATH_INL_H_
#undef ROPEWALK_VERIFY_SIMD_MATH_INL_H_
#else
#define ROPEWALK_VERIFY_SIMD_MATH_INL_H_
#endif

#include <cmath>
#include <cstddef>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace ropewalk::verify::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F32 = hn::CappedTag<float, 16>;
using F64 = hn::CappedTag<double, 8>;
constexpr std::size_t kLanes32 = hn::MaxLanes(F32());
constexpr std::size_t kLanes64 = hn::MaxLanes(F64());
constexpr std::size_t kGroup = 16;  // lanes of every horizontal sum, real or emulated

/// a * b + c in ONE rounding on every target: std::fma, lane by lane, where the instruction set has none (slow, same
/// bits).
template <class D, class V>
HWY_INLINE V fused(D d, V a, V b, V c) {
#if HWY_NATIVE_FMA
  (void)d;
  return hn::MulAdd(a, b, c);
#else
  using T = hn::TFromD<D>;
  HWY_ALIGN T x[hn::MaxLanes(d)], y[hn::MaxLanes(d)], z[hn::MaxLanes(d)];
  hn::Store(a, d, x);
  hn::Store(b, d, y);
  hn::Store(c, d, z);
  for (std::size_t lane = 0; lane < hn::Lanes(d); ++lane) z[lane] = std::fma(x[lane], y[lane], z[lane]);
  return hn::Load(d, z);
#endif
}

/// e^x in float for x <= 88, at most 1.1 ulp off; exactly 1 at 0, exactly 0 below -87 (where floats leave the normal
/// range). NaN stays NaN.
/// Cody-Waite: x = n ln 2 + r with ln 2 in two parts, |r| <= ln 2 / 2; e^r = 1 + r + r^2 p(r), p of degree 4 fitted for
/// least largest relative error (4e-9).
template <class V>
HWY_INLINE V exp_f32(V x) {
  const F32 d;
  const hn::RebindToSigned<F32> di;
  const auto underflows = hn::Lt(x, hn::Set(d, -87.0f));
  x = hn::IfThenElse(underflows, hn::Zero(d), x);  // not Max: that would turn a NaN into a number
  // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits: no conversion of floats to integers is
  // needed.
  const V shifter = hn::Set(d, 12582912.0f);
  const V shifted = fused(d, x, hn::Set(d, 1.44269504f), shifter);
  const V n = hn::Sub(shifted, shifter);
  V r = fused(d, n, hn::Set(d, -0.693145752f), x);  // 15 bits of ln 2: exact
  r = fused(d, n, hn::Set(d, -1.42860677e-6f), r);
  V p = hn::Set(d, 0.001381459878757596f);
  p = fused(d, p, r, hn::Set(d, 0.008368716575205326f));
  p = fused(d, p, r, hn::Set(d, 0.04166838899254799f));
  p = fused(d, p, r, hn::Set(d, 0.1666652113199234f));
  p = fused(d, p, r, hn::Set(d, 0.4999999403953552f));
  p = hn::Add(fused(d, p, hn::Mul(r, r), r), hn::Set(d, 1.0f));
  const auto exponent = hn::ShiftLeft<23>(hn::Add(hn::BitCast(di, shifted), hn::Set(di, 127)));
  return hn::IfThenElse(underflows, hn::Zero(d), hn::Mul(p, hn::BitCast(d, exponent)));
}

/// e^x in double for -708 <= x <= 0 (0 below), NaN stays NaN: relative error about 3e-16. Taylor to degree 12 on |r| <=
/// ln 2 / 2: the next term is 1.7e-16.
template <class V>
HWY_INLINE V exp_f64(V x) {
  const F64 d;
  const hn::RebindToSigned<F64> di;
  const auto underflows = hn::Lt(x, hn::Set(d, -708.0));
  x = hn::IfThenElse(underflows, hn::Zero(d), x);
  // As above, with 1.5 * 2^52.
  const V shifter = hn::Set(d, 6755399441055744.0);
  const V shifted = fused(d, x, hn::Set(d, 1.4426950408889634), shifter);
  const V n = hn::Sub(shifted, shifter);
  V r = fused(d, n, hn::Set(d, -0x1.62e42fefa0000p-1), x);
  r = fused(d, n, hn::Set(d, -0x1.cf79abc9e3b39p-40), r);
  V p = hn::Set(d, 1.0 / 479001600);
  p = fused(d, p, r, hn::Set(d, 1.0 / 39916800));
  p = fused(d, p, r, hn::Set(d, 1.0 / 3628800));
  p = fused(d, p, r, hn::Set(d, 1.0 / 362880));
  p = fused(d, p, r, hn::Set(d, 1.0 / 40320));
  p = fused(d, p, r, hn::Set(d, 1.0 / 5040));
  p = fused(d, p, r, hn::Set(d, 1.0 / 720));
  p = fused(d, p, r, hn::Set(d, 1.0 / 120));
  p = fused(d, p, r, hn::Set(d, 1.0 / 24));
  p = fused(d, p, r, hn::Set(d, 1.0 / 6));
  p = fused(d, p, r, hn::Set(d, 0.5));
  p = fused(d, p, r, hn::Set(d, 1.0));
  p = fused(d, p, r, hn::Set(d, 1.0));
  const auto exponent = hn::ShiftLeft<52>(hn::Add(hn::BitCast(di, shifted), hn::Set(di, 1023)));
  return hn::IfThenElse(underflows, hn::Zero(d), hn::Mul(p, hn::BitCast(d, exponent)));
}

/// The fixed tree over 16 lanes: halves added onto halves. Consumes `lanes`.
template <std::size_t kHalf = kGroup / 2, class T>
HWY_INLINE T sum_of_lanes(T* lanes) {
  for (std::size_t lane = 0; lane < kHalf; ++lane) lanes[lane] += lanes[lane + kHalf];
  if constexpr (kHalf == 1) return lanes[0];
  else return sum_of_lanes<kHalf / 2>(lanes);
}

}  // namespace ropewalk::verify::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // per-target include guard
