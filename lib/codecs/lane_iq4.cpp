#include "lib/codecs/lane_fits.h"
#include "lib/codecs/plain_types.h"
#include "lib/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lib/codecs/lane_iq4.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "lib/codecs/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ropewalk::codecs::HWY_NAMESPACE {

/// The nearest level of each lane: where the search of nearest_level() ends is the number of midpoints between levels that x
/// is not below (differences near a midpoint are exact).
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
// In steps of 16 from 7 on, no step has a midpoint inside but one: its bounds and where it parts are looked up.
HWY_ALIGN constexpr float kParts[16] = {1e9f,  -115.5f, -93.5f, -74,   1e9f, -42, -28.5f, -16,
                                        -4.5f, 19,      31.5f,  45.5f, 61,   79,  101,    1e9f};
HWY_ALIGN constexpr float kBelow[16] = {-127, -127, -104, -83, -65, -49, -35, -22, -10, 13, 25, 38, 53, 69, 89, 113};
HWY_ALIGN constexpr float kAbove[16] = {-127, -104, -83, -65, -65, -35, -22, -10, 1, 25, 38, 53, 69, 89, 113, 113};

HWY_INLINE V look_up(const float* table, hn::Vec<Ints> index) {
  const Floats df;
  const auto lanes = hn::IndicesFromVec(df, hn::And(index, hn::Set(Ints(), int(hn::Lanes(df)) - 1)));
  const V low = hn::TableLookupLanes(hn::Load(df, table), lanes);
#if HWY_TARGET == HWY_AVX2
  const V high = hn::TableLookupLanes(hn::Load(df, table + 8), lanes);
  return hn::IfThenElse(hn::RebindMask(df, hn::Gt(index, hn::Set(Ints(), 7))), high, low);
#else
  return low;
#endif
}
HWY_INLINE V nearest_iq4_value(V x) {
  const Floats df;
  const V top = set(118);
  x = hn::Max(hn::IfThenElse(hn::Lt(x, top), x, top), set(-136));  // NaN is the top
  const auto whole = hn::ConvertTo(Ints(), hn::Floor(x));
  const auto step = hn::ShiftRight<4>(hn::Add(whole, hn::Set(Ints(), 137)));
  return hn::IfThenElse(hn::Lt(x, look_up(kParts, step)), look_up(kBelow, step), look_up(kAbove, step));
}
#else
// Levels are whole, so the sum of the steps between them is exact.
HWY_INLINE V nearest_iq4_value(V x) {
  V value = set(real(kIq4Levels[0]));
  for (int j = 0; j < 15; ++j) {
    const V step = set(real(kIq4Levels[j + 1] - kIq4Levels[j]));
    const M below = hn::Lt(x, set(0.5f * real(kIq4Levels[j] + kIq4Levels[j + 1])));
    value = hn::IfThenElse(below, value, hn::Add(value, step));
  }
  return value;
}
#endif

HWY_INLINE void fit_iq4_vector(const float* x, const float* w, int n, float* scales) {
  const Floats df;
  Largest unused = hn::Zero(Ints());
  const V zero = hn::Zero(df), peak = extreme_of(x, n, unused), lowest = set(real(kIq4Levels[0]));
  const M dead = hn::Lt(hn::Abs(peak), set(kNothing));
  const auto level = [](V at) HWY_ATTR { return nearest_iq4_value(at); };
  V scale = zero, best = zero;
  for (int k = -8; k <= 6; k += 2) {  // -8 stands for the first, which is taken as it is
    V inverse[2];
    for (int j = 0; j < 2; ++j)
      inverse[j] = k + j == -8 ? hn::Div(set(1), hn::Div(hn::Neg(peak), lowest))
                               : hn::Div(set(real(k + j + kIq4Levels[0])), peak);
    CandidateSums sums[2];
    measure<2, true>(x, w, n, inverse, level, sums);
    for (int j = 0; j < 2; ++j) {
      const V qx = sums[j].lx, q2 = sums[j].l2, quotient = hn::Div(qx, q2);
      const M sound = hn::Gt(q2, zero);
      const M better = k + j == -8 ? sound : hn::And(sound, hn::Gt(hn::Mul(qx, qx), hn::Mul(best, q2)));
      scale = hn::IfThenElse(better, quotient, scale);
      best = k + j == -8 ? hn::Mul(scale, qx) : hn::IfThenElse(better, hn::Mul(scale, qx), best);
    }
  }
  hn::StoreU(hn::IfThenElse(dead, zero, scale), df, scales);
}

void FitIq4(const LaneGroups& groups, float* scales) {
  const int lanes = static_cast<int>(hn::Lanes(Floats()));
  for (int first = 0; first < kLanes; first += lanes)
    fit_iq4_vector(groups.x + first, groups.weights + first, groups.n, scales + first);
}

void NearestIq4(const float* x, float inverse, int n, std::uint8_t* levels) {
  const Floats df;
  const Ints di;
  const hn::Rebind<std::uint8_t, Floats> d8;
  const int lanes = static_cast<int>(hn::Lanes(df));
  for (int i = 0; i < n; i += lanes) {
    const V xi = hn::Mul(load(x + i), set(inverse));
    auto index = hn::Set(di, 15);
    for (int j = 0; j < 15; ++j) {
      const M below = hn::Lt(xi, set(0.5f * real(kIq4Levels[j] + kIq4Levels[j + 1])));
      index = hn::Add(index, hn::VecFromMask(di, hn::RebindMask(di, below)));  // a true lane is -1
    }
    hn::StoreU(hn::DemoteTo(d8, index), d8, levels + i);
  }
}

}  // namespace ropewalk::codecs::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ropewalk::codecs {
HWY_EXPORT(FitIq4);
HWY_EXPORT(NearestIq4);

void fit_iq4_lanes(const LaneGroups& groups, float* scales) { HWY_DYNAMIC_DISPATCH(FitIq4)(groups, scales); }
void nearest_iq4_levels(const float* x, float inverse, int n, std::uint8_t* levels) {
  HWY_DYNAMIC_DISPATCH(NearestIq4)(x, inverse, n, levels);
}

}  // namespace ropewalk::codecs
#endif
