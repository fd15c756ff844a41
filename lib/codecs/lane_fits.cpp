#include "lib/codecs/lane_fits.h"

#include "lib/codecs/code_book.h"
#include "lib/codecs/plain_types.h"
#include "lib/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lib/codecs/lane_fits.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace ropewalk::codecs::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::CappedTag<float, 16>;
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

void Turn(const float* x, int n, int n_groups, float* out) {
  int group = 0;
#if HWY_TARGET != HWY_SCALAR
  // squares of four groups and four elements
  const hn::FixedTag<float, 4> d4;
  const hn::RepartitionToWide<decltype(d4)> wide;
  for (; group + 4 <= n_groups; group += 4)
    for (int i = 0; i < n; i += 4) {
      const float* from = x + group * n + i;
      const auto a = hn::LoadU(d4, from), b = hn::LoadU(d4, from + n), c = hn::LoadU(d4, from + 2 * n),
                 d = hn::LoadU(d4, from + 3 * n);
      const auto ab_low = hn::BitCast(wide, hn::InterleaveLower(d4, a, b)),
                 ab_high = hn::BitCast(wide, hn::InterleaveUpper(d4, a, b)),
                 cd_low = hn::BitCast(wide, hn::InterleaveLower(d4, c, d)),
                 cd_high = hn::BitCast(wide, hn::InterleaveUpper(d4, c, d));
      float* to = out + i * kLanes + group;
      hn::StoreU(hn::BitCast(d4, hn::InterleaveLower(wide, ab_low, cd_low)), d4, to);
      hn::StoreU(hn::BitCast(d4, hn::InterleaveUpper(wide, ab_low, cd_low)), d4, to + kLanes);
      hn::StoreU(hn::BitCast(d4, hn::InterleaveLower(wide, ab_high, cd_high)), d4, to + 2 * kLanes);
      hn::StoreU(hn::BitCast(d4, hn::InterleaveUpper(wide, ab_high, cd_high)), d4, to + 3 * kLanes);
    }
#endif
  for (int i = 0; i < n; ++i) {
    for (int g = group; g < n_groups; ++g) out[i * kLanes + g] = x[g * n + i];
    std::fill(out + i * kLanes + n_groups, out + (i + 1) * kLanes, 0.0f);
  }
}

void Weigh(const float* x, const float* importances, const float* spreads, int n, float* weights, float* sums) {
  const Floats df;
  const int lanes = static_cast<int>(hn::Lanes(df));
  for (int first = 0; first < kLanes; first += lanes) {
    const V spread = load(spreads + first);
    V sum = hn::Zero(df);
    for (int i = first; i < n * kLanes; i += kLanes) {
      const V xi = load(x + i), w = hn::Mul(load(importances + i), hn::Sqrt(hn::Add(spread, hn::Mul(xi, xi))));
      hn::StoreU(w, df, weights + i);
      sum = hn::Add(sum, w);
    }
    if (sums != nullptr) hn::StoreU(sum, df, sums + first);
  }
}

void WeighPlain(const float* x, int n, bool mean, float* weights) {
  const Floats df;
  const int lanes = static_cast<int>(hn::Lanes(df));
  for (int first = 0; first < kLanes; first += lanes) {
    V sum = hn::Zero(df);
    for (int i = first; i < n * kLanes && mean; i += kLanes) sum = hn::Add(sum, hn::Mul(load(x + i), load(x + i)));
    const V root = hn::Sqrt(hn::Div(sum, set(real(n))));
    for (int i = first; i < n * kLanes; i += kLanes) hn::StoreU(hn::Add(root, hn::Abs(load(x + i))), df, weights + i);
  }
}

constexpr int kPair = 2;  // vectors in flight

/// The groups of two vectors, from column `x`, `w`.
template <bool kAbsolute, bool kLevels>
HWY_INLINE void fit_affine_pair(const float* x, const float* w, int n, const AffineSearch& search, float* scales,
                                float* mins, std::uint8_t* levels) {
  const Floats df;
  const int lanes = static_cast<int>(hn::Lanes(df));
  HWY_ALIGN float tried[32 * kPair * 16];
  const V zero = hn::Zero(df);
  V low[kPair], high[kPair], sum_w[kPair], sum_x[kPair], scale[kPair], best[kPair], first_low[kPair],
      kept_inverse[kPair], kept_low[kPair];
  M dead[kPair];
  const auto x_at = [&](int i, int p) HWY_ATTR { return load(x + i * kLanes + p * lanes); };
  const auto w_at = [&](int i, int p) HWY_ATTR { return load(w + i * kLanes + p * lanes); };
  const auto error_of = [&](V* error, const V* of_scale, const V* lowest) HWY_ATTR {
    for (int p = 0; p < kPair; ++p) error[p] = hn::Zero(Floats());
    for (int i = 0; i < n; ++i)
      for (int p = 0; p < kPair; ++p) {
        const V level = load(tried + (i * kPair + p) * lanes);
        const V off = hn::Sub(hn::Add(hn::Mul(of_scale[p], level), lowest[p]), x_at(i, p));
        error[p] = hn::Add(error[p], hn::Mul(w_at(i, p), kAbsolute ? hn::Abs(off) : hn::Mul(off, off)));
      }
  };
  for (int p = 0; p < kPair; ++p) {
    low[p] = high[p] = x_at(0, p);
    sum_w[p] = w_at(0, p);
    sum_x[p] = hn::Mul(sum_w[p], low[p]);
  }
  for (int i = 1; i < n; ++i)
    for (int p = 0; p < kPair; ++p) {
      const V xi = x_at(i, p), wi = w_at(i, p);
      low[p] = hn::IfThenElse(hn::Lt(xi, low[p]), xi, low[p]);
      high[p] = hn::IfThenElse(hn::Gt(xi, high[p]), xi, high[p]);
      sum_w[p] = hn::Add(sum_w[p], wi);
      sum_x[p] = hn::Add(sum_x[p], hn::Mul(wi, xi));
    }
  for (int p = 0; p < kPair; ++p) {
    low[p] = hn::IfThenElse(hn::Gt(low[p], zero), zero, low[p]);
    first_low[p] = kept_low[p] = low[p];
    dead[p] = hn::Le(high[p], low[p]);
    kept_inverse[p] = hn::Div(set(real(search.top)), hn::Sub(high[p], low[p]));  // of the levels in use
    for (int i = 0; i < n; ++i)
      hn::StoreU(level_of(hn::Mul(kept_inverse[p], hn::Sub(x_at(i, p), low[p])), 0, search.top), df,
                 tried + (i * kPair + p) * lanes);
    scale[p] = hn::Div(set(1), kept_inverse[p]);
  }
  error_of(best, scale, low);
  for (int k = 0; k <= search.steps; ++k) {
    const V levels_k = set(search.first + search.step * real(k) + real(search.top));
    V inverse[kPair], sum_l[kPair], sum_l2[kPair], sum_xl[kPair], this_scale[kPair], this_low[kPair], error[kPair];
    M solvable[kPair];
    for (int p = 0; p < kPair; ++p) {
      inverse[p] = hn::Div(levels_k, hn::Sub(high[p], low[p]));
      sum_l[p] = sum_l2[p] = sum_xl[p] = zero;
    }
    for (int i = 0; i < n; ++i)
      for (int p = 0; p < kPair; ++p) {
        const V xi = x_at(i, p), l = level_of(hn::Mul(inverse[p], hn::Sub(xi, low[p])), 0, search.top);
        hn::StoreU(l, df, tried + (i * kPair + p) * lanes);
        const V wl = hn::Mul(w_at(i, p), l);
        sum_l[p] = hn::Add(sum_l[p], wl);
        sum_l2[p] = hn::Add(sum_l2[p], hn::Mul(wl, l));
        sum_xl[p] = hn::Add(sum_xl[p], hn::Mul(wl, xi));
      }
    for (int p = 0; p < kPair; ++p) {
      const V determinant = hn::Sub(hn::Mul(sum_w[p], sum_l2[p]), hn::Mul(sum_l[p], sum_l[p]));
      solvable[p] = hn::AndNot(dead[p], hn::Gt(determinant, zero));
      this_scale[p] = hn::Div(hn::Sub(hn::Mul(sum_w[p], sum_xl[p]), hn::Mul(sum_x[p], sum_l[p])), determinant);
      this_low[p] = hn::Div(hn::Sub(hn::Mul(sum_l2[p], sum_x[p]), hn::Mul(sum_l[p], sum_xl[p])), determinant);
      const M positive = hn::Gt(this_low[p], zero);
      if (hn::AllFalse(df, positive)) continue;
      this_low[p] = hn::IfThenElse(positive, zero, this_low[p]);
      this_scale[p] = hn::IfThenElse(positive, hn::Div(sum_xl[p], sum_l2[p]), this_scale[p]);
    }
    error_of(error, this_scale, this_low);
    for (int p = 0; p < kPair; ++p) {
      const M better = hn::And(solvable[p], hn::Lt(error[p], best[p]));
      if (kLevels) {
        kept_inverse[p] = hn::IfThenElse(better, inverse[p], kept_inverse[p]);
        kept_low[p] = hn::IfThenElse(better, low[p], kept_low[p]);
      }
      best[p] = hn::IfThenElse(better, error[p], best[p]);
      scale[p] = hn::IfThenElse(better, this_scale[p], scale[p]);
      low[p] = hn::IfThenElse(better, this_low[p], low[p]);
    }
  }
  for (int p = 0; p < kPair; ++p) {
    hn::StoreU(hn::IfThenElse(dead[p], zero, scale[p]), df, scales + p * lanes);
    hn::StoreU(hn::Neg(hn::IfThenElse(dead[p], first_low[p], low[p])), df, mins + p * lanes);
    for (int i = 0; i < n && kLevels; ++i) {
      const V level = level_of(hn::Mul(kept_inverse[p], hn::Sub(x_at(i, p), kept_low[p])), 0, search.top);
      store_levels(hn::IfThenElse(dead[p], zero, level), levels + i * kLanes + p * lanes);
    }
  }
}

void FitAffine(const LaneGroups& groups, const AffineSearch& search, float* scales, float* mins, std::uint8_t* levels) {
  const int step = kPair * static_cast<int>(hn::Lanes(Floats()));
  for (int first = 0; first < kLanes; first += step) {
    const float *x = groups.x + first, *w = groups.weights + first;
    float *to_scales = scales + first, *to_mins = mins + first;
    if (search.absolute) fit_affine_pair<true, false>(x, w, groups.n, search, to_scales, to_mins, nullptr);
    else if (levels == nullptr) fit_affine_pair<false, false>(x, w, groups.n, search, to_scales, to_mins, nullptr);
    else fit_affine_pair<false, true>(x, w, groups.n, search, to_scales, to_mins, levels + first);
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

/// Candidates of a search whose sums do not depend on one another, two at a time.
struct CandidateSums {
  V lx, l2;
};
/// `level(inverse * x)`, the sums of w x level and w level^2 for both inverses. Products are (w x) level, or (w level) x.
template <bool kLevelFirst, class Level>
HWY_INLINE void measure_two(const float* x, const float* w, int n, const V* inverse, const Level& level,
                            CandidateSums* sums) {
  V lx0 = hn::Zero(Floats()), lx1 = lx0, l20 = lx0, l21 = lx0;
  for (int i = 0; i < n; ++i) {
    const V xi = load(x + i * kLanes), wi = load(w + i * kLanes), wx = hn::Mul(wi, xi);
    const V a = level(hn::Mul(inverse[0], xi)), b = level(hn::Mul(inverse[1], xi));
    const V wa = hn::Mul(wi, a), wb = hn::Mul(wi, b);
    lx0 = hn::Add(lx0, kLevelFirst ? hn::Mul(wa, xi) : hn::Mul(wx, a));
    lx1 = hn::Add(lx1, kLevelFirst ? hn::Mul(wb, xi) : hn::Mul(wx, b));
    l20 = hn::Add(l20, hn::Mul(wa, a));
    l21 = hn::Add(l21, hn::Mul(wb, b));
  }
  sums[0] = {lx0, l20};
  sums[1] = {lx1, l21};
}

template <bool kLevels>
HWY_INLINE void fit_symmetric_vector(const float* x, const float* w, int n, int half, float* scales,
                                     std::uint8_t* levels) {
  const Floats df;
  const V zero = hn::Zero(df), peak = extreme_of(x, n);
  const M dead = hn::Lt(hn::Abs(peak), set(kNothing));
  const auto level = [half](V at) HWY_ATTR { return level_of(at, -half, half - 1); };
  V scale = zero, best = zero, kept_inverse = zero;  // of the levels in use
  for (int k = -10; k <= 8; k += 2) {                // -10 stands for the first, which is taken as it is; 0 is left out
    V inverse[2];
    for (int j = 0; j < 2; ++j) {
      const int step = k + j < 0 ? k + j : k + j + 1;
      inverse[j] =
          step == -10 ? hn::Div(set(real(-half)), peak) : hn::Div(set(-(real(half) + 0.1f * real(step))), peak);
    }
    CandidateSums sums[2];
    measure_two<false>(x, w, n, inverse, level, sums);
    for (int j = 0; j < 2; ++j) {
      const V lx = sums[j].lx, l2 = sums[j].l2, quotient = hn::Div(lx, l2);
      if (k + j == -10) {
        scale = hn::IfThenElse(hn::Eq(l2, zero), zero, quotient);
        best = hn::Mul(scale, lx);
        kept_inverse = inverse[j];
        continue;
      }
      if (k + j == 9) break;  // 18 candidates and the first are odd in number
      const M better = hn::And(hn::Gt(l2, zero), hn::Gt(hn::Mul(lx, lx), hn::Mul(best, l2)));
      kept_inverse = hn::IfThenElse(better, inverse[j], kept_inverse);
      scale = hn::IfThenElse(better, quotient, scale);
      best = hn::IfThenElse(better, hn::Mul(scale, lx), best);
    }
  }
  hn::StoreU(hn::IfThenElse(dead, zero, scale), df, scales);
  if (!kLevels) return;
  for (int i = 0; i < n; ++i) {
    const V found = level(hn::Mul(kept_inverse, load(x + i * kLanes)));
    store_levels(hn::IfThenElse(dead, zero, hn::Add(found, set(real(half)))), levels + i * kLanes);
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

constexpr int kMoving = 4;  // vectors in flight: every move waits for the one before, a division and what hangs on it

HWY_INLINE void fit_by_moves_vectors(const float* const* x, int n, int half, float* const* scales) {
  const Floats df;
  const int lanes = static_cast<int>(hn::Lanes(df));
  HWY_ALIGN float levels[32 * kMoving * 16];
  const V zero = hn::Zero(df);
  V sum_lx[kMoving], sum_l2[kMoving];
  M dead[kMoving];
  for (int p = 0; p < kMoving; ++p) {
    const V peak = extreme_of(x[p], n), inverse = hn::Div(set(real(-half)), peak);
    dead[p] = hn::Lt(hn::Abs(peak), set(kNothing));
    sum_lx[p] = sum_l2[p] = zero;
    for (int i = 0; i < n; ++i) {
      const V xi = load(x[p] + i * kLanes), w = hn::Mul(xi, xi), l = level_of(hn::Mul(inverse, xi), -half, half - 1);
      hn::StoreU(l, df, levels + (i * kMoving + p) * lanes);
      sum_lx[p] = hn::Add(sum_lx[p], hn::Mul(hn::Mul(w, xi), l));
      sum_l2[p] = hn::Add(sum_l2[p], hn::Mul(hn::Mul(w, l), l));
    }
  }
  // A lane in which nothing moved in a round finds nothing to move in the next either.
  bool moved = true;
  for (int round = 0; round < 5 && moved; ++round) {
    M any = hn::Lt(zero, zero);
    for (int i = 0; i < n; ++i)
      for (int p = 0; p < kMoving; ++p) {
        const V xi = load(x[p] + i * kLanes), w = hn::Mul(xi, xi), wx = hn::Mul(w, xi);
        float* place = levels + (i * kMoving + p) * lanes;
        const V old = load(place);
        V lx = hn::Sub(sum_lx[p], hn::Mul(wx, old)), l2 = hn::Sub(sum_l2[p], hn::Mul(hn::Mul(w, old), old));
        M better = hn::AndNot(dead[p], hn::Gt(lx, zero));
        const V other = level_of(hn::Div(hn::Mul(xi, l2), lx), -half, half - 1);
        better = hn::And(better, hn::Ne(other, old));
        lx = hn::Add(lx, hn::Mul(wx, other));
        l2 = hn::Add(l2, hn::Mul(hn::Mul(w, other), other));
        better = hn::And(better, hn::And(hn::Gt(l2, zero), hn::Gt(hn::Mul(hn::Mul(lx, lx), sum_l2[p]),
                                                                  hn::Mul(hn::Mul(sum_lx[p], sum_lx[p]), l2))));
        hn::StoreU(hn::IfThenElse(better, other, old), df, place);
        sum_lx[p] = hn::IfThenElse(better, lx, sum_lx[p]);
        sum_l2[p] = hn::IfThenElse(better, l2, sum_l2[p]);
        any = hn::Or(any, better);
      }
    moved = !hn::AllFalse(df, any);
  }
  for (int p = 0; p < kMoving; ++p) {
    const M sound = hn::AndNot(dead[p], hn::Gt(sum_l2[p], zero));
    hn::StoreU(hn::IfThenElse(sound, hn::Div(sum_lx[p], sum_l2[p]), zero), df, scales[p]);
  }
}

void FitByMoves(const float* const* x, int n, int half, float* const* scales) {
  const int lanes = static_cast<int>(hn::Lanes(Floats())), of_batch = kLanes / lanes;
  const float* from[kMoving];
  float* to[kMoving];
  for (int vector = 0; vector < kMoveBatches * of_batch; vector += kMoving) {
    for (int p = 0; p < kMoving; ++p) {
      const int batch = (vector + p) / of_batch, column = (vector + p) % of_batch * lanes;
      from[p] = x[batch] + column;
      to[p] = scales[batch] + column;
    }
    fit_by_moves_vectors(from, n, half, to);
  }
}

void TakeLevels(const float* x, const StoredScales& scales, int n, int low, int high, std::uint8_t* levels) {
  const int lanes = static_cast<int>(hn::Lanes(Floats()));
  const V offset = set(real(low));
  for (int group = 0; group < 256 / n; ++group) {
    const V d = set(scales.d[group]), m = set(scales.m[group]);
    for (int i = group * n; i < (group + 1) * n; i += lanes)
      store_levels(hn::Sub(level_of(hn::Div(hn::Add(load(x + i), m), d), low, high), offset), levels + i);
  }
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
  const V zero = hn::Zero(df), peak = extreme_of(x, n), lowest = set(real(kIq4Levels[0]));
  const M dead = hn::Lt(hn::Abs(peak), set(kNothing));
  const auto level = [](V at) HWY_ATTR { return nearest_iq4_value(at); };
  V scale = zero, best = zero;
  for (int k = -8; k <= 6; k += 2) {  // -8 stands for the first, which is taken as it is
    V inverse[2];
    for (int j = 0; j < 2; ++j)
      inverse[j] = k + j == -8 ? hn::Div(set(1), hn::Div(hn::Neg(peak), lowest))
                               : hn::Div(set(real(k + j + kIq4Levels[0])), peak);
    CandidateSums sums[2];
    measure_two<true>(x, w, n, inverse, level, sums);
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

int NearestEntry(const CodeBook& book, const NeighbourQuery& query) {
  const Floats df;
  const Ints di;
  const hn::Rebind<std::uint8_t, Floats> d8;
  const int lanes = static_cast<int>(hn::Lanes(df)), parts = book.parts();
  const std::span neighbours = book.neighbours(query.code);
  const std::uint8_t* levels = book.neighbour_levels(query.code);
  const V factor = set(query.factor), offset = set(query.offset), scale = set(query.scale);
  V least = set(std::numeric_limits<float>::max());
  auto place = hn::Zero(di);
  const int n = static_cast<int>(neighbours.size());
  for (int j = 0; j < n; j += lanes) {
    const std::uint8_t* from = levels + j / kNeighbourLanes * kNeighbourLanes * parts + j % kNeighbourLanes;
    V distance = hn::Zero(df);
    for (int i = 0; i < parts; ++i) {
      const V level = hn::ConvertTo(df, hn::PromoteTo(di, hn::LoadU(d8, from + i * kNeighbourLanes)));
      const V off = hn::Sub(hn::Mul(scale, hn::Add(hn::Mul(factor, level), offset)), set(query.x[i]));
      distance = hn::Add(distance, hn::Mul(hn::Mul(set(query.weights[i]), off), off));
    }
    const M better = hn::Lt(distance, least);
    least = hn::IfThenElse(better, distance, least);
    place = hn::IfThenElse(hn::RebindMask(di, better), hn::Add(hn::Iota(di, 0), hn::Set(di, j)), place);
  }
  // the first place of the least distance; 0 where there is none
  const V smallest = hn::MinOfLanes(df, least);
  const auto candidates = hn::IfThenElse(hn::RebindMask(di, hn::Eq(least, smallest)), place, hn::Set(di, n));
  const int first = hn::GetLane(hn::MinOfLanes(di, candidates));
  return neighbours[static_cast<std::size_t>(std::min(first, n - 1))];
}

}  // namespace ropewalk::codecs::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ropewalk::codecs {
HWY_EXPORT(NearestEntry);
HWY_EXPORT(Turn);
HWY_EXPORT(Weigh);
HWY_EXPORT(WeighPlain);
HWY_EXPORT(FitAffine);
HWY_EXPORT(FitSymmetric);
HWY_EXPORT(FitByMoves);
HWY_EXPORT(FitIq4);
HWY_EXPORT(TakeLevels);
HWY_EXPORT(NearestIq4);

void turn(const float* x, int n, int n_groups, float* out) { HWY_DYNAMIC_DISPATCH(Turn)(x, n, n_groups, out); }
void weigh_lanes(const float* x, const float* importances, const float* spreads, int n, float* weights, float* sums) {
  HWY_DYNAMIC_DISPATCH(Weigh)(x, importances, spreads, n, weights, sums);
}
void weigh_lanes(const float* x, int n, bool mean, float* weights) {
  HWY_DYNAMIC_DISPATCH(WeighPlain)(x, n, mean, weights);
}
void fit_affine_lanes(const LaneGroups& groups, const AffineSearch& search, float* scales, float* mins,
                      std::uint8_t* levels) {
  HWY_DYNAMIC_DISPATCH(FitAffine)(groups, search, scales, mins, levels);
}
void fit_symmetric_lanes(const LaneGroups& groups, int half, float* scales, std::uint8_t* levels) {
  HWY_DYNAMIC_DISPATCH(FitSymmetric)(groups, half, scales, levels);
}
void fit_by_moves_lanes(const float* const* x, int n, int half, float* const* scales) {
  HWY_DYNAMIC_DISPATCH(FitByMoves)(x, n, half, scales);
}

void take_levels(const float* x, const StoredScales& scales, int n, int low, int high, std::uint8_t* levels) {
  HWY_DYNAMIC_DISPATCH(TakeLevels)(x, scales, n, low, high, levels);
}
void fit_iq4_lanes(const LaneGroups& groups, float* scales) { HWY_DYNAMIC_DISPATCH(FitIq4)(groups, scales); }
int nearest_neighbour_lanes(const CodeBook& book, const NeighbourQuery& query) {
  return HWY_DYNAMIC_DISPATCH(NearestEntry)(book, query);
}
void nearest_iq4_levels(const float* x, float inverse, int n, std::uint8_t* levels) {
  HWY_DYNAMIC_DISPATCH(NearestIq4)(x, inverse, n, levels);
}

}  // namespace ropewalk::codecs
#endif
