#include "verify/softmax.h"

#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "verify/softmax.cpp"
#include "verify/simd_targets.h"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "verify/simd_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ropewalk::verify::HWY_NAMESPACE {

float softmax_one(float* scores, std::size_t width, float scale, SoftmaxRow& row) {
  const F32 d;
  constexpr std::size_t kParts = kGroup / kLanes32;
  hn::Vec<F32> largest = hn::Set(d, -std::numeric_limits<float>::infinity());
  for (std::size_t i = 0; i < width; i += kLanes32) largest = hn::Max(largest, hn::LoadU(d, scores + i));
  // Scaling is monotone, also after rounding: the largest scaled score is the scaled largest.
  const float tile_max = hn::GetLane(hn::MaxOfLanes(d, largest)) * scale;
  const float max = tile_max > row.max ? tile_max : row.max;
  const float correction = hn::GetLane(exp_f32(hn::Set(d, row.max - max)));

  HWY_ALIGN float lanes[kGroup];
  hn::Vec<F32> sums[kParts];
  for (std::size_t part = 0; part < kParts; ++part) sums[part] = hn::Zero(d);
  for (std::size_t i = 0; i < width; i += kGroup)
    for (std::size_t part = 0; part < kParts; ++part) {
      float* at = scores + i + part * kLanes32;
      const auto p = exp_f32(hn::Sub(hn::Mul(hn::LoadU(d, at), hn::Set(d, scale)), hn::Set(d, max)));
      hn::StoreU(p, d, at);
      sums[part] = hn::Add(sums[part], p);
    }
  for (std::size_t part = 0; part < kParts; ++part) hn::Store(sums[part], d, lanes + part * kLanes32);
  row.sum = row.sum * double(correction) + double(sum_of_lanes(lanes));
  row.max = max;
  return correction;
}

}  // namespace ropewalk::verify::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ropewalk::verify {
HWY_EXPORT(softmax_one);
float softmax_tile(float* scores, std::size_t width, float scale, SoftmaxRow& row) {
  return HWY_DYNAMIC_DISPATCH(softmax_one)(scores, width, scale, row);
}
}  // namespace ropewalk::verify
#endif
