#include <cstddef>

#include "lib/codecs/lane_fits.h"
#include "lib/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lib/codecs/lane_packs.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace ropewalk::codecs::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Bytes are shifted as words, once no bit of theirs leaves them; one alone is no word.
using Bytes = hn::CappedTag<std::uint8_t, 32>;
#if HWY_TARGET == HWY_SCALAR
using Words = Bytes;
#else
using Words = hn::Repartition<std::uint16_t, Bytes>;
#endif
using B = hn::Vec<Bytes>;

HWY_INLINE B bits_at(const std::uint8_t* levels, int mask) {
  return hn::And(hn::LoadU(Bytes(), levels), hn::Set(Bytes(), static_cast<std::uint8_t>(mask)));
}
template <int bits>
HWY_INLINE B left(B x) {
  return hn::BitCast(Bytes(), hn::ShiftLeft<bits>(hn::BitCast(Words(), x)));
}
template <int bits>
HWY_INLINE B right(B x) {
  return hn::BitCast(Bytes(), hn::ShiftRight<bits>(hn::BitCast(Words(), x)));
}
HWY_INLINE void put(B x, std::byte* out) { hn::StoreU(x, Bytes(), reinterpret_cast<std::uint8_t*>(out)); }

/// The two bits of 256 levels from bit `from` on.
template <int from>
HWY_INLINE void pack_two(const std::uint8_t* levels, std::byte* out) {
  const auto two = [](const std::uint8_t* at) HWY_ATTR { return right<from>(bits_at(at, 3 << from)); };
  for (int h = 0; h < 2; ++h)
    for (int l = 0; l < 32; l += static_cast<int>(hn::Lanes(Bytes()))) {
      const std::uint8_t* at = levels + 128 * h + l;
      put(hn::Or(hn::Or(two(at), left<2>(two(at + 32))), hn::Or(left<4>(two(at + 64)), left<6>(two(at + 96)))),
          out + 32 * h + l);
    }
}
/// Four bits of 256 levels: of `run` below, of the next `run` above.
template <int run>
HWY_INLINE void pack_four(const std::uint8_t* levels, std::byte* out) {
  for (int h = 0; h < 128 / run; ++h)
    for (int l = 0; l < run; l += static_cast<int>(hn::Lanes(Bytes()))) {
      const std::uint8_t* at = levels + 2 * run * h + l;
      put(hn::Or(bits_at(at, 15), left<4>(bits_at(at + run, 15))), out + run * h + l);
    }
}
/// Bit `bit` of 256 levels.
template <int bit>
HWY_INLINE void pack_top(const std::uint8_t* levels, std::byte* out) {
  for (int l = 0; l < 32; l += static_cast<int>(hn::Lanes(Bytes()))) {
    const auto top = [&](int k) HWY_ATTR { return bits_at(levels + 32 * k + l, 1 << bit); };
    const auto lowest = [&](int k) HWY_ATTR { return right<bit>(top(k)); };
    const B low = hn::Or(hn::Or(lowest(0), left<1>(lowest(1))), hn::Or(left<2>(lowest(2)), left<3>(lowest(3)))),
            high = hn::Or(hn::Or(lowest(4), left<1>(lowest(5))), hn::Or(left<2>(lowest(6)), left<3>(lowest(7))));
    put(hn::Or(low, left<4>(high)), out + l);
  }
}

void PackQ2K(const std::uint8_t* levels, std::byte* block) { pack_two<0>(levels, block + 16); }
void PackQ3K(const std::uint8_t* levels, std::byte* block) {
  pack_top<2>(levels, block);
  pack_two<0>(levels, block + 32);
}
void PackQ4K(const std::uint8_t* levels, std::byte* block) { pack_four<32>(levels, block + 16); }
void PackQ5K(const std::uint8_t* levels, std::byte* block) {
  pack_top<4>(levels, block + 16);
  pack_four<32>(levels, block + 48);
}
void PackQ6K(const std::uint8_t* levels, std::byte* block) {
  pack_four<64>(levels, block);
  pack_two<4>(levels, block + 128);
}

}  // namespace ropewalk::codecs::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ropewalk::codecs {
HWY_EXPORT(PackQ2K);
HWY_EXPORT(PackQ3K);
HWY_EXPORT(PackQ4K);
HWY_EXPORT(PackQ5K);
HWY_EXPORT(PackQ6K);

void pack_q2_k_lanes(const std::uint8_t* levels, std::byte* block) { HWY_DYNAMIC_DISPATCH(PackQ2K)(levels, block); }
void pack_q3_k_lanes(const std::uint8_t* levels, std::byte* block) { HWY_DYNAMIC_DISPATCH(PackQ3K)(levels, block); }
void pack_q4_k_lanes(const std::uint8_t* levels, std::byte* block) { HWY_DYNAMIC_DISPATCH(PackQ4K)(levels, block); }
void pack_q5_k_lanes(const std::uint8_t* levels, std::byte* block) { HWY_DYNAMIC_DISPATCH(PackQ5K)(levels, block); }
void pack_q6_k_lanes(const std::uint8_t* levels, std::byte* block) { HWY_DYNAMIC_DISPATCH(PackQ6K)(levels, block); }

}  // namespace ropewalk::codecs
#endif
