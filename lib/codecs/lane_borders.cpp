#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "lib/codecs/iq1_borders.h"
#include "lib/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lib/codecs/lane_borders.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "lib/codecs/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ropewalk::codecs::HWY_NAMESPACE {

#if HWY_TARGET == HWY_SCALAR

void Order(const float* x, int n, int* order) { ascending(x, n, order); }
Iq1Borders Iq1S(const Iq1SSums& sums) { return iq1_s_borders(sums); }
Iq1Borders Iq1M(const Iq1MSums& sums) { return iq1_m_borders(sums); }

#else

/// An element's place is the number of those below it, and of equal ones before it.
void Order(const float* x, int n, int* order) {
  const Floats df;
  const Ints di;
  const int lanes = static_cast<int>(hn::Lanes(df));
  for (int first = 0; first < n; first += lanes) {
    const V mine = load(x + first);
    const auto places = hn::Iota(di, first);
    auto place = hn::Zero(di);  // less: a true lane is -1
    for (int i = 0; i < n; ++i) {
      const V other = set(x[i]);
      const M before = hn::RebindMask(df, hn::Gt(places, hn::Set(di, i)));
      const M below = hn::Or(hn::Lt(other, mine), hn::And(before, hn::Eq(other, mine)));
      place = hn::Add(place, hn::VecFromMask(di, hn::RebindMask(di, below)));
    }
    HWY_ALIGN std::int32_t found[16];
    hn::Store(hn::Neg(place), di, found);
    for (int i = 0; i < lanes; ++i) order[found[i]] = first + i;
  }
}

struct Sums {
  V qx, q2;
};
HWY_INLINE std::uint32_t better_of(const Sums& s, float best) {
  const M better = hn::And(hn::Gt(s.q2, hn::Zero(Floats())), hn::Gt(hn::Mul(s.qx, s.qx), hn::Mul(set(best), s.q2)));
  return hn::AllFalse(Floats(), better) ? 0 : bits_of(better);
}

/// qx^2 / q2, off by 2^-11 at most; 0 where q2 is not positive.
HWY_INLINE V score_of(const Sums& s) {
  const V square = hn::Mul(s.qx, s.qx);
#if HWY_ARCH_X86
  const V score = hn::Mul(square, hn::ApproximateReciprocal(s.q2));
#else
  const V score = hn::Div(square, s.q2);
#endif
  return hn::IfThenElseZero(hn::Gt(s.q2, hn::Zero(Floats())), score);
}

/// The best pair of borders (a, b), a <= b <= n, and its shifts, pair = b * shifts + shift: sums_of(a, pair) are those of
/// pairs in lanes from there on. One after the other they are held against the best, which is rounded, up or down.
/// `ordinary`: all sums are far from what floats cannot hold. Then scores are looked over first, and only what comes near
/// the highest, by 2^-9, is asked in order. That ends in the same pair: 1122 roundings of the best, of 5 * 2^-24 each,
/// cannot make up for as much, so whichever pair below was the best, the first that is high enough replaces it.
template <int shifts, class SumsOf>
HWY_INLINE Iq1Borders best_of(int n, bool ordinary, const SumsOf& sums_of) {
  const Floats df;
  const int lanes = static_cast<int>(hn::Lanes(df)), n_pairs = (n + 1) * shifts;
  HWY_ALIGN float scores[33 * 16 + 33 * 34];  // 2 * (33 + 32 + ..), and a vector over for each
  float best = -std::numeric_limits<float>::max();
  if (ordinary) {
    V most = hn::Zero(df);
    float* to = scores;
    for (int a = 0; a <= n; ++a)
      for (int pair = a * shifts; pair < n_pairs; pair += lanes, to += lanes) {
        const V score = score_of(sums_of(a, pair));
        hn::Store(score, df, to);
        most = hn::Max(most, score);
      }
    const float highest = hn::GetLane(hn::MaxOfLanes(df, most));
    ordinary = highest > 1e-12f && highest < 1e12f;
    if (ordinary) best = highest * (1 - 0x1p-8f);
  }
  const V enough = set(best * (1 - 0x1p-10f));
  Iq1Borders borders{0, -1, -1, 0};
  const float* score = scores;
  for (int a = 0; a <= n; ++a)
    for (int pair = a * shifts; pair < n_pairs; pair += lanes, score += lanes) {
      if (ordinary && HWY_LIKELY(hn::AllFalse(df, hn::Ge(hn::Load(df, score), enough)))) continue;
      const Sums s = sums_of(a, pair);
      std::uint32_t better = better_of(s, best);
      if (better == 0) continue;
      HWY_ALIGN float qx[16], q2[16];
      hn::Store(s.qx, df, qx);
      hn::Store(s.q2, df, q2);
      while (better != 0) {  // what comes behind is held against the new best
        const int lane = std::countr_zero(better);
        const float scale = qx[lane] / q2[lane];
        best = scale * qx[lane];
        borders = {scale, a, (pair + lane) / shifts, (pair + lane) % shifts};
        better = better_of(s, best) & ~((2u << lane) - 1);
      }
    }
  return borders;
}

HWY_INLINE bool is_ordinary(float sum_x, float sum_w) {
  return sum_w > 1e-15f && sum_w < 1e15f && std::fabs(sum_x) < 1e15f;  // of NaN false
}

/// Lanes behind the last pair: no sum of squares of theirs is a number.
constexpr float kNone = std::numeric_limits<float>::quiet_NaN();
constexpr int kOver = 16;

Iq1Borders Iq1S(const Iq1SSums& sums) {
  constexpr int n = Iq1SSums::kElements, kPairs = 2 * (n + 1);
  const Floats df;
  // of every second border, for both shifts: the sums, and what stands behind it
  HWY_ALIGN float x[kPairs + kOver], w[kPairs + kOver], last_x[kPairs + kOver], last_w[kPairs + kOver], middle[16];
  std::fill_n(x + kPairs, kOver, 0.0f);
  std::fill_n(w + kPairs, kOver, 0.0f);
  std::fill_n(last_x + kPairs, kOver, 0.0f);
  std::fill_n(last_w + kPairs, kOver, kNone);
  const Iq1Levels* const levels[2] = {&kIq1Up, &kIq1Down};
  for (int i = 0; i < 16; ++i) middle[i] = (*levels[i % 2])[1];
  for (int pair = 0; pair < kPairs; ++pair) {
    const float l = (*levels[pair % 2])[2];
    x[pair] = sums.x[pair / 2];
    w[pair] = sums.w[pair / 2];
    last_x[pair] = (sums.x[n] - sums.x[pair / 2]) * l;
    last_w[pair] = (sums.w[n] - sums.w[pair / 2]) * l * l;
  }
  const V l1 = hn::Load(df, middle);
  HWY_ALIGN float first[16];
  for (int i = 0; i < 16; ++i) first[i] = (*levels[i % 2])[0];
  const V l0 = hn::Load(df, first);
  const auto sums_of = [&](int a, int pair) HWY_ATTR {
    const V x_a = set(sums.x[a]), w_a = set(sums.w[a]);
    const V first_x = hn::Mul(hn::Sub(x_a, set(sums.x[0])), l0),
            first_w = hn::Mul(hn::Mul(hn::Sub(w_a, set(sums.w[0])), l0), l0);
    const V middle_x = hn::Mul(hn::Sub(load(x + pair), x_a), l1),
            middle_w = hn::Mul(hn::Mul(hn::Sub(load(w + pair), w_a), l1), l1);
    return Sums{hn::Add(hn::Add(first_x, middle_x), load(last_x + pair)),
                hn::Add(hn::Add(first_w, middle_w), load(last_w + pair))};
  };
  return best_of<2>(n, is_ordinary(sums.x[n], sums.w[n]), sums_of);
}

/// Of a half's levels for each of the four shifts, four times over: the last, and from one run to the next the step of their
/// squares.
struct Iq1MSteps {
  alignas(64) float last[16], first_step[16], second_step[16];
};
constexpr Iq1MSteps steps_of(int half) {
  Iq1MSteps steps = {};
  for (int i = 0; i < 16; ++i) {
    const Iq1Levels& l = (i % 4 >> (1 - half) & 1) == 0 ? kIq1Up : kIq1Down;
    steps.last[i] = l[2];
    steps.first_step[i] = l[0] * l[0] - l[1] * l[1];
    steps.second_step[i] = l[1] * l[1] - l[2] * l[2];
  }
  return steps;
}
constexpr Iq1MSteps kIq1MSteps[2] = {steps_of(0), steps_of(1)};

Iq1Borders Iq1M(const Iq1MSums& sums) {
  constexpr int n = Iq1MSums::kElements, kPairs = 4 * (n + 1);
  const Floats df;
  const hn::FixedTag<float, 4> d4;
  // of each half: its sums at every fourth border, and what the second border and the whole come to
  HWY_ALIGN float x[2][kPairs + kOver], second_w[2][kPairs + kOver], whole_x[2][16], whole_w[2][16];
  for (int half = 0; half < 2; ++half) {
    const Iq1MSteps& steps = kIq1MSteps[half];
    const auto last = hn::Load(d4, steps.last), second_step = hn::Load(d4, steps.second_step);
    const auto all_x = hn::Mul(hn::Set(d4, sums.x[half][n]), last),
               all_w = hn::Mul(hn::Mul(hn::Set(d4, sums.w[half][n]), last), last);
    for (int i = 0; i < 16; i += 4) {
      hn::Store(all_x, d4, whole_x[half] + i);
      hn::Store(all_w, d4, whole_w[half] + i);
      hn::Store(hn::Zero(d4), d4, x[half] + kPairs + i);
      hn::Store(hn::Set(d4, kNone), d4, second_w[half] + kPairs + i);
    }
    for (int border = 0; border <= n; ++border) {
      hn::Store(hn::Set(d4, sums.x[half][border]), d4, x[half] + 4 * border);
      hn::Store(hn::Mul(hn::Set(d4, sums.w[half][border]), second_step), d4, second_w[half] + 4 * border);
    }
  }
  const auto sums_of = [&](int a, int pair) HWY_ATTR {
    V qx[2], q2[2];
    for (int half = 0; half < 2; ++half) {
      qx[half] = hn::Sub(hn::Load(df, whole_x[half]), hn::Add(set(sums.x[half][a]), load(x[half] + pair)));
      q2[half] = hn::Add(hn::Add(hn::Load(df, whole_w[half]),
                                 hn::Mul(set(sums.w[half][a]), hn::Load(df, kIq1MSteps[half].first_step))),
                         load(second_w[half] + pair));
    }
    return Sums{hn::Add(qx[0], qx[1]), hn::Add(q2[0], q2[1])};
  };
  return best_of<4>(n, is_ordinary(sums.x[0][n] + sums.x[1][n], sums.w[0][n] + sums.w[1][n]), sums_of);
}

#endif

}  // namespace ropewalk::codecs::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ropewalk::codecs {
HWY_EXPORT(Order);
HWY_EXPORT(Iq1S);
HWY_EXPORT(Iq1M);

void ascending_lanes(const float* x, int n, int* order) {
  if (std::any_of(x, x + n, [](float value) { return std::isnan(value); })) return ascending(x, n, order);
  HWY_DYNAMIC_DISPATCH(Order)(x, n, order);
}
Iq1Borders iq1_s_borders_lanes(const Iq1SSums& sums) { return HWY_DYNAMIC_DISPATCH(Iq1S)(sums); }
Iq1Borders iq1_m_borders_lanes(const Iq1MSums& sums) { return HWY_DYNAMIC_DISPATCH(Iq1M)(sums); }

}  // namespace ropewalk::codecs
#endif
