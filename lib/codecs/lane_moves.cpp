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

/// Largest magnitudes between which sums neither lose relative precision as denormals nor come near to infinity.
constexpr float kPrecise = 0x1p-30f, kTame = 0x1p30f;

/// What tells elements that stay from those to be asked. The reference takes an element x of level l out of both sums and
/// asks for the level nearest to x (l2 - w l^2) / (lx - w x l). What is taken out cancels: that is less than 1/2 off l where
/// |x l2 - l lx| < (lx - w x l) / 2, or, divided by lx, |x / scale - l| < (1 - w x l / lx) / 2. Roundings, the reference's
/// and these, make less than 60 * 2^-24 of difference, and 10^-5 of what stands on the right.
struct Stays {
  V inverse, share;
  HWY_INLINE Stays(V lx, V l2) {
    const V one = hn::Div(set(1), lx);
    inverse = hn::Mul(l2, one);
    share = hn::Mul(set(kShare), one);
  }

  /// `wxl`: w x l, of quotients limited as levels are. False where anything is no number.
  HWY_INLINE M operator()(V x, V level, V wxl) const {
    const V at = hn::Max(hn::Min(hn::Mul(x, inverse), set(kHalf - 1)), set(-kHalf));
    return hn::Lt(hn::Abs(hn::Sub(at, level)), hn::NegMulAdd(share, wxl, set(kShare - 0x1p-18f)));
  }

 private:
  static constexpr float kShare = 0.49999f;
};

/// Levels at the scale that makes the peak -kHalf: nothing rounds to less.
HWY_INLINE V first_level(V inverse, V x) {
  const Ints di;
  const auto bits = hn::BitCast(di, hn::Add(hn::Mul(inverse, x), set(kShift)));
  return hn::Sub(hn::BitCast(Floats(), hn::Min(bits, hn::Set(di, kOffsetBits + kHalf - 1))), set(kShift));
}

constexpr int kPair = 2;  // vectors in flight

/// The scales of those of two vectors of groups in which nothing moves; returns the others. Up to a move the sums stay what
/// they are, so all elements are asked at once.
HWY_INLINE std::uint32_t fit_unmoved(const float* x, float* scales) {
  const Floats df;
  const V zero = hn::Zero(df);
  const int lanes = static_cast<int>(hn::Lanes(df));
  HWY_ALIGN float levels[kN * kPair * 16], shares[kN * kPair * 16];  // l and w x l of each element
  V magnitude[kPair], inverse[kPair], sum_lx[kPair], sum_l2[kPair];
  M still[kPair];
  const auto x_at = [&](int i, int p) HWY_ATTR { return load(x + i * kLanes + p * lanes); };
  const auto place = [lanes](int i, int p) { return (i * kPair + p) * lanes; };
  for (int p = 0; p < kPair; ++p) {
    const V peak = peak_of(x + p * lanes, kN);
    magnitude[p] = hn::Abs(peak);
    inverse[p] = hn::Div(set(-kHalf), peak);
    sum_lx[p] = sum_l2[p] = zero;
  }
  for (int i = 0; i < kN; ++i)
    for (int p = 0; p < kPair; ++p) {
      const V xi = x_at(i, p), w = hn::Mul(xi, xi), l = first_level(inverse[p], xi), lx = hn::Mul(hn::Mul(w, xi), l);
      hn::Store(l, df, levels + place(i, p));
      hn::Store(lx, df, shares + place(i, p));
      sum_lx[p] = hn::Add(sum_lx[p], lx);
      sum_l2[p] = hn::Add(sum_l2[p], hn::Mul(hn::Mul(w, l), l));
    }
  const Stays stays[kPair] = {Stays(sum_lx[0], sum_l2[0]), Stays(sum_lx[1], sum_l2[1])};
  for (int p = 0; p < kPair; ++p) still[p] = hn::Gt(sum_lx[p], zero);
  for (int i = 0; i < kN; ++i)
    for (int p = 0; p < kPair; ++p)
      still[p] = hn::And(still[p],
                         stays[p](x_at(i, p), hn::Load(df, levels + place(i, p)), hn::Load(df, shares + place(i, p))));
  std::uint32_t undecided = 0;
  for (int p = 0; p < kPair; ++p) {
    // Where the peak is positive all terms of lx are negative, and an element moves only where the others' sum is positive.
    const M numbers = hn::Lt(hn::Add(hn::Abs(sum_lx[p]), sum_l2[p]), set(std::numeric_limits<float>::infinity()));
    const M tame = hn::And(hn::Ge(magnitude[p], set(kPrecise)), hn::Lt(magnitude[p], set(kTame)));
    const M dead = hn::Lt(magnitude[p], set(kNothing));
    const M decided = hn::And(numbers, hn::Or(dead, hn::And(tame, hn::Or(still[p], hn::Lt(sum_lx[p], zero)))));
    hn::StoreU(hn::IfThenElseZero(hn::AndNot(dead, hn::Gt(sum_l2[p], zero)), hn::Div(sum_lx[p], sum_l2[p])), df,
               scales + p * lanes);
    undecided |= bits_of(hn::Not(decided)) << p * lanes;
  }
  return undecided;
}

/// A vector of groups whose elements move, one of each at a time: the next that may have to.
class Moves {
 public:
  HWY_INLINE explicit Moves(const float* from) : x_(from) {
    const V zero = hn::Zero(df_);
    const V peak = peak_of(x_, kN), inverse = hn::Div(set(-kHalf), peak);
    dead_ = hn::Lt(hn::Abs(peak), set(kNothing));
    tame_ = hn::And(hn::Ge(hn::Abs(peak), set(kPrecise)), hn::Lt(hn::Abs(peak), set(kTame)));
    sum_lx_ = sum_l2_ = zero;
    for (int i = 0; i < kN; ++i) {
      const V xi = load(x_ + i * kLanes), w = hn::Mul(xi, xi), wx = hn::Mul(w, xi),
              l = level_of(hn::Mul(inverse, xi), -kHalf, kHalf - 1);
      hn::Store(l, df_, levels_ + i * kStride);
      hn::Store(wx, df_, wx_ + i * kStride);
      sum_lx_ = hn::Add(sum_lx_, hn::Mul(wx, l));
      sum_l2_ = hn::Add(sum_l2_, hn::Mul(hn::Mul(w, l), l));
    }
    moved_ = hn::Zero(di_);
    rounds_ = hn::Set(di_, 4);  // behind this one
    ahead_ = hn::Set(di_, -1);
    moved_now_ = hn::Zero(di_);
    other_ = zero;
    look();
  }

  /// Asks the next element of each group; false if none has one.
  HWY_INLINE bool step() {
    const auto none = hn::Zero(di_);
    auto next = hn::And(asked_, ahead_);
    // A round in which something moved is followed by another, up to five.
    const auto again = hn::And(hn::Eq(next, none), hn::And(hn::Ne(moved_, none), hn::Gt(rounds_, none)));
    next = hn::IfThenElse(again, asked_, next);
    rounds_ = hn::Add(rounds_, hn::VecFromMask(di_, again));
    moved_ = hn::IfThenElse(again, none, moved_);
    const auto active = hn::Ne(next, none);
    if (hn::AllFalse(di_, active)) return false;
    const auto bit = hn::And(next, hn::Neg(next));  // the lowest
    ahead_ = hn::IfThenElse(active, hn::Neg(hn::Add(bit, bit)), hn::IfThenElse(again, hn::Set(di_, -1), ahead_));
    const auto place = hn::IfThenElseZero(
        active, hn::Sub(hn::ShiftRight<23>(hn::BitCast(di_, hn::ConvertTo(df_, bit))), hn::Set(di_, 127)));
    const V xi = hn::GatherIndex(df_, x_, hn::Add(hn::Mul(place, hn::Set(di_, kLanes)), hn::Iota(di_, 0))),
            old = hn::GatherIndex(df_, levels_, hn::Add(hn::Mul(place, hn::Set(di_, kStride)), hn::Iota(di_, 0)));
    const V w = hn::Mul(xi, xi), wx = hn::Mul(w, xi);
    V lx = hn::Sub(sum_lx_, hn::Mul(wx, old)), l2 = hn::Sub(sum_l2_, hn::Mul(hn::Mul(w, old), old));
    M better = hn::And(hn::RebindMask(df_, active), hn::Gt(lx, hn::Zero(df_)));
    other_ = level_of(hn::Div(hn::Mul(xi, l2), lx), -kHalf, kHalf - 1);
    lx = hn::Add(lx, hn::Mul(wx, other_));
    l2 = hn::Add(l2, hn::Mul(hn::Mul(w, other_), other_));
    better = hn::And(hn::AndNot(hn::Eq(other_, old), better),
                     hn::And(hn::Gt(l2, hn::Zero(df_)),
                             hn::Gt(hn::Mul(hn::Mul(lx, lx), sum_l2_), hn::Mul(hn::Mul(sum_lx_, sum_lx_), l2))));
    if (hn::AllFalse(df_, better)) return true;
    sum_lx_ = hn::IfThenElse(better, lx, sum_lx_);
    sum_l2_ = hn::IfThenElse(better, l2, sum_l2_);
    moved_now_ = hn::IfThenElseZero(hn::RebindMask(di_, better), bit);
    moved_ = hn::Or(moved_, moved_now_);
    look();
    return true;
  }

  HWY_INLINE void store_scales(float* scales) const {
    const M sound = hn::AndNot(dead_, hn::Gt(sum_l2_, hn::Zero(df_)));
    hn::StoreU(hn::IfThenElseZero(sound, hn::Div(sum_lx_, sum_l2_)), df_, scales);
  }

 private:
  /// Takes down the levels that moved, and which elements may move now.
  HWY_INLINE void look() {
    const Stays stays(sum_lx_, sum_l2_);
    auto still = hn::Zero(di_), bit = hn::Set(di_, 1);
    for (int i = 0; i < kN; ++i, bit = hn::Add(bit, bit)) {
      const M here = hn::RebindMask(df_, hn::TestBit(moved_now_, bit));
      const V level = hn::IfThenElse(here, other_, hn::Load(df_, levels_ + i * kStride));
      hn::Store(level, df_, levels_ + i * kStride);
      const M quiet = stays(load(x_ + i * kLanes), level, hn::Mul(hn::Load(df_, wx_ + i * kStride), level));
      still = hn::IfThenElse(hn::RebindMask(di_, quiet), hn::Or(still, bit), still);
    }
    // Where the sum is not positive, or sums are not precise, all are asked.
    still = hn::IfThenElseZero(hn::RebindMask(di_, hn::And(tame_, hn::Gt(sum_lx_, hn::Zero(df_)))), still);
    asked_ = hn::AndNot(still, hn::IfThenZeroElse(hn::RebindMask(di_, dead_), hn::Set(di_, (1 << kN) - 1)));
  }

  static constexpr int kStride = static_cast<int>(hn::MaxLanes(Floats()));
  const Floats df_;
  const Ints di_;
  const float* x_;
  HWY_ALIGN float levels_[kN * 16], wx_[kN * 16];
  M dead_, tame_;
  V sum_lx_, sum_l2_, other_;
  hn::Vec<Ints> asked_, ahead_, moved_, moved_now_, rounds_;  // bits: elements
};

void FitByMoves(const float* x, int n_groups, float* scales) {
  const int lanes = static_cast<int>(hn::Lanes(Floats()));
  alignas(64) float moving[kLanes * kN] = {}, turned[kN * kLanes], found[kLanes];
  int places[kLanes], n_moving = 0;
  const auto move = [&]() HWY_ATTR {
    turn_groups(moving, kN, n_moving, turned);
    if (n_moving == 0) return;
    for (int first = 0; first < n_moving; first += kPair * lanes) {
      Moves one(turned + first), other(turned + first + lanes);  // the steps of one do not wait for the other's
      while (one.step() | other.step()) continue;
      one.store_scales(found + first);
      other.store_scales(found + first + lanes);
    }
    for (int i = 0; i < n_moving; ++i) scales[places[i]] = found[i];
    n_moving = 0;
  };
  for (int batch = 0; batch < n_groups; batch += kLanes) {
    const int here = std::min(kLanes, n_groups - batch);
    turn_groups(x + batch * kN, kN, here, turned);
    std::uint32_t undecided = 0;
    for (int first = 0; first < kLanes; first += kPair * lanes)
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
