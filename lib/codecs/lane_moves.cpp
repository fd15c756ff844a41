#include <algorithm>
#include <bit>
#include <cmath>
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

constexpr int kN = 16, kHalf = 4, kRounds = 5;
constexpr int kGroups = 1024;  // at once: their levels are 64 KiB

/// Largest magnitudes between which sums neither lose relative precision as denormals nor come near to infinity.
constexpr float kPrecise = 0x1p-30f, kTame = 0x1p30f;

/// What tells elements that stay from those to be asked. The reference takes an element x of level l out of both sums and
/// asks for the level nearest to x (l2 - w l^2) / (lx - w x l). What is taken out cancels: that is less than 1/2 off l where
/// |x l2 - l lx| < (lx - w x l) / 2, or, divided by lx, |x / scale - l| < (1 - w x l / lx) / 2. Roundings, the reference's
/// and these, make less than 60 * 2^-24 of difference, and 10^-5 of what stands on the right.
constexpr float kShare = 0.49999f, kStays = kShare - 0x1p-18f;

/// What becomes of both sums: the fit's scale, and what the test takes.
struct OfSums {
  V scale, inverse, share;
  HWY_INLINE OfSums(V lx, V l2) {
    const V one = hn::Div(set(1), lx);
    scale = hn::Div(lx, l2);
    inverse = hn::Mul(l2, one);
    share = hn::Mul(set(kShare), one);
  }
};

/// Elements of a group that do not surely stay, as bits, by their levels: `levels(i, x)` gives those of a vector x of
/// elements from i on. All of them where `share` is no number.
template <class Levels>
HWY_INLINE std::uint32_t in_doubt(const float* x, const Levels& levels, float inverse, float share) {
  std::uint32_t stay = 0;
  for (int i = 0; i < kN; i += static_cast<int>(hn::Lanes(Floats()))) {
    const V xi = load(x + i), level = levels(i, xi), wxl = hn::Mul(hn::Mul(xi, xi), hn::Mul(xi, level)),
            at = hn::Max(hn::Min(hn::Mul(xi, set(inverse)), set(kHalf - 1)), set(-kHalf));
    stay |= bits_of(hn::Lt(hn::Abs(hn::Sub(at, level)), hn::NegMulAdd(set(share), wxl, set(kStays)))) << i;
  }
  return stay ^ ((1u << kN) - 1);
}

/// Levels at the scale that makes the peak -kHalf: nothing rounds to less.
HWY_INLINE V first_level(V inverse, V x) {
  const Ints di;
  const auto bits = hn::BitCast(di, hn::Add(hn::Mul(inverse, x), set(kShift)));
  return hn::Sub(hn::BitCast(Floats(), hn::Min(bits, hn::Set(di, kOffsetBits + kHalf - 1))), set(kShift));
}

/// Groups with elements to ask, in no order, and where each of them is: at element `at` mod kN in round `at` / kN, of which
/// there are kRounds at most, and none behind one in which nothing moves.
class Moves {
 public:
  HWY_INLINE Moves(const float* x, float* scales) : x_(x), scales_(scales) {}

  /// A group as the first look at it leaves it.
  HWY_INLINE void add(int group, float first_inverse, float lx, float l2, float inverse, float share) {
    const auto level = [&](int i, V xi) HWY_ATTR {
      const V l = first_level(set(first_inverse), xi);
      hn::StoreU(l, Floats(), levels_ + group * kN + i);
      return l;
    };
    n_ = put(n_, {group, 0, kN, lx, l2}, in_doubt(x_ + group * kN, level, inverse, share));
  }

  /// Asks until nothing moves any more.
  HWY_INLINE void run() {
    const int lanes = static_cast<int>(hn::Lanes(Floats()));
    while (n_ > 0) {
      for (int slot = 0; slot < n_; slot += lanes) ask(slot);
      int kept = 0;
      for (int slot = 0; slot < n_; ++slot) {
        const int group = group_[slot];
        scales_[group] = scale_[slot];
        const auto level = [&](int i, V) HWY_ATTR { return load(levels_ + group * kN + i); };
        kept = put(kept, {group, at_[slot], end_[slot], lx_[slot], l2_[slot]},
                   in_doubt(x_ + group * kN, level, inverse_[slot], share_[slot]));
      }
      n_ = kept;
    }
  }

 private:
  struct State {
    int group, at, end;
    float lx, l2;
  };
  /// Keeps a group at `slot` if an element is left to ask, and returns the next slot; no jump depends on it.
  HWY_INLINE int put(int slot, const State& state, std::uint32_t asked) {
    const std::uint64_t ahead = (asked | asked << kN) >> state.at % kN | std::uint64_t{1} << 32;
    const int at = state.at + std::countr_zero(ahead);
    group_[slot] = state.group;
    at_[slot] = at;
    end_[slot] = state.end;
    lx_[slot] = state.lx;
    l2_[slot] = state.l2;
    return slot + (at < state.end ? 1 : 0);
  }

  /// Asks an element of each of a vector of groups.
  HWY_INLINE void ask(int slot) {
    const Floats df;
    const Ints di;
    const int lanes = static_cast<int>(hn::Lanes(df));
    const V zero = hn::Zero(df), sum_lx = load(lx_ + slot), sum_l2 = load(l2_ + slot);
    const auto at = hn::LoadU(di, at_ + slot), end = hn::LoadU(di, end_ + slot),
               element = hn::Add(hn::ShiftLeft<4>(hn::LoadU(di, group_ + slot)), hn::And(at, hn::Set(di, kN - 1)));
    const V xi = hn::GatherIndex(df, x_, element), old = hn::GatherIndex(df, levels_, element);
    const V w = hn::Mul(xi, xi), wx = hn::Mul(w, xi);
    V lx = hn::Sub(sum_lx, hn::Mul(wx, old)), l2 = hn::Sub(sum_l2, hn::Mul(hn::Mul(w, old), old));
    M better = hn::Gt(lx, zero);
    const V other = level_of(hn::Div(hn::Mul(xi, l2), lx), -kHalf, kHalf - 1);
    lx = hn::Add(lx, hn::Mul(wx, other));
    l2 = hn::Add(l2, hn::Mul(hn::Mul(w, other), other));
    better = hn::And(
        hn::AndNot(hn::Eq(other, old), better),
        hn::And(hn::Gt(l2, zero), hn::Gt(hn::Mul(hn::Mul(lx, lx), sum_l2), hn::Mul(hn::Mul(sum_lx, sum_lx), l2))));
    lx = hn::IfThenElse(better, lx, sum_lx);
    l2 = hn::IfThenElse(better, l2, sum_l2);
    // Another round behind that in which it moved.
    const auto next_end =
        hn::Min(hn::Add(hn::Or(at, hn::Set(di, kN - 1)), hn::Set(di, kN + 1)), hn::Set(di, kN * kRounds));
    hn::StoreU(hn::IfThenElse(hn::RebindMask(di, better), next_end, end), di, end_ + slot);
    hn::StoreU(hn::Add(at, hn::Set(di, 1)), di, at_ + slot);
    hn::StoreU(lx, df, lx_ + slot);
    hn::StoreU(l2, df, l2_ + slot);
    const OfSums of(lx, l2);
    hn::StoreU(hn::IfThenElseZero(hn::Gt(l2, zero), of.scale), df, scale_ + slot);
    hn::StoreU(of.inverse, df, inverse_ + slot);
    // Where the sum is not positive all are asked.
    hn::StoreU(hn::IfThenElse(hn::Gt(lx, zero), of.share, set(std::numeric_limits<float>::quiet_NaN())), df,
               share_ + slot);
    HWY_ALIGN std::int32_t elements[16];
    HWY_ALIGN float levels[16];
    hn::Store(element, di, elements);
    hn::Store(hn::IfThenElse(better, other, old), df, levels);
    for (int lane = 0; lane < std::min(lanes, n_ - slot); ++lane) levels_[elements[lane]] = levels[lane];
  }

  static constexpr int kSlots = kGroups + 16;  // the last vector reads and writes past them
  const float* x_;
  float* scales_;
  int n_ = 0;
  std::int32_t group_[kSlots] = {}, at_[kSlots] = {}, end_[kSlots] = {};
  float lx_[kSlots] = {}, l2_[kSlots] = {}, scale_[kSlots], inverse_[kSlots], share_[kSlots];
  alignas(64) float levels_[kGroups * kN];
};

constexpr int kPair = 2;  // vectors in flight

/// Of 32 groups, turned, before anything moves. Bits: of those in which something may move, and of those whose arithmetic
/// is fits.h's.
struct Firsts {
  alignas(64) float first_inverse[kLanes], lx[kLanes], l2[kLanes], scale[kLanes], inverse[kLanes], share[kLanes];
  std::uint32_t may_move = 0, unsound = 0;

  /// Two vectors of them.
  HWY_INLINE void take(const float* x, int at) {
    const Floats df;
    const V zero = hn::Zero(df);
    const int lanes = static_cast<int>(hn::Lanes(df));
    V magnitude[kPair], of_peak[kPair], sum_lx[kPair], sum_l2[kPair];
    for (int p = 0; p < kPair; ++p) {
      const V peak = peak_of(x + at + p * lanes, kN);
      magnitude[p] = hn::Abs(peak);
      of_peak[p] = hn::Div(set(-kHalf), peak);
      sum_lx[p] = sum_l2[p] = zero;
    }
    for (int i = 0; i < kN; ++i)
      for (int p = 0; p < kPair; ++p) {
        const V xi = load(x + i * kLanes + at + p * lanes), w = hn::Mul(xi, xi), l = first_level(of_peak[p], xi);
        sum_lx[p] = hn::Add(sum_lx[p], hn::Mul(hn::Mul(w, xi), l));
        sum_l2[p] = hn::Add(sum_l2[p], hn::Mul(hn::Mul(w, l), l));
      }
    for (int p = 0; p < kPair; ++p) {
      const int place = at + p * lanes;
      const M numbers = hn::Lt(hn::Add(hn::Abs(sum_lx[p]), sum_l2[p]), set(std::numeric_limits<float>::infinity()));
      const M tame = hn::And(hn::Ge(magnitude[p], set(kPrecise)), hn::Lt(magnitude[p], set(kTame)));
      const M dead = hn::Lt(magnitude[p], set(kNothing)), sound = hn::And(numbers, tame);
      // Where the peak is positive all terms of lx are negative, and an element moves only where the others' sum is positive.
      may_move |= bits_of(hn::And(sound, hn::Gt(sum_lx[p], zero))) << place;
      unsound |= bits_of(hn::Not(hn::Or(dead, sound))) << place;
      const OfSums of(sum_lx[p], sum_l2[p]);
      hn::Store(hn::IfThenElseZero(hn::AndNot(dead, hn::Gt(sum_l2[p], zero)), of.scale), df, scale + place);
      hn::Store(of_peak[p], df, first_inverse + place);
      hn::Store(sum_lx[p], df, lx + place);
      hn::Store(sum_l2[p], df, l2 + place);
      hn::Store(of.inverse, df, inverse + place);
      hn::Store(of.share, df, share + place);
    }
  }
};

/// As put_scales_q3_k() of k_blocks.h.
HWY_INLINE void level_scales(const float* scales, MovedScales& out) {
  const Floats df;
  const Ints di;
  const int lanes = static_cast<int>(hn::Lanes(df));
  V most = hn::Zero(df);
  const auto magnitude = [&](int i) HWY_ATTR {
    const V scale = load(scales + i);
    return hn::IfThenElseZero(hn::Eq(scale, scale), hn::Abs(scale));  // NaN is none
  };
  for (int i = 0; i < kN; i += lanes) most = hn::Max(most, magnitude(i));
  most = hn::MaxOfLanes(df, most);
  std::uint32_t extreme = 0;
  for (int i = 0; i < kN; i += lanes) extreme |= bits_of(hn::Eq(magnitude(i), most)) << i;
  const float peak = scales[std::countr_zero(extreme)];  // the first of several
  if (!(std::fabs(peak) > 0)) {
    out = {};
    return;
  }
  const float inverse = -32.0f / peak;
  out.scale = 1 / inverse;
  for (int i = 0; i < kN; i += lanes) {
    const auto sum = hn::BitCast(di, hn::Add(hn::Mul(set(inverse), load(scales + i)), set(kShift)));
    const auto wrapped = hn::ShiftRight<24>(hn::ShiftLeft<24>(sum));
    const auto level = hn::Add(hn::Min(hn::Max(wrapped, hn::Set(di, -32)), hn::Set(di, 31)), hn::Set(di, 32));
    const hn::Rebind<std::uint8_t, Floats> d8;
    hn::StoreU(hn::DemoteTo(d8, level), d8, out.levels + i);
  }
}

void FitByMoves(const float* x, int n_blocks, MovedScales* fitted) {
  const int lanes = static_cast<int>(hn::Lanes(Floats()));
  for (int n_groups = n_blocks * 16; n_groups > 0; n_groups -= kGroups, x += kGroups * kN) {
    const int n = std::min(kGroups, n_groups);
    alignas(64) float scales[kGroups];
    Moves moves(x, scales);
    for (int batch = 0; batch < n; batch += kLanes) {
      const int here = std::min(kLanes, n - batch);
      alignas(64) float turned[kN * kLanes];
      turn_groups(x + batch * kN, kN, here, turned);
      Firsts firsts;
      for (int at = 0; at < kLanes; at += kPair * lanes) firsts.take(turned, at);
      std::copy_n(firsts.scale, here, scales + batch);
      for (; firsts.may_move != 0; firsts.may_move &= firsts.may_move - 1) {
        const int g = std::countr_zero(firsts.may_move);
        moves.add(batch + g, firsts.first_inverse[g], firsts.lx[g], firsts.l2[g], firsts.inverse[g], firsts.share[g]);
      }
      for (; firsts.unsound != 0; firsts.unsound &= firsts.unsound - 1) {
        const int group = batch + std::countr_zero(firsts.unsound);
        std::uint8_t unused[kN];
        scales[group] = fit_by_moves(x + group * kN, unused, kN, kHalf);
      }
    }
    moves.run();
    for (int group = 0; group < n; group += 16) level_scales(scales + group, *fitted++);
  }
}

}  // namespace ropewalk::codecs::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ropewalk::codecs {
HWY_EXPORT(FitByMoves);

void fit_by_moves_lanes(const float* x, int n_blocks, MovedScales* fitted) {
  HWY_DYNAMIC_DISPATCH(FitByMoves)(x, n_blocks, fitted);
}

}  // namespace ropewalk::codecs
#endif
