// What encoders of one scale a block share, for the target that is being compiled: included once for each (Highway's
// foreach_target), after <hwy/highway.h>.
#if defined(ROPEWALK_BLOCK_SCALES_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef ROPEWALK_BLOCK_SCALES_INL_H
#undef ROPEWALK_BLOCK_SCALES_INL_H
#else
#define ROPEWALK_BLOCK_SCALES_INL_H
#endif

#include <bit>
#include <cstddef>

#include "lib/convert_simd.h"

#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace ropewalk::codecs::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128

using Floats = hn::CappedTag<float, 16>;
using Ints = hn::RebindToSigned<Floats>;

// As integers, magnitudes order like the floats they are, with infinity and then NaN above all finite ones.
HWY_INLINE float largest_magnitude(const float* x, int n) {
  const Floats df;
  const Ints di;
  auto most = hn::Zero(di);
  for (int i = 0; i < n; i += static_cast<int>(hn::Lanes(df)))
    most = hn::Max(most, hn::BitCast(di, hn::Abs(hn::LoadU(df, x + i))));
  return std::bit_cast<float>(hn::GetLane(hn::MaxOfLanes(di, most)));
}

// Of blocks side by side: one after the other, divisions and narrowings take longer than a block's elements.
struct Scales {
  static constexpr int kBatch = 16;
  alignas(64) float d[kBatch], inverse[kBatch];
  std::byte codes[2 * kBatch];
};

// d = extent / divisor, 1 / d (0 of 0) and d as f16, of Scales::kBatch blocks.
HWY_INLINE void scales_of(const float* extents, float divisor, Scales& scales) {
  const Floats df;
  for (int b = 0; b < Scales::kBatch; b += static_cast<int>(hn::Lanes(df))) {
    const auto d = hn::Div(hn::Load(df, extents + b), hn::Set(df, divisor));
    hn::Store(d, df, scales.d + b);
    hn::Store(hn::IfThenElseZero(hn::Ne(d, hn::Zero(df)), hn::Div(hn::Set(df, 1.0f), d)), df, scales.inverse + b);
  }
  simd::f32_to_f16(scales.d, scales.codes, Scales::kBatch);
}

#endif

}  // namespace ropewalk::codecs::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
