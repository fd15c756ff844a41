#include "lib/codecs/lane_fits.h"

#include <array>
#include <type_traits>

#include "lib/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lib/codecs/lane_fits.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "lib/codecs/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ropewalk::codecs::HWY_NAMESPACE {

void Turn(const float* x, int n, int n_groups, float* out) { turn_groups(x, n, n_groups, out); }

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

#if HWY_TARGET == HWY_SCALAR
void PackLevels(const std::uint8_t* levels, std::uint8_t* nibbles, std::uint32_t* fifths) {
  for (int group = 0; group < kLanes; ++group) {
    const auto level = [&](int i) { return levels[i * kLanes + group]; };
    for (int i = 0; i < 16; ++i)
      nibbles[16 * group + i] = static_cast<std::uint8_t>((level(i) & 15) | (level(i + 16) & 15) << 4);
    std::uint32_t bits = 0;
    for (int i = 0; i < 32 && fifths != nullptr; ++i) bits |= (level(i) >> 4 & 1u) << i;
    if (fifths != nullptr) fifths[group] = bits;
  }
}
#else
using Bytes16 = hn::FixedTag<std::uint8_t, 16>;
/// 16 levels of 16 groups, turned, in four rounds, each of which interleaves the halves.
HWY_INLINE void turn_bytes(const std::uint8_t* from, hn::Vec<Bytes16>* rows) {
  const Bytes16 d8;
  hn::Vec<Bytes16> next[16];
  for (int r = 0; r < 16; ++r) rows[r] = hn::LoadU(d8, from + r * kLanes);
  for (int round = 0; round < 4; ++round) {
    for (int r = 0; r < 8; ++r) {
      next[2 * r] = hn::InterleaveLower(d8, rows[r], rows[r + 8]);
      next[2 * r + 1] = hn::InterleaveUpper(d8, rows[r], rows[r + 8]);
    }
    std::copy_n(next, 16, rows);
  }
}
HWY_INLINE std::uint32_t fifth_bits(hn::Vec<Bytes16> levels) {
  const Bytes16 d8;
  std::uint8_t bits[8] = {};  // as many as the function may write
  hn::StoreMaskBits(d8, hn::Gt(levels, hn::Set(d8, 15)), bits);
  return static_cast<std::uint32_t>(bits[0] | bits[1] << 8);
}
void PackLevels(const std::uint8_t* levels, std::uint8_t* nibbles, std::uint32_t* fifths) {
  const Bytes16 d8;
  const hn::Repartition<std::uint16_t, Bytes16> d16;
  const auto low_half = hn::Set(d8, 15);
  for (int group = 0; group < kLanes; group += 16) {
    hn::Vec<Bytes16> low[16], high[16];
    turn_bytes(levels + group, low);
    turn_bytes(levels + 16 * kLanes + group, high);
    for (int g = 0; g < 16; ++g) {
      const auto shifted = hn::BitCast(d8, hn::ShiftLeft<4>(hn::BitCast(d16, hn::And(high[g], low_half))));
      hn::StoreU(hn::Or(hn::And(low[g], low_half), shifted), d8, nibbles + 16 * (group + g));
      if (fifths != nullptr) fifths[group + g] = fifth_bits(low[g]) | fifth_bits(high[g]) << 16;
    }
  }
}
#endif

void Square(const float* x, int n, float* squares) {
  const Floats df;
  for (int i = 0; i < n * kLanes; i += static_cast<int>(hn::Lanes(df)))
    hn::StoreU(hn::Mul(load(x + i), load(x + i)), df, squares + i);
}

#if HWY_TARGET == HWY_SCALAR
void SumsOfSquares(const float* x, std::int64_t n, std::int64_t apart, int n_runs, float* sums) {
  for (int run = 0; run < n_runs; ++run) sums[run] = sum_of_squares(x + run * apart, n);
}
#else
/// Of four runs for each of `fours` vectors.
template <int fours>
HWY_INLINE void sums_of_fours(const float* x, std::int64_t n, std::int64_t apart, float* sums) {
  const hn::FixedTag<float, 4> d4;
  hn::Vec<decltype(d4)> all[fours];
  for (auto& sum : all) sum = hn::Zero(d4);
  for (std::int64_t i = 0; i < n; i += 4)
    for (int f = 0; f < fours; ++f)
      for (const auto& element : fours_of(d4, x + 4 * f * apart + i, apart).rows)
        all[f] = hn::Add(all[f], hn::Mul(element, element));
  for (int f = 0; f < fours; ++f) hn::StoreU(all[f], d4, sums + 4 * f);
}
void SumsOfSquares(const float* x, std::int64_t n, std::int64_t apart, int n_runs, float* sums) {
  int run = 0;
  for (; run + 16 <= n_runs; run += 16) sums_of_fours<4>(x + run * apart, n, apart, sums + run);
  for (; run + 8 <= n_runs; run += 8) sums_of_fours<2>(x + run * apart, n, apart, sums + run);
  for (; run + 4 <= n_runs; run += 4) sums_of_fours<1>(x + run * apart, n, apart, sums + run);
  for (; run < n_runs; ++run) sums[run] = sum_of_squares(x + run * apart, n);
}
#endif

constexpr int kPair = 2;  // vectors in flight

/// The groups of two vectors, from column `x`, `w`.
template <bool kAbsolute, bool kLevels>
HWY_INLINE std::uint32_t fit_affine_pair(const float* x, const float* w, int n, const AffineSearch& search,
                                         float* scales, float* mins, std::uint8_t* levels) {
  const Floats df;
  const int lanes = static_cast<int>(hn::Lanes(df));
  HWY_ALIGN float tried[32 * kPair * 16];
  const V zero = hn::Zero(df);
  V low[kPair], high[kPair], sum_w[kPair], sum_x[kPair], scale[kPair], best[kPair], first_low[kPair], lowest_x[kPair],
      kept_inverse[kPair], kept_low[kPair];
  M dead[kPair];
  Largest
      steps[kPair];  // of the elements in steps of a candidate: they lie between those of the smallest and the largest
  const auto x_at = [&](int i, int p) HWY_ATTR { return load(x + i * kLanes + p * lanes); };
  const auto w_at = [&](int i, int p) HWY_ATTR { return load(w + i * kLanes + p * lanes); };
  const auto meet_ends = [&](int p, V inverse) HWY_ATTR {
    steps[p] = larger(steps[p], hn::Mul(inverse, hn::Sub(lowest_x[p], low[p])));
    steps[p] = larger(steps[p], hn::Mul(inverse, hn::Sub(high[p], low[p])));
  };
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
    steps[p] = hn::Zero(Ints());
    low[p] = high[p] = x_at(0, p);
    sum_w[p] = w_at(0, p);
    sum_x[p] = hn::Mul(sum_w[p], low[p]);
  }
  for (int i = 1; i < n; ++i)
    for (int p = 0; p < kPair; ++p) {
      const V xi = x_at(i, p), wi = w_at(i, p);
#if HWY_ARCH_X86
      low[p] = hn::Min(xi, low[p]);  // of equals and of NaN the second, as compared
      high[p] = hn::Max(xi, high[p]);
#else
      low[p] = hn::IfThenElse(hn::Lt(xi, low[p]), xi, low[p]);
      high[p] = hn::IfThenElse(hn::Gt(xi, high[p]), xi, high[p]);
#endif
      sum_w[p] = hn::Add(sum_w[p], wi);
      sum_x[p] = hn::Add(sum_x[p], hn::Mul(wi, xi));
    }
  for (int p = 0; p < kPair; ++p) {
    lowest_x[p] = low[p];
    low[p] = hn::IfThenElse(hn::Gt(low[p], zero), zero, low[p]);
    first_low[p] = kept_low[p] = low[p];
    dead[p] = hn::Le(high[p], low[p]);
    kept_inverse[p] = hn::Div(set(real(search.top)), hn::Sub(high[p], low[p]));  // of the levels in use
    meet_ends(p, kept_inverse[p]);
    for (int i = 0; i < n; ++i)
      hn::StoreU(small_level_of(hn::Mul(kept_inverse[p], hn::Sub(x_at(i, p), low[p])), 0, search.top), df,
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
      meet_ends(p, inverse[p]);
      sum_l[p] = sum_l2[p] = sum_xl[p] = zero;
    }
    for (int i = 0; i < n; ++i)
      for (int p = 0; p < kPair; ++p) {
        const V xi = x_at(i, p), l = small_level_of(hn::Mul(inverse[p], hn::Sub(xi, low[p])), 0, search.top);
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
  std::uint32_t unsound = 0;
  for (int p = 0; p < kPair; ++p) {
    const Largest sums = larger(larger(larger(hn::Zero(Ints()), sum_x[p]), scale[p]), low[p]);
    const M no_number = reaches(sums, std::numeric_limits<float>::infinity());
    const M too_large = hn::Or(reaches(steps[p], kSmall), no_number);  // a sum is no number if an element is none
    unsound |= bits_of(hn::AndNot(dead[p], too_large)) << p * lanes;
    hn::StoreU(hn::IfThenElse(dead[p], zero, scale[p]), df, scales + p * lanes);
    hn::StoreU(hn::Neg(hn::IfThenElse(dead[p], first_low[p], low[p])), df, mins + p * lanes);
    for (int i = 0; i < n && kLevels; ++i) {
      const V level = small_level_of(hn::Mul(kept_inverse[p], hn::Sub(x_at(i, p), kept_low[p])), 0, search.top);
      store_levels(hn::IfThenElse(dead[p], zero, level), levels + i * kLanes + p * lanes);
    }
  }
  return unsound;
}

std::uint32_t FitAffine(const LaneGroups& groups, const AffineSearch& search, float* scales, float* mins,
                        std::uint8_t* levels) {
  const int step = kPair * static_cast<int>(hn::Lanes(Floats()));
  std::uint32_t unsound = 0;
  for (int first = 0; first < kLanes; first += step) {
    const float *x = groups.x + first, *w = groups.weights + first;
    float *to_scales = scales + first, *to_mins = mins + first;
    unsound |=
        (search.absolute     ? fit_affine_pair<true, false>(x, w, groups.n, search, to_scales, to_mins, nullptr)
         : levels == nullptr ? fit_affine_pair<false, false>(x, w, groups.n, search, to_scales, to_mins, nullptr)
                             : fit_affine_pair<false, true>(x, w, groups.n, search, to_scales, to_mins, levels + first))
        << first;
  }
  return unsound;
}

/// x held between bounds at which all candidates of up to half + `most` steps, and of 0.9 less at least, round to -half and
/// half - 1: those and no levels past them come of what lies beyond. Where `most` is 0 nothing lies beyond on peak's side.
HWY_INLINE void hold(const float* x, int n, int half, V peak, float most, float* held) {
  const float of_most = 1 / (real(half) + most);
  const V same = hn::Mul(peak, set((real(half) + 0.499f) * of_most)),
          other = hn::Mul(peak, set((0.501f - real(half)) * of_most)), low = hn::Min(same, other),
          high = hn::Max(same, other);
  for (int i = 0; i < n; ++i)
    hn::Store(hn::Min(hn::Max(load(x + i * kLanes), low), high), Floats(), held + i * hn::Lanes(Floats()));
}

template <bool kLevels>
HWY_INLINE std::uint32_t fit_symmetric_vector(const float* x, const float* w, int n, int half, float* scales,
                                              std::uint8_t* levels) {
  const Floats df;
  const int lanes = static_cast<int>(hn::Lanes(df));
  const V zero = hn::Zero(df), peak = peak_of(x, n);
  const M dead = hn::Lt(hn::Abs(peak), set(kNothing));
  HWY_ALIGN float held[32 * 16], wx[32 * 16];
  for (int i = 0; i < n; ++i) hn::Store(hn::Mul(load(w + i * kLanes), load(x + i * kLanes)), df, wx + i * lanes);
  V kept_inverse = zero, scale = zero, best = zero;  // of the levels in use
  /// `count` candidates of whole and step, step + 1 .. tenths levels
  const auto try_steps = [&]<int count>(std::integral_constant<int, count>, int step) HWY_ATTR {
    V inverse[count], lx[count], l2[count];
    for (int j = 0; j < count; ++j) {
      inverse[j] = hn::Div(set(-(real(half) + 0.1f * real(step + j))), peak);
      lx[j] = l2[j] = zero;
    }
    for (int i = 0; i < n; ++i) {
      const V xi = hn::Load(df, held + i * lanes), wxi = hn::Load(df, wx + i * lanes), wi = load(w + i * kLanes);
      for (int j = 0; j < count; ++j) {
        const V l = hn::Sub(hn::Add(hn::Mul(inverse[j], xi), set(kShift)), set(kShift));
        lx[j] = hn::Add(lx[j], hn::Mul(wxi, l));
        l2[j] = hn::Add(l2[j], hn::Mul(hn::Mul(wi, l), l));
      }
    }
    for (int j = 0; j < count; ++j) {
      const bool first = count == 1;
      const M better = first ? hn::Not(hn::Eq(l2[j], zero))  // NaN, too
                             : hn::And(hn::Gt(l2[j], zero), hn::Gt(hn::Mul(lx[j], lx[j]), hn::Mul(best, l2[j])));
      kept_inverse = first ? inverse[j] : hn::IfThenElse(better, inverse[j], kept_inverse);
      // Not only of the better ones: a division must not wait for what is better, nor the next comparison for a division.
      const V of_sums = hn::Div(lx[j], l2[j]);
      scale = hn::IfThenElse(better, of_sums, scale);
      best = first ? hn::Mul(scale, lx[j]) : hn::IfThenElse(better, hn::Mul(of_sums, lx[j]), best);
    }
  };
  const std::integral_constant<int, 1> one;
  const std::integral_constant<int, 3> three;
  hold(x, n, half, peak, 0, held);
  try_steps(one, 0);
  for (int step = -9; step < 0; step += 3) try_steps(three, step);
  hold(x, n, half, peak, 0.9f, held);
  for (int step = 1; step < 10; step += 3) try_steps(three, step);
  hn::StoreU(hn::IfThenElse(dead, zero, scale), df, scales);
  for (int i = 0; i < n && kLevels; ++i) {
    const V found = small_level_of(hn::Mul(kept_inverse, load(x + i * kLanes)), -half, half - 1);
    store_levels(hn::IfThenElse(dead, zero, hn::Add(found, set(real(half)))), levels + i * kLanes);
  }
  // Steps are half + 1 at most, of finite elements; others make the first sums, and the scale, infinite or no number. A NaN
  // has a sign, too, which the order of factors decides.
  return bits_of(reaches(larger(hn::Zero(Ints()), scale), std::numeric_limits<float>::infinity()));
}

std::uint32_t FitSymmetric(const LaneGroups& groups, int half, float* scales, std::uint8_t* levels) {
  const int lanes = static_cast<int>(hn::Lanes(Floats()));
  std::uint32_t unsound = 0;
  for (int first = 0; first < kLanes; first += lanes) {
    const float *x = groups.x + first, *w = groups.weights + first;
    unsound |= (levels == nullptr ? fit_symmetric_vector<false>(x, w, groups.n, half, scales + first, nullptr)
                                  : fit_symmetric_vector<true>(x, w, groups.n, half, scales + first, levels + first))
               << first;
  }
  return unsound;
}

#if HWY_TARGET == HWY_SCALAR
void TakeLevels(const float* x, const StoredScales& scales, int n, int low, int high, std::uint8_t* levels) {
  for (int i = 0; i < 256; ++i) {
    const V d = set(scales.d[i / n]);
    store_levels(hn::Sub(level_of(hn::Div(hn::Add(load(x + i), set(scales.m[i / n])), d), low, high), set(real(low))),
                 levels + i);
  }
}
#else
/// Where the dwords of vectors stand that were narrowed block by block, four into one.
constexpr auto kBlockOrder = [] {
  std::array<std::int32_t, 16> order = {};
  constexpr int kBlocks = static_cast<int>(hn::MaxLanes(Floats())) / 4;
  for (int i = 0; i < 4 * kBlocks; ++i) order[static_cast<std::size_t>(i)] = 4 * (i % kBlocks) + i / kBlocks;
  return order;
}();

/// Of the quotients x / d, by d's inverse, which is off by 2^-22 of them at most: the sum with 768.5 has 14 bits behind the
/// point and 256 more than the level in front, if it is from 512 to 1024. That decides all but what is within 1.5 of those
/// bits from a midpoint, or outside. Four vectors at once.
void TakeLevels(const float* x, const StoredScales& scales, int n, int low, int high, std::uint8_t* levels) {
  const Floats df;
  const Ints di;
  const hn::Repartition<std::int16_t, Floats> d16;
  const hn::Repartition<std::uint8_t, Floats> d8;
  const int lanes = static_cast<int>(hn::Lanes(df)), shift_n = n == 16 ? 4 : 5;  // groups are of 16 or 32
  HWY_ALIGN static constexpr std::uint8_t kInBlock[16] = {0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15};
  const auto in_block = hn::LoadDup128(d8, kInBlock);
  const auto in_order = hn::SetTableIndices(di, kBlockOrder.data());
  HWY_ALIGN float inverses[16];
  for (int group = 0; group < 16; group += lanes)  // of groups of 32 the second half is of no meaning
    hn::Store(hn::Div(set(1), hn::Load(df, scales.d + group)), df, inverses + group);
  constexpr int kPoint = 14, kUnsure = 2, kOffset = 256, kRange = 2 * kOffset - 1;
  const auto base = hn::Set(di, std::bit_cast<int>(2.0f * kOffset) - kUnsure), behind = hn::Set(di, (1 << kPoint) - 1),
             outside = hn::Set(di, ~(kRange | kRange << 16));
  const auto lowest = hn::Set(d16, static_cast<std::int16_t>(kOffset + low)),
             highest = hn::Set(d16, static_cast<std::int16_t>(kOffset + high));
  for (int at = 0; at < 256; at += 4 * lanes) {
    hn::Vec<Ints> found[4], fraction = behind;  // the smallest of four
    for (int v = 0; v < 4; ++v) {
      const int i = at + v * lanes, group = i >> shift_n;
      const V q = hn::Mul(hn::Add(load(x + i), set(scales.m[group])), set(inverses[group]));
      const auto fixed = hn::Sub(hn::BitCast(di, hn::Add(q, set(3 * kOffset + 0.5f))), base);
      fraction = hn::Min(fraction, hn::And(fixed, behind));
      found[v] = hn::ShiftRight<kPoint>(fixed);
    }
    auto even = hn::ReorderDemote2To(d16, found[0], found[1]), odd = hn::ReorderDemote2To(d16, found[2], found[3]);
    const auto inside = hn::Eq(hn::And(hn::BitCast(di, hn::Or(even, odd)), outside), hn::Zero(di)),
               sure = hn::Gt(fraction, hn::Set(di, 2 * kUnsure - 1));
    if (HWY_UNLIKELY(!hn::AllTrue(di, hn::And(inside, sure)))) {
      for (int v = 0; v < 4; ++v) {
        const int i = at + v * lanes, group = i >> shift_n;
        const V q = hn::Div(hn::Add(load(x + i), set(scales.m[group])), set(scales.d[group]));
        found[v] = hn::Add(level_bits(q, low, high), hn::Set(di, kOffset));
      }
      even = hn::ReorderDemote2To(d16, found[0], found[1]);
      odd = hn::ReorderDemote2To(d16, found[2], found[3]);
    }
    // Words of the first two vectors and of the last two, block by block, are the even bytes and the odd ones.
    const auto limited = [&](auto words) HWY_ATTR { return hn::Sub(hn::Min(hn::Max(words, lowest), highest), lowest); };
    const auto both = hn::Or(limited(even), hn::ShiftLeft<8>(limited(odd)));
    const auto blocks = hn::BitCast(di, hn::TableLookupBytes(hn::BitCast(d8, both), in_block));
    hn::StoreU(hn::BitCast(d8, hn::TableLookupLanes(blocks, in_order)), d8, levels + at);
  }
}
#endif

}  // namespace ropewalk::codecs::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ropewalk::codecs {
HWY_EXPORT(Turn);
HWY_EXPORT(Weigh);
HWY_EXPORT(WeighPlain);
HWY_EXPORT(FitAffine);
HWY_EXPORT(FitSymmetric);
HWY_EXPORT(TakeLevels);
HWY_EXPORT(Square);
HWY_EXPORT(SumsOfSquares);
HWY_EXPORT(PackLevels);

void turn(const float* x, int n, int n_groups, float* out) { HWY_DYNAMIC_DISPATCH(Turn)(x, n, n_groups, out); }
void weigh_lanes(const float* x, const float* importances, const float* spreads, int n, float* weights, float* sums) {
  HWY_DYNAMIC_DISPATCH(Weigh)(x, importances, spreads, n, weights, sums);
}
void weigh_lanes(const float* x, int n, bool mean, float* weights) {
  HWY_DYNAMIC_DISPATCH(WeighPlain)(x, n, mean, weights);
}
std::uint32_t fit_affine_lanes(const LaneGroups& groups, const AffineSearch& search, float* scales, float* mins,
                               std::uint8_t* levels) {
  return HWY_DYNAMIC_DISPATCH(FitAffine)(groups, search, scales, mins, levels);
}
std::uint32_t fit_symmetric_lanes(const LaneGroups& groups, int half, float* scales, std::uint8_t* levels) {
  return HWY_DYNAMIC_DISPATCH(FitSymmetric)(groups, half, scales, levels);
}
void pack_levels(const std::uint8_t* levels, std::uint8_t* nibbles, std::uint32_t* fifths) {
  HWY_DYNAMIC_DISPATCH(PackLevels)(levels, nibbles, fifths);
}
void square_lanes(const float* x, int n, float* squares) { HWY_DYNAMIC_DISPATCH(Square)(x, n, squares); }
void sums_of_squares(const float* x, std::int64_t n, std::int64_t apart, int n_runs, float* sums) {
  HWY_DYNAMIC_DISPATCH(SumsOfSquares)(x, n, apart, n_runs, sums);
}
void take_levels(const float* x, const StoredScales& scales, int n, int low, int high, std::uint8_t* levels) {
  HWY_DYNAMIC_DISPATCH(TakeLevels)(x, scales, n, low, high, levels);
}

}  // namespace ropewalk::codecs
#endif
