#include "lib/codecs/lane_fits.h"
#include "lib/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lib/codecs/lane_moves.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "lib/codecs/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ropewalk::codecs::HWY_NAMESPACE {

constexpr int kMoving = 4;  // vectors in flight: every move waits for the one before, a division and what hangs on it

HWY_INLINE void fit_by_moves_vectors(const float* const* x, int n, int half, float* const* scales) {
  const Floats df;
  const int lanes = static_cast<int>(hn::Lanes(df));
  HWY_ALIGN float levels[32 * kMoving * 16];
  const V zero = hn::Zero(df);
  V sum_lx[kMoving], sum_l2[kMoving];
  M dead[kMoving];
  for (int p = 0; p < kMoving; ++p) {
    Largest unused = hn::Zero(Ints());
    const V peak = extreme_of(x[p], n, unused), inverse = hn::Div(set(real(-half)), peak);
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

}  // namespace ropewalk::codecs::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ropewalk::codecs {
HWY_EXPORT(FitByMoves);

void fit_by_moves_lanes(const float* const* x, int n, int half, float* const* scales) {
  HWY_DYNAMIC_DISPATCH(FitByMoves)(x, n, half, scales);
}

}  // namespace ropewalk::codecs
#endif
