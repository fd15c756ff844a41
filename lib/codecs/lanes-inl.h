// Vectors whose lanes are groups, and what the searches over them share, for the target that is being compiled: included
// once for each (Highway's foreach_target), after <hwy/highway.h>.
#if defined(ROPEWALK_LANES_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef ROPEWALK_LANES_INL_H
#undef ROPEWALK_LANES_INL_H
#else
#define ROPEWALK_LANES_INL_H
#endif

#include <bit>
#include <cstring>
#include <limits>

#include "lib/codecs/lane_fits.h"

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

/// nearest() of fits.h, limited.
HWY_INLINE hn::Vec<Ints> level_bits(V x, int low, int high) {
  const Ints di;
  const auto bits = hn::And(hn::BitCast(di, hn::Add(x, set(kShift))), hn::Set(di, 0x7fffff));
  const auto limited =
      hn::Min(hn::Max(bits, hn::Set(di, 0x400000 + low)), hn::Set(di, 0x400000 + high));  // still offset
  return hn::Sub(limited, hn::Set(di, 0x400000));
}
/// The same as floats.
HWY_INLINE V level_of(V x, int low, int high) { return hn::ConvertTo(Floats(), level_bits(x, low, high)); }
/// How far x, of less than 2^22, is from the nearest whole number.
HWY_INLINE V off_whole(V x) { return hn::Abs(hn::Sub(x, hn::Sub(hn::Add(x, set(kShift)), set(kShift)))); }

/// Where small_level_of() is level_of().
constexpr float kSmall = 0x1p22f;
/// The same of what is known to be below 2^22 in magnitude: there the sum with 1.5 * 2^23 orders as its bits do, and what
/// is added comes off again exactly.
constexpr int kOffsetBits = std::bit_cast<int>(kShift);
HWY_INLINE V small_level_of(V x, int low, int high) {
  const Ints di;
  const auto bits = hn::BitCast(di, hn::Add(x, set(kShift)));
  const auto limited = hn::Min(hn::Max(bits, hn::Set(di, kOffsetBits + low)), hn::Set(di, kOffsetBits + high));
  return hn::Sub(hn::BitCast(Floats(), limited), set(kShift));
}

/// The largest magnitude met in each lane, as bits: they order as magnitudes do, infinity and then NaN above all.
using Largest = hn::Vec<Ints>;
HWY_INLINE Largest larger(Largest largest, V x) { return hn::Max(largest, hn::BitCast(Ints(), hn::Abs(x))); }
HWY_INLINE M reaches(Largest largest, float bound) {
  return hn::RebindMask(Floats(), hn::Gt(largest, hn::Set(Ints(), std::bit_cast<int>(bound) - 1)));
}

/// Lanes as bits, the first lowest.
HWY_INLINE std::uint32_t bits_of(M mask) {
  std::uint8_t bytes[8] = {};  // as many as the function may write
  hn::StoreMaskBits(Floats(), mask, bytes);
  if (hn::MaxLanes(Floats()) <= 8) return bytes[0];
  std::uint16_t bits;  // not byte by byte, of which compilers make no one load
  std::memcpy(&bits, bytes, 2);
  return bits;
}

/// One element's levels, all lanes.
HWY_INLINE void store_levels(V levels, std::uint8_t* out) {
  const hn::Rebind<std::uint8_t, Floats> d8;
  hn::StoreU(hn::DemoteTo(d8, hn::ConvertTo(Ints(), levels)), d8, out);
}

#if HWY_TARGET != HWY_SCALAR
/// Four elements of as many groups as lanes, which begin `apart` elements from one another: element i of all in rows[i].
template <class D>
struct Fours {
  hn::Vec<D> rows[4];
};
/// Four elements of every fourth group.
template <class D>
HWY_INLINE hn::Vec<D> every_fourth(D d, const float* x, std::int64_t apart) {
  if constexpr (hn::MaxLanes(d) == 4) {
    (void)apart;
    return hn::LoadU(d, x);
  } else {
    const hn::Half<D> half;
    const auto low = every_fourth(half, x, apart),
               high = every_fourth(half, x + static_cast<std::int64_t>(hn::Lanes(d)) / 2 * apart, apart);
    return hn::Combine(d, high, low);
  }
}
template <class D>
HWY_INLINE Fours<D> fours_of(D d, const float* x, std::int64_t apart) {
  const hn::RepartitionToWide<D> wide;
  const auto a = every_fourth(d, x, apart), b = every_fourth(d, x + apart, apart),
             c = every_fourth(d, x + 2 * apart, apart), e = every_fourth(d, x + 3 * apart, apart);
  const auto ab_low = hn::BitCast(wide, hn::InterleaveLower(d, a, b)),
             ab_high = hn::BitCast(wide, hn::InterleaveUpper(d, a, b)),
             ce_low = hn::BitCast(wide, hn::InterleaveLower(d, c, e)),
             ce_high = hn::BitCast(wide, hn::InterleaveUpper(d, c, e));
  return {{hn::BitCast(d, hn::InterleaveLower(wide, ab_low, ce_low)),
           hn::BitCast(d, hn::InterleaveUpper(wide, ab_low, ce_low)),
           hn::BitCast(d, hn::InterleaveLower(wide, ab_high, ce_high)),
           hn::BitCast(d, hn::InterleaveUpper(wide, ab_high, ce_high))}};
}
#endif

/// turn() of lane_fits.h.
HWY_INLINE void turn_groups(const float* x, int n, int n_groups, float* out) {
  int group = 0;
#if HWY_TARGET != HWY_SCALAR
  const auto turn_as = [&](auto d) HWY_ATTR {
    const int lanes = static_cast<int>(hn::Lanes(d));
    for (; group + lanes <= n_groups; group += lanes)
      for (int i = 0; i < n; i += 4) {
        const auto fours = fours_of(d, x + group * n + i, n);
        for (int j = 0; j < 4; ++j) hn::StoreU(fours.rows[j], d, out + (i + j) * kLanes + group);
      }
  };
  turn_as(Floats());
  turn_as(hn::FixedTag<float, 4>());
#endif
  if (group == kLanes) return;
  for (int i = 0; i < n; ++i) {
    for (int g = group; g < n_groups; ++g) out[i * kLanes + g] = x[g * n + i];
    std::fill(out + i * kLanes + n_groups, out + (i + 1) * kLanes, 0.0f);
  }
}

/// The element of largest magnitude of each lane, the first of several.
HWY_INLINE V extreme_of(const float* x, int n, Largest& largest) {
  V most = hn::Zero(Floats()), value = most;
  for (int i = 0; i < n; ++i) {
    const V xi = load(x + i * kLanes), magnitude = hn::Abs(xi);
    largest = larger(largest, xi);
    const M larger = hn::Gt(magnitude, most);
    most = hn::IfThenElse(larger, magnitude, most);
    value = hn::IfThenElse(larger, xi, value);
  }
  return value;
}

/// The same, but for elements that are no number, by the smallest and the largest; which of two of opposite signs is first
/// has to be looked up.
HWY_INLINE V peak_of(const float* x, int n) {
  const V zero = hn::Zero(Floats());
  V low[2] = {zero, zero}, high[2] = {zero, zero};  // of every other element: neither waits for the other
  for (int i = 0; i < n; i += 2)
    for (int j = 0; j < 2; ++j) {
      low[j] = hn::Min(low[j], load(x + (i + j) * kLanes));
      high[j] = hn::Max(high[j], load(x + (i + j) * kLanes));
    }
  const V lowest = hn::Min(low[0], low[1]), highest = hn::Max(high[0], high[1]), depth = hn::Neg(lowest);
  const M tied = hn::And(hn::Eq(highest, depth), hn::Gt(highest, zero));
  if (HWY_LIKELY(hn::AllFalse(Floats(), tied))) return hn::IfThenElse(hn::Gt(highest, depth), highest, lowest);
  Largest unused = hn::Zero(Ints());
  return extreme_of(x, n, unused);
}

}  // namespace ropewalk::codecs::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
