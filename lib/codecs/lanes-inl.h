// Vectors whose lanes are groups, and what the searches over them share, for the target that is being compiled: included
// once for each (Highway's foreach_target), after <hwy/highway.h>.
#if defined(ROPEWALK_LANES_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef ROPEWALK_LANES_INL_H
#undef ROPEWALK_LANES_INL_H
#else
#define ROPEWALK_LANES_INL_H
#endif

#include <bit>
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
/// The same of what rounds to no less than the lowest level.
HWY_INLINE V small_level_at_most(V x, int high) {
  const Ints di;
  const auto bits = hn::BitCast(di, hn::Add(x, set(kShift)));
  return hn::Sub(hn::BitCast(Floats(), hn::Min(bits, hn::Set(di, kOffsetBits + high))), set(kShift));
}

/// Quotients that are not this near to a whole number count as undecided between two: by a reciprocal they are off by 2^-17
/// at most where they are less than 8.
constexpr float kNearly = 0.4999f;

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
  return static_cast<std::uint32_t>(bytes[0] | bytes[1] << 8);
}

/// One element's levels, all lanes.
HWY_INLINE void store_levels(V levels, std::uint8_t* out) {
  const hn::Rebind<std::uint8_t, Floats> d8;
  hn::StoreU(hn::DemoteTo(d8, hn::ConvertTo(Ints(), levels)), d8, out);
}

#if HWY_TARGET != HWY_SCALAR
/// Four elements of four groups, which begin `apart` elements from one another: element i of all in rows[i].
struct Square4 {
  hn::Vec<hn::FixedTag<float, 4>> rows[4];
};
HWY_INLINE Square4 square_of_four(const float* x, std::int64_t apart) {
  const hn::FixedTag<float, 4> d4;
  const hn::RepartitionToWide<decltype(d4)> wide;
  const auto a = hn::LoadU(d4, x), b = hn::LoadU(d4, x + apart), c = hn::LoadU(d4, x + 2 * apart),
             d = hn::LoadU(d4, x + 3 * apart);
  const auto ab_low = hn::BitCast(wide, hn::InterleaveLower(d4, a, b)),
             ab_high = hn::BitCast(wide, hn::InterleaveUpper(d4, a, b)),
             cd_low = hn::BitCast(wide, hn::InterleaveLower(d4, c, d)),
             cd_high = hn::BitCast(wide, hn::InterleaveUpper(d4, c, d));
  return {{hn::BitCast(d4, hn::InterleaveLower(wide, ab_low, cd_low)),
           hn::BitCast(d4, hn::InterleaveUpper(wide, ab_low, cd_low)),
           hn::BitCast(d4, hn::InterleaveLower(wide, ab_high, cd_high)),
           hn::BitCast(d4, hn::InterleaveUpper(wide, ab_high, cd_high))}};
}
#endif

/// turn() of lane_fits.h.
HWY_INLINE void turn_groups(const float* x, int n, int n_groups, float* out) {
  int group = 0;
#if HWY_TARGET != HWY_SCALAR
  for (; group + 4 <= n_groups; group += 4)
    for (int i = 0; i < n; i += 4) {
      const Square4 square = square_of_four(x + group * n + i, n);
      for (int j = 0; j < 4; ++j) hn::StoreU(square.rows[j], hn::FixedTag<float, 4>(), out + (i + j) * kLanes + group);
    }
#endif
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

/// Candidates of a search whose sums do not depend on one another, `count` at a time: `level(inverse * x)`, the sums of
/// (w x) level and w level^2 for each inverse.
template <int count, class Level>
HWY_INLINE void measure(const float* x, const float* w, int n, const V* inverse, const Level& level, V* lx, V* l2) {
  for (int j = 0; j < count; ++j) lx[j] = l2[j] = hn::Zero(Floats());
  for (int i = 0; i < n; ++i) {
    const V xi = load(x + i * kLanes), wi = load(w + i * kLanes), wx = hn::Mul(wi, xi);
    for (int j = 0; j < count; ++j) {
      const V l = level(hn::Mul(inverse[j], xi)), wl = hn::Mul(wi, l);
      lx[j] = hn::Add(lx[j], hn::Mul(wx, l));
      l2[j] = hn::Add(l2[j], hn::Mul(wl, l));
    }
  }
}

}  // namespace ropewalk::codecs::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
