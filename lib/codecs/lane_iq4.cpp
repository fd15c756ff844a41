#include <algorithm>

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

// The nearest level of x: where the search of nearest_level() ends is the number of midpoints between levels that x is not
// below (differences near a midpoint are exact).
#if HWY_TARGET == HWY_SCALAR
int nearest_iq4_index(float twice_x) {
  int index = 15;  // also of NaN
  for (int j = 0; j < 15; ++j) index -= twice_x < real(kIq4Levels[j] + kIq4Levels[j + 1]) ? 1 : 0;
  return index;
}
HWY_INLINE void nearest_iq4_values(const V* twice_x, V* values) {
  for (int k = 0; k < 4; ++k) values[k] = set(real(kIq4Levels[nearest_iq4_index(hn::GetLane(twice_x[k]))]));
}
HWY_INLINE void nearest_iq4_indices(const V* twice_x, hn::Vec<Ints>* indices) {
  for (int k = 0; k < 4; ++k) indices[k] = hn::Set(Ints(), nearest_iq4_index(hn::GetLane(twice_x[k])));
}
#else
// Midpoints are halves, so floor(2 x) says where x is. 2 x + kLowest is cut in sixteen steps of 32, none of which has a
// midpoint inside but one: levels below and above it, and where in its step it is, are bytes and looked up as such, those of
// four vectors at once.
constexpr int kLowest = 274,
              kHighest = 236;  // of 2 x; candidates' x are within 135, and a level is the last from 101 on
struct Iq4Steps {
  struct Sides {
    std::int8_t below[16], above[16];
  };
  std::int8_t part[16];
  Sides indices, levels;
  constexpr Iq4Steps() : part(), indices(), levels() {
    for (int step = 0; step < 16; ++step) {
      const auto index_at = [step](int at) {
        int index = 0;
        while (index < 15 && 32 * step + at - kLowest >= kIq4Levels[index] + kIq4Levels[index + 1]) ++index;
        return static_cast<std::int8_t>(index);
      };
      while (part[step] < 32 && index_at(part[step]) == index_at(0)) ++part[step];
      indices.below[step] = index_at(0);
      indices.above[step] = index_at(31);
      levels.below[step] = kIq4Levels[index_at(0)];
      levels.above[step] = kIq4Levels[index_at(31)];
    }
  }
};
HWY_ALIGN constexpr Iq4Steps kIq4Steps;

/// The bytes of four vectors of 2 x >= 2 - kLowest: bytes 0, 2, 1 and 3 of every four are of vector 0, 1, 2 and 3.
HWY_INLINE hn::Vec<Ints> look_up_four(const V* twice_x, const Iq4Steps::Sides& sides) {
  const Ints di;
  const hn::Repartition<std::uint16_t, Floats> d16;
  const hn::Repartition<std::int8_t, Floats> d8;
  const auto whole = [&](int k) HWY_ATTR {  // NaN is the top; the sum with 2^23 has the whole number in its last bits
    const V limited = hn::Min(twice_x[k], set(kHighest));
    return hn::BitCast(d16, hn::Add(hn::Floor(limited), set(0x1p23f + kLowest)));
  };
  const auto two = [&](int k) HWY_ATTR {  // in every second 16 bits each
    return hn::OddEven(hn::BitCast(d16, hn::ShiftLeft<16>(hn::BitCast(di, whole(k + 1)))), whole(k));
  };
  const auto a = two(0), b = two(2), in_step = hn::Set(d16, 31);
  const auto both = [&](auto low, auto high) HWY_ATTR { return hn::BitCast(d8, hn::Or(low, hn::ShiftLeft<8>(high))); };
  const auto step = both(hn::ShiftRight<5>(a), hn::ShiftRight<5>(b)),
             place = both(hn::And(a, in_step), hn::And(b, in_step));
  const auto of_step = [&](const std::int8_t* table)
                           HWY_ATTR { return hn::TableLookupBytes(hn::LoadDup128(d8, table), step); };
  return hn::BitCast(
      di, hn::IfThenElse(hn::Lt(place, of_step(kIq4Steps.part)), of_step(sides.below), of_step(sides.above)));
}
HWY_INLINE void nearest_iq4_values(const V* twice_x, V* values) {
  const Floats df;
  const auto levels = look_up_four(twice_x, kIq4Steps.levels);
  values[0] = hn::ConvertTo(df, hn::ShiftRight<24>(hn::ShiftLeft<24>(levels)));
  values[1] = hn::ConvertTo(df, hn::ShiftRight<24>(hn::ShiftLeft<8>(levels)));
  values[2] = hn::ConvertTo(df, hn::ShiftRight<24>(hn::ShiftLeft<16>(levels)));
  values[3] = hn::ConvertTo(df, hn::ShiftRight<24>(levels));
}
HWY_INLINE void nearest_iq4_indices(const V* twice_x, hn::Vec<Ints>* indices) {
  V limited[4];
  for (int k = 0; k < 4; ++k)  // of NaN the top, whichever an instruction makes of two
    limited[k] = hn::IfThenElse(hn::Lt(twice_x[k], set(2 - kLowest)), set(2 - kLowest), twice_x[k]);
  const auto all = look_up_four(limited, kIq4Steps.indices), low = hn::Set(Ints(), 15);
  indices[0] = hn::And(all, low);
  indices[1] = hn::And(hn::ShiftRight<16>(all), low);
  indices[2] = hn::And(hn::ShiftRight<8>(all), low);
  indices[3] = hn::ShiftRight<24>(all);
}
#endif

/// measure() of lanes-inl.h for two candidates, two elements at a time; n is even.
HWY_INLINE void measure_iq4(const float* x, const float* w, int n, const V* inverse, V* lx, V* l2) {
  const V two = set(2), twice[2] = {hn::Mul(two, inverse[0]), hn::Mul(two, inverse[1])};
  for (int j = 0; j < 2; ++j) lx[j] = l2[j] = hn::Zero(Floats());
  for (int i = 0; i < n; i += 2) {
    V at[4], level[4];
    for (int k = 0; k < 4; ++k) at[k] = hn::Mul(twice[k % 2], load(x + (i + k / 2) * kLanes));
    nearest_iq4_values(at, level);
    for (int k = 0; k < 4; ++k) {
      const V l = level[k], wl = hn::Mul(load(w + (i + k / 2) * kLanes), l);
      lx[k % 2] = hn::Add(lx[k % 2], hn::Mul(wl, load(x + (i + k / 2) * kLanes)));
      l2[k % 2] = hn::Add(l2[k % 2], hn::Mul(wl, l));
    }
  }
}

HWY_INLINE void fit_iq4_vector(const float* x, const float* w, int n, float* scales) {
  const Floats df;
  Largest unused = hn::Zero(Ints());
  const V zero = hn::Zero(df), peak = extreme_of(x, n, unused), lowest = set(real(kIq4Levels[0]));
  const M dead = hn::Lt(hn::Abs(peak), set(kNothing));
  V scale = zero, best = zero;
  for (int k = -8; k <= 6; k += 2) {  // -8 stands for the first, which is taken as it is
    V inverse[2];
    for (int j = 0; j < 2; ++j)
      inverse[j] = k + j == -8 ? hn::Div(set(1), hn::Div(hn::Neg(peak), lowest))
                               : hn::Div(set(real(k + j + kIq4Levels[0])), peak);
    V qx[2], q2[2];
    measure_iq4(x, w, n, inverse, qx, q2);
    for (int j = 0; j < 2; ++j) {
      const V quotient = hn::Div(qx[j], q2[j]);
      const M sound = hn::Gt(q2[j], zero);
      const M better = k + j == -8 ? sound : hn::And(sound, hn::Gt(hn::Mul(qx[j], qx[j]), hn::Mul(best, q2[j])));
      scale = hn::IfThenElse(better, quotient, scale);
      best = k + j == -8 ? hn::Mul(scale, qx[j]) : hn::IfThenElse(better, hn::Mul(scale, qx[j]), best);
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
  const hn::Rebind<std::uint8_t, Floats> d8;
  const int lanes = static_cast<int>(hn::Lanes(df));
  for (int i = 0; i < n; i += 4 * lanes) {
    V twice_x[4];
    hn::Vec<Ints> indices[4];
    for (int k = 0; k < 4; ++k) {
      const V xi = hn::Mul(load(x + std::min(i + k * lanes, n - lanes)), set(inverse));
      twice_x[k] = hn::Add(xi, xi);
    }
    nearest_iq4_indices(twice_x, indices);
    for (int k = 0; k < 4 && i + k * lanes < n; ++k)
      hn::StoreU(hn::DemoteTo(d8, indices[k]), d8, levels + i + k * lanes);
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
