#include "lib/codecs/lane_fits.h"

#include "lib/codecs/plain_types.h"
#include "lib/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lib/codecs/lane_fits.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace ropewalk::codecs::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::CappedTag<float, kLanes>;
using Ints = hn::RebindToSigned<Floats>;
using V = hn::Vec<Floats>;
using M = hn::Mask<Floats>;

HWY_INLINE V set(float x) { return hn::Set(Floats(), x); }
HWY_INLINE V load(const float* at) { return hn::LoadU(Floats(), at); }

/// nearest() of fits.h, limited, as floats.
HWY_INLINE V level_of(V x, int low, int high) {
  const Ints di;
  const auto bits = hn::And(hn::BitCast(di, hn::Add(x, set(12582912.0f))), hn::Set(di, 0x7fffff));
  const auto limited =
      hn::Min(hn::Max(bits, hn::Set(di, 0x400000 + low)), hn::Set(di, 0x400000 + high));  // still offset
  return hn::ConvertTo(Floats(), hn::Sub(limited, hn::Set(di, 0x400000)));
}

/// One element's levels, all lanes.
HWY_INLINE void store_levels(V levels, std::uint8_t* out) {
  const hn::Rebind<std::uint8_t, Floats> d8;
  hn::StoreU(hn::DemoteTo(d8, hn::ConvertTo(Ints(), levels)), d8, out);
}

/// The groups of one vector, from column `x`, `w`.
template <bool kAbsolute, bool kLevels>
HWY_INLINE void fit_affine_vector(const float* x, const float* w, int n, const AffineSearch& search, float* scales,
                                  float* mins, std::uint8_t* levels) {
  const Floats df;
  const int lanes = static_cast<int>(hn::Lanes(df));
  HWY_ALIGN float tried[32 * kLanes];
  const V zero = hn::Zero(df);
  V low = load(x), high = low, sum_w = load(w), sum_x = hn::Mul(sum_w, low);
  for (int i = 1; i < n; ++i) {
    const V xi = load(x + i * kLanes), wi = load(w + i * kLanes);
    low = hn::IfThenElse(hn::Lt(xi, low), xi, low);
    high = hn::IfThenElse(hn::Gt(xi, high), xi, high);
    sum_w = hn::Add(sum_w, wi);
    sum_x = hn::Add(sum_x, hn::Mul(wi, xi));
  }
  low = hn::IfThenElse(hn::Gt(low, zero), zero, low);
  const V first_low = low;
  const M dead = hn::Le(high, low);

  const auto error_of = [&](const float* candidate, V scale, V lowest) HWY_ATTR {
    V error = hn::Zero(Floats());
    for (int i = 0; i < n; ++i) {
      const V off = hn::Sub(hn::Add(hn::Mul(scale, load(candidate + i * lanes)), lowest), load(x + i * kLanes));
      error = hn::Add(error, hn::Mul(load(w + i * kLanes), kAbsolute ? hn::Abs(off) : hn::Mul(off, off)));
    }
    return error;
  };
  const V start = hn::Div(set(real(search.top)), hn::Sub(high, low));
  for (int i = 0; i < n; ++i)
    hn::StoreU(level_of(hn::Mul(start, hn::Sub(load(x + i * kLanes), low)), 0, search.top), df, tried + i * lanes);
  V scale = hn::Div(set(1), start), best = error_of(tried, scale, low);
  V kept_inverse = start, kept_low = low;  // of the levels in use
  for (int k = 0; k <= search.steps; ++k) {
    const V inverse = hn::Div(set(search.first + search.step * real(k) + real(search.top)), hn::Sub(high, low));
    V sum_l = zero, sum_l2 = zero, sum_xl = zero;
    for (int i = 0; i < n; ++i) {
      const V xi = load(x + i * kLanes), l = level_of(hn::Mul(inverse, hn::Sub(xi, low)), 0, search.top);
      hn::StoreU(l, df, tried + i * lanes);
      const V wl = hn::Mul(load(w + i * kLanes), l);
      sum_l = hn::Add(sum_l, wl);
      sum_l2 = hn::Add(sum_l2, hn::Mul(wl, l));
      sum_xl = hn::Add(sum_xl, hn::Mul(wl, xi));
    }
    const V determinant = hn::Sub(hn::Mul(sum_w, sum_l2), hn::Mul(sum_l, sum_l));
    const M solvable = hn::AndNot(dead, hn::Gt(determinant, zero));
    if (hn::AllFalse(df, solvable)) continue;
    V this_scale = hn::Div(hn::Sub(hn::Mul(sum_w, sum_xl), hn::Mul(sum_x, sum_l)), determinant),
      this_low = hn::Div(hn::Sub(hn::Mul(sum_l2, sum_x), hn::Mul(sum_l, sum_xl)), determinant);
    const M positive = hn::Gt(this_low, zero);
    if (!hn::AllFalse(df, positive)) {
      this_low = hn::IfThenElse(positive, zero, this_low);
      this_scale = hn::IfThenElse(positive, hn::Div(sum_xl, sum_l2), this_scale);
    }
    const V error = error_of(tried, this_scale, this_low);
    const M better = hn::And(solvable, hn::Lt(error, best));
    if (hn::AllFalse(df, better)) continue;
    if (kLevels) {
      kept_inverse = hn::IfThenElse(better, inverse, kept_inverse);
      kept_low = hn::IfThenElse(better, low, kept_low);
    }
    best = hn::IfThenElse(better, error, best);
    scale = hn::IfThenElse(better, this_scale, scale);
    low = hn::IfThenElse(better, this_low, low);
  }
  hn::StoreU(hn::IfThenElse(dead, zero, scale), df, scales);
  hn::StoreU(hn::Neg(hn::IfThenElse(dead, first_low, low)), df, mins);
  if (!kLevels) return;
  for (int i = 0; i < n; ++i) {
    const V level = level_of(hn::Mul(kept_inverse, hn::Sub(load(x + i * kLanes), kept_low)), 0, search.top);
    store_levels(hn::IfThenElse(dead, zero, level), levels + i * kLanes);
  }
}

void FitAffine(const LaneGroups& groups, const AffineSearch& search, float* scales, float* mins, std::uint8_t* levels) {
  const int lanes = static_cast<int>(hn::Lanes(Floats()));
  for (int first = 0; first < kLanes; first += lanes) {
    const float *x = groups.x + first, *w = groups.weights + first;
    std::uint8_t* out = levels != nullptr ? levels + first : nullptr;
    if (search.absolute) fit_affine_vector<true, false>(x, w, groups.n, search, scales + first, mins + first, out);
    else if (out == nullptr) fit_affine_vector<false, false>(x, w, groups.n, search, scales + first, mins + first, out);
    else fit_affine_vector<false, true>(x, w, groups.n, search, scales + first, mins + first, out);
  }
}

/// The element of largest magnitude of each lane, the first of several.
HWY_INLINE V extreme_of(const float* x, int n) {
  V most = hn::Zero(Floats()), value = most;
  for (int i = 0; i < n; ++i) {
    const V xi = load(x + i * kLanes), magnitude = hn::Abs(xi);
    const M larger = hn::Gt(magnitude, most);
    most = hn::IfThenElse(larger, magnitude, most);
    value = hn::IfThenElse(larger, xi, value);
  }
  return value;
}

template <bool kLevels>
HWY_INLINE void fit_symmetric_vector(const float* x, const float* w, int n, int half, float* scales,
                                     std::uint8_t* levels) {
  const Floats df;
  const V zero = hn::Zero(df), peak = extreme_of(x, n);
  const M dead = hn::Lt(hn::Abs(peak), set(kNothing));
  V lx, l2;
  const auto measure = [&](V inverse) HWY_ATTR {
    lx = l2 = hn::Zero(Floats());
    for (int i = 0; i < n; ++i) {
      const V xi = load(x + i * kLanes), wi = load(w + i * kLanes), l = level_of(hn::Mul(inverse, xi), -half, half - 1);
      lx = hn::Add(lx, hn::Mul(hn::Mul(wi, xi), l));
      l2 = hn::Add(l2, hn::Mul(hn::Mul(wi, l), l));
    }
  };
  V kept_inverse = hn::Div(set(real(-half)), peak);  // of the levels in use
  measure(kept_inverse);
  V scale = hn::IfThenElse(hn::Eq(l2, zero), zero, hn::Div(lx, l2)), best = hn::Mul(scale, lx);
  for (int step = -9; step <= 9; ++step) {
    if (step == 0) continue;
    const V inverse = hn::Div(set(-(real(half) + 0.1f * real(step))), peak);
    measure(inverse);
    const M better = hn::And(hn::Gt(l2, zero), hn::Gt(hn::Mul(lx, lx), hn::Mul(best, l2)));
    if (hn::AllFalse(df, better)) continue;
    kept_inverse = hn::IfThenElse(better, inverse, kept_inverse);
    scale = hn::IfThenElse(better, hn::Div(lx, l2), scale);
    best = hn::IfThenElse(better, hn::Mul(scale, lx), best);
  }
  hn::StoreU(hn::IfThenElse(dead, zero, scale), df, scales);
  if (!kLevels) return;
  for (int i = 0; i < n; ++i) {
    const V level = level_of(hn::Mul(kept_inverse, load(x + i * kLanes)), -half, half - 1);
    store_levels(hn::IfThenElse(dead, zero, hn::Add(level, set(real(half)))), levels + i * kLanes);
  }
}

void FitSymmetric(const LaneGroups& groups, int half, float* scales, std::uint8_t* levels) {
  const int lanes = static_cast<int>(hn::Lanes(Floats()));
  for (int first = 0; first < kLanes; first += lanes) {
    const float *x = groups.x + first, *w = groups.weights + first;
    if (levels == nullptr) fit_symmetric_vector<false>(x, w, groups.n, half, scales + first, nullptr);
    else fit_symmetric_vector<true>(x, w, groups.n, half, scales + first, levels + first);
  }
}

HWY_INLINE void fit_by_moves_vector(const float* x, int n, int half, float* scales) {
  const Floats df;
  const int lanes = static_cast<int>(hn::Lanes(df));
  HWY_ALIGN float levels[32 * kLanes];
  const V zero = hn::Zero(df), peak = extreme_of(x, n);
  const M dead = hn::Lt(hn::Abs(peak), set(kNothing));
  const V inverse = hn::Div(set(real(-half)), peak);
  V sum_lx = zero, sum_l2 = zero;
  for (int i = 0; i < n; ++i) {
    const V xi = load(x + i * kLanes), w = hn::Mul(xi, xi), l = level_of(hn::Mul(inverse, xi), -half, half - 1);
    hn::StoreU(l, df, levels + i * lanes);
    sum_lx = hn::Add(sum_lx, hn::Mul(hn::Mul(w, xi), l));
    sum_l2 = hn::Add(sum_l2, hn::Mul(hn::Mul(w, l), l));
  }
  // A lane in which nothing moved in a round finds nothing to move in the next either.
  bool moved = true;
  for (int round = 0; round < 5 && moved; ++round) {
    moved = false;
    for (int i = 0; i < n; ++i) {
      const V xi = load(x + i * kLanes), w = hn::Mul(xi, xi), wx = hn::Mul(w, xi), old = load(levels + i * lanes);
      V lx = hn::Sub(sum_lx, hn::Mul(wx, old)), l2 = hn::Sub(sum_l2, hn::Mul(hn::Mul(w, old), old));
      M better = hn::AndNot(dead, hn::Gt(lx, zero));
      const V other = level_of(hn::Div(hn::Mul(xi, l2), lx), -half, half - 1);
      better = hn::And(better, hn::Ne(other, old));
      if (hn::AllFalse(df, better)) continue;
      lx = hn::Add(lx, hn::Mul(wx, other));
      l2 = hn::Add(l2, hn::Mul(hn::Mul(w, other), other));
      better = hn::And(better, hn::And(hn::Gt(l2, zero),
                                       hn::Gt(hn::Mul(hn::Mul(lx, lx), sum_l2), hn::Mul(hn::Mul(sum_lx, sum_lx), l2))));
      if (hn::AllFalse(df, better)) continue;
      hn::StoreU(hn::IfThenElse(better, other, old), df, levels + i * lanes);
      sum_lx = hn::IfThenElse(better, lx, sum_lx);
      sum_l2 = hn::IfThenElse(better, l2, sum_l2);
      moved = true;
    }
  }
  const M sound = hn::AndNot(dead, hn::Gt(sum_l2, zero));
  hn::StoreU(hn::IfThenElse(sound, hn::Div(sum_lx, sum_l2), zero), df, scales);
}

void FitByMoves(const LaneGroups& groups, int half, float* scales) {
  const int lanes = static_cast<int>(hn::Lanes(Floats()));
  for (int first = 0; first < kLanes; first += lanes)
    fit_by_moves_vector(groups.x + first, groups.n, half, scales + first);
}

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
  const V zero = hn::Zero(df), peak = extreme_of(x, n);
  const M dead = hn::Lt(hn::Abs(peak), set(kNothing));
  V qx, q2;
  const auto measure = [&](V inverse) HWY_ATTR {
    qx = q2 = hn::Zero(Floats());
    for (int i = 0; i < n; ++i) {
      const V xi = load(x + i * kLanes), wq = nearest_iq4_value(hn::Mul(inverse, xi)),
              weighted = hn::Mul(load(w + i * kLanes), wq);
      qx = hn::Add(qx, hn::Mul(weighted, xi));
      q2 = hn::Add(q2, hn::Mul(weighted, wq));
    }
  };
  const V lowest = set(real(kIq4Levels[0]));
  measure(hn::Div(set(1), hn::Div(hn::Neg(peak), lowest)));
  V scale = hn::IfThenElse(hn::Gt(q2, zero), hn::Div(qx, q2), zero), best = hn::Mul(scale, qx);
  for (int step = -7; step <= 7; ++step) {
    measure(hn::Div(set(real(step + kIq4Levels[0])), peak));
    const M better = hn::And(hn::Gt(q2, zero), hn::Gt(hn::Mul(qx, qx), hn::Mul(best, q2)));
    scale = hn::IfThenElse(better, hn::Div(qx, q2), scale);
    best = hn::IfThenElse(better, hn::Mul(scale, qx), best);
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
HWY_EXPORT(FitAffine);
HWY_EXPORT(FitSymmetric);
HWY_EXPORT(FitByMoves);
HWY_EXPORT(FitIq4);
HWY_EXPORT(NearestIq4);

void fit_affine_lanes(const LaneGroups& groups, const AffineSearch& search, float* scales, float* mins,
                      std::uint8_t* levels) {
  HWY_DYNAMIC_DISPATCH(FitAffine)(groups, search, scales, mins, levels);
}
void fit_symmetric_lanes(const LaneGroups& groups, int half, float* scales, std::uint8_t* levels) {
  HWY_DYNAMIC_DISPATCH(FitSymmetric)(groups, half, scales, levels);
}
void fit_by_moves_lanes(const LaneGroups& groups, int half, float* scales) {
  HWY_DYNAMIC_DISPATCH(FitByMoves)(groups, half, scales);
}

void fit_iq4_lanes(const LaneGroups& groups, float* scales) { HWY_DYNAMIC_DISPATCH(FitIq4)(groups, scales); }
void nearest_iq4_levels(const float* x, float inverse, int n, std::uint8_t* levels) {
  HWY_DYNAMIC_DISPATCH(NearestIq4)(x, inverse, n, levels);
}

}  // namespace ropewalk::codecs
#endif
