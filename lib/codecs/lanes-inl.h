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

/// nearest() of fits.h, limited, as floats.
HWY_INLINE V level_of(V x, int low, int high) {
  const Ints di;
  const auto bits = hn::And(hn::BitCast(di, hn::Add(x, set(12582912.0f))), hn::Set(di, 0x7fffff));
  const auto limited =
      hn::Min(hn::Max(bits, hn::Set(di, 0x400000 + low)), hn::Set(di, 0x400000 + high));  // still offset
  return hn::ConvertTo(Floats(), hn::Sub(limited, hn::Set(di, 0x400000)));
}

/// Where small_level_of() is level_of().
constexpr float kSmall = 0x1p22f;
/// The same of what is known to be below 2^22 in magnitude: there the sum with 1.5 * 2^23 orders as its bits do, and what
/// is added comes off again exactly.
constexpr int kOffsetBits = 0x4b400000;  // of 12582912.0f
HWY_INLINE V small_level_of(V x, int low, int high) {
  const Ints di;
  const auto bits = hn::BitCast(di, hn::Add(x, set(12582912.0f)));
  const auto limited = hn::Min(hn::Max(bits, hn::Set(di, kOffsetBits + low)), hn::Set(di, kOffsetBits + high));
  return hn::Sub(hn::BitCast(Floats(), limited), set(12582912.0f));
}
/// The same of what rounds to no less than the lowest level.
HWY_INLINE V small_level_at_most(V x, int high) {
  const Ints di;
  const auto bits = hn::BitCast(di, hn::Add(x, set(12582912.0f)));
  return hn::Sub(hn::BitCast(Floats(), hn::Min(bits, hn::Set(di, kOffsetBits + high))), set(12582912.0f));
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
  return static_cast<std::uint32_t>(bytes[0] | bytes[1] << 8);
}

/// One element's levels, all lanes.
HWY_INLINE void store_levels(V levels, std::uint8_t* out) {
  const hn::Rebind<std::uint8_t, Floats> d8;
  hn::StoreU(hn::DemoteTo(d8, hn::ConvertTo(Ints(), levels)), d8, out);
}

/// turn() of lane_fits.h.
HWY_INLINE void turn_groups(const float* x, int n, int n_groups, float* out) {
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

/// Candidates of a search whose sums do not depend on one another, `count` at a time.
struct CandidateSums {
  V lx, l2;
};
/// `level(inverse * x)`, the sums of w x level and w level^2 for each inverse. Products are (w x) level, or (w level) x.
template <int count, bool kLevelFirst, class Level>
HWY_INLINE void measure(const float* x, const float* w, int n, const V* inverse, const Level& level,
                        CandidateSums* sums) {
  V lx[count], l2[count];
  for (int j = 0; j < count; ++j) lx[j] = l2[j] = hn::Zero(Floats());
  for (int i = 0; i < n; ++i) {
    const V xi = load(x + i * kLanes), wi = load(w + i * kLanes), wx = hn::Mul(wi, xi);
    for (int j = 0; j < count; ++j) {
      const V l = level(hn::Mul(inverse[j], xi)), wl = hn::Mul(wi, l);
      lx[j] = hn::Add(lx[j], kLevelFirst ? hn::Mul(wl, xi) : hn::Mul(wx, l));
      l2[j] = hn::Add(l2[j], hn::Mul(wl, l));
    }
  }
  for (int j = 0; j < count; ++j) sums[j] = {lx[j], l2[j]};
}

}  // namespace ropewalk::codecs::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
