#include <algorithm>
#include <bit>
#include <cstdint>

#include "lib/codecs/lane_fits.h"
#include "lib/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lib/codecs/lane_moves.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "lib/codecs/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ropewalk::codecs::HWY_NAMESPACE {

constexpr int kN = 16, kHalf = 4;

/// Below this largest magnitude products of three elements come near to denormals, which have no relative precision.
constexpr float kPrecise = 0x1p-30f;

/// The quotients that leave an element at its level, 2^20 standing for those that the last levels limit.
struct Bounds {
  V low, high;
};
HWY_INLINE Bounds bounds_of(V level) {
  const V low = hn::Sub(level, set(kNearly)), high = hn::Add(level, set(kNearly));
  return {hn::IfThenElse(hn::Eq(level, set(-kHalf)), set(-0x1p20f), low),
          hn::IfThenElse(hn::Eq(level, set(kHalf - 1)), set(0x1p20f), high)};
}

/// The scales of those of a vector of groups in which the first round of moves finds nothing to move; returns the others.
/// Up to a move the sums stay what they are: all elements are asked at once, and a product with each bound of the
/// quotient stands for the division.
HWY_INLINE std::uint32_t fit_unmoved(const float* x, float* scales) {
  const Floats df;
  const V zero = hn::Zero(df);
  const int lanes = static_cast<int>(hn::Lanes(df));
  Largest largest = hn::Zero(Ints());
  const V peak = extreme_of(x, kN, largest), inverse = hn::Div(set(-kHalf), peak);
  HWY_ALIGN float levels[kN * 16], first[kN * 16], second[kN * 16];  // l, w x l and w l l of each element
  V sum_lx = zero, sum_l2 = zero;
  for (int i = 0; i < kN; ++i) {
    const V xi = load(x + i * kLanes), w = hn::Mul(xi, xi);
    const V l = small_level_of(hn::Mul(inverse, xi), -kHalf, kHalf - 1);
    const V lx = hn::Mul(hn::Mul(w, xi), l), l2 = hn::Mul(hn::Mul(w, l), l);
    hn::Store(l, df, levels + i * lanes);
    hn::Store(lx, df, first + i * lanes);
    hn::Store(l2, df, second + i * lanes);
    sum_lx = hn::Add(sum_lx, lx);
    sum_l2 = hn::Add(sum_l2, l2);
  }
  M stays = hn::Eq(zero, zero);
  for (int i = 0; i < kN; ++i) {
    const V lx = hn::Sub(sum_lx, hn::Load(df, first + i * lanes));
    const V product = hn::Mul(load(x + i * kLanes), hn::Sub(sum_l2, hn::Load(df, second + i * lanes)));
    const Bounds bounds = bounds_of(hn::Load(df, levels + i * lanes));
    const M within = hn::And(hn::Gt(product, hn::Mul(bounds.low, lx)), hn::Lt(product, hn::Mul(bounds.high, lx)));
    stays =
        hn::And(stays, hn::Or(within, hn::Not(hn::Gt(lx, zero))));  // nothing moves in groups whose peak is positive
  }
  const M dead = hn::Lt(hn::Abs(peak), set(kNothing));
  const M decided = hn::Or(dead, hn::And(stays, hn::Ge(hn::Abs(peak), set(kPrecise))));
  hn::StoreU(hn::IfThenElse(hn::Gt(sum_l2, zero), hn::IfThenElse(dead, zero, hn::Div(sum_lx, sum_l2)), zero), df,
             scales);
  const M unsound = reaches(largest, std::numeric_limits<float>::infinity());
  return bits_of(hn::Or(unsound, hn::Not(decided)));
}

/// Largest magnitudes between which a reciprocal is neither lost nor infinite without being seen: lx is less than 2^96.
constexpr float kTame = 0x1p30f;

/// The levels of the quotients x / y where `asked`.
HWY_INLINE V level_of_quotient(V x, V y, M asked, bool tame) {
#if HWY_ARCH_X86
  // By a reciprocal that is off by 2^-11 at most, and by 2^-20 after Newton's step: that decides all but what is near a
  // midpoint of the first levels, or large. Of what is no number nothing is decided.
  if (HWY_LIKELY(tame)) {
    const V guess = hn::ApproximateReciprocal(y), q = hn::Mul(x, hn::Mul(guess, hn::NegMulAdd(y, guess, set(2))));
    const M decided = hn::And(hn::Lt(off_whole(q), set(kNearly)), hn::Lt(hn::Abs(q), set(kSmall)));
    if (HWY_LIKELY(hn::AllFalse(Floats(), hn::AndNot(decided, asked)))) return small_level_of(q, -kHalf, kHalf - 1);
  }
#endif
  (void)asked, (void)tame;
  return level_of(hn::Div(x, y), -kHalf, kHalf - 1);
}

/// fit_by_moves of kTurns vectors of groups, whose steps, each of which has to wait for the one before, do not wait for one
/// another.
template <int kTurns>
HWY_INLINE void fit_moved(const float* x, float* scales) {
  const Floats df;
  const int lanes = static_cast<int>(hn::Lanes(df));
  HWY_ALIGN float levels[kN * kTurns * 16];
  const V zero = hn::Zero(df);
  M dead[kTurns];
  V sum_lx[kTurns], sum_l2[kTurns];
  bool tame = true;
  for (int t = 0; t < kTurns; ++t) {
    Largest unused = hn::Zero(Ints());
    const V peak = extreme_of(x + t * lanes, kN, unused), magnitude = hn::Abs(peak),
            inverse = hn::Div(set(-kHalf), peak);
    dead[t] = hn::Lt(magnitude, set(kNothing));
    tame = tame && hn::AllTrue(df, hn::Or(dead[t], hn::Lt(magnitude, set(kTame))));
    sum_lx[t] = sum_l2[t] = zero;
    for (int i = 0; i < kN; ++i) {
      const V xi = load(x + i * kLanes + t * lanes), w = hn::Mul(xi, xi),
              l = level_of(hn::Mul(inverse, xi), -kHalf, kHalf - 1);
      hn::Store(l, df, levels + (i * kTurns + t) * lanes);
      sum_lx[t] = hn::Add(sum_lx[t], hn::Mul(hn::Mul(w, xi), l));
      sum_l2[t] = hn::Add(sum_l2[t], hn::Mul(hn::Mul(w, l), l));
    }
  }
  // A lane in which nothing moved in a round finds nothing to move in the next either.
  bool moved = true;
  for (int round = 0; round < 5 && moved; ++round) {
    moved = false;
    for (int i = 0; i < kN; ++i)
      for (int t = 0; t < kTurns; ++t) {
        float* level = levels + (i * kTurns + t) * lanes;
        const V xi = load(x + i * kLanes + t * lanes), w = hn::Mul(xi, xi), wx = hn::Mul(w, xi),
                old = hn::Load(df, level);
        V lx = hn::Sub(sum_lx[t], hn::Mul(wx, old)), l2 = hn::Sub(sum_l2[t], hn::Mul(hn::Mul(w, old), old));
        M better = hn::AndNot(dead[t], hn::Gt(lx, zero));
        const V other = level_of_quotient(hn::Mul(xi, l2), lx, better, tame);
        better = hn::And(better, hn::Ne(other, old));
        if (hn::AllFalse(df, better)) continue;
        lx = hn::Add(lx, hn::Mul(wx, other));
        l2 = hn::Add(l2, hn::Mul(hn::Mul(w, other), other));
        better = hn::And(better, hn::And(hn::Gt(l2, zero), hn::Gt(hn::Mul(hn::Mul(lx, lx), sum_l2[t]),
                                                                  hn::Mul(hn::Mul(sum_lx[t], sum_lx[t]), l2))));
        hn::Store(hn::IfThenElse(better, other, old), df, level);
        sum_lx[t] = hn::IfThenElse(better, lx, sum_lx[t]);
        sum_l2[t] = hn::IfThenElse(better, l2, sum_l2[t]);
        moved |= !hn::AllFalse(df, better);
      }
  }
  for (int t = 0; t < kTurns; ++t) {
    const M sound = hn::AndNot(dead[t], hn::Gt(sum_l2[t], zero));
    hn::StoreU(hn::IfThenElse(sound, hn::Div(sum_lx[t], sum_l2[t]), zero), df, scales + t * lanes);
  }
}

constexpr int kTurns = 2;

void FitByMoves(const float* x, int n_groups, float* scales) {
  const int lanes = static_cast<int>(hn::Lanes(Floats()));
  alignas(64) float moving[kLanes * kN] = {}, turned[kN * kLanes], found[kLanes];
  int places[kLanes], n_moving = 0;
  const auto move = [&]() HWY_ATTR {
    turn_groups(moving, kN, n_moving, turned);
    for (int first = 0; first < n_moving; first += kTurns * lanes) fit_moved<kTurns>(turned + first, found + first);
    for (int i = 0; i < n_moving; ++i) scales[places[i]] = found[i];
    n_moving = 0;
  };
  for (int batch = 0; batch < n_groups; batch += kLanes) {
    const int here = std::min(kLanes, n_groups - batch);
    turn_groups(x + batch * kN, kN, here, turned);
    std::uint32_t undecided = 0;
    for (int first = 0; first < kLanes; first += lanes)
      undecided |= fit_unmoved(turned + first, found + first) << first;
    std::copy_n(found, here, scales + batch);
    for (; undecided != 0; undecided &= undecided - 1) {
      const int group = batch + std::countr_zero(undecided);
      if (group >= n_groups) break;
      places[n_moving] = group;
      std::copy_n(x + group * kN, kN, moving + n_moving * kN);
      if (++n_moving == kLanes) move();
    }
  }
  move();
}

}  // namespace ropewalk::codecs::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ropewalk::codecs {
HWY_EXPORT(FitByMoves);

void fit_by_moves_lanes(const float* x, int n_groups, float* scales) {
  HWY_DYNAMIC_DISPATCH(FitByMoves)(x, n_groups, scales);
}

}  // namespace ropewalk::codecs
#endif
