#include "verify/weight_rounding.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "lib/convert.h"
#include "verify/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "verify/weight_rounding.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#ifndef ROPEWALK_WEIGHT_ROUNDING_ONCE
#define ROPEWALK_WEIGHT_ROUNDING_ONCE
namespace ropewalk::verify::rounding {
/// Sums side by side, in the same order on every target.
inline constexpr std::size_t kLanes = 16;
struct Lanes {
  alignas(64) double squares[kLanes] = {}, errors[kLanes] = {};
  alignas(64) float largest[kLanes] = {};
};
}  // namespace ropewalk::verify::rounding
#endif

HWY_BEFORE_NAMESPACE();
namespace ropewalk::verify::rounding::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// Of w and what they are rounded to; n is a multiple of kLanes, both are aligned to 64 bytes. What is infinite or NaN
/// counts as 0.
void Measure(const float* w, const float* rounded, std::size_t n, Lanes& sums) {
  const hn::CappedTag<double, 8> dd;
  const hn::Rebind<float, decltype(dd)> df;
  const auto zero = hn::Zero(df);
  for (std::size_t at = 0; at < n; at += kLanes)
    for (std::size_t lane = 0; lane < kLanes; lane += hn::Lanes(dd)) {
      const auto x = hn::Load(df, w + at + lane), to = hn::Load(df, rounded + at + lane);
      const auto error = hn::Abs(hn::Sub(hn::IfThenElseZero(hn::IsFinite(to), to), x)), size = hn::Abs(x);
      const auto wide = hn::PromoteTo(dd, x), wide_error = hn::PromoteTo(dd, error);
      hn::Store(hn::Add(hn::Load(dd, sums.squares + lane), hn::Mul(wide, wide)), dd, sums.squares + lane);
      hn::Store(hn::Add(hn::Load(dd, sums.errors + lane), hn::Mul(wide_error, wide_error)), dd, sums.errors + lane);
      const auto relative = hn::IfThenElseZero(hn::Gt(size, zero), hn::Div(error, size));
      hn::Store(hn::Max(hn::Load(df, sums.largest + lane), relative), df, sums.largest + lane);
    }
}

}  // namespace ropewalk::verify::rounding::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ropewalk::verify {
namespace rounding {
HWY_EXPORT(Measure);
}  // namespace rounding
namespace {

constexpr std::size_t kValues = 4096;  // at once: they stay in the first cache
using rounding::kLanes;

/// Pairs of zeros past `n` add nothing.
RoundingSums sums_of(const float* values, const float* rounded, std::size_t n) {
  rounding::Lanes sums;
  {
    using namespace rounding;
    HWY_DYNAMIC_DISPATCH(Measure)(values, rounded, n, sums);
  }
  RoundingSums out;
  for (std::size_t lane = 0; lane < kLanes; ++lane)
    out.add({sums.squares[lane], sums.errors[lane], double(sums.largest[lane])});
  return out;
}

}  // namespace

void RoundingSums::add(const RoundingSums& more) {
  squares += more.squares, error_squares += more.error_squares;
  largest = std::max(largest, more.largest);
}

RoundingSums measure_rounding(DType dtype, std::span<const std::byte> bytes, DType to) {
  RoundingSums out;
  if (dtype == to) return out;
  const DTypeInfo& stored = info(dtype);
  const auto block_elements = std::size_t(stored.block_elements), block_bytes = std::size_t(stored.block_bytes),
             step = kValues / block_elements * block_bytes;
  alignas(64) std::array<float, kValues> values{}, rounded{};
  std::array<std::byte, 2 * kValues> narrow;
  for (std::size_t at = 0; at < bytes.size(); at += step) {
    const auto part = bytes.subspan(at, std::min(step, bytes.size() - at));
    const std::size_t n = part.size() / block_bytes * block_elements;
    const std::span<float> w(values.data(), n), r(rounded.data(), n);
    decode_f32(dtype, part, w);
    encode_f32(to, w, std::span(narrow).first(2 * n));
    decode_f32(to, std::span<const std::byte>(narrow).first(2 * n), r);
    const std::size_t end = std::min(kValues, (n + kLanes - 1) / kLanes * kLanes);
    std::fill(values.begin() + std::ptrdiff_t(n), values.begin() + std::ptrdiff_t(end), 0.0f);
    std::fill(rounded.begin() + std::ptrdiff_t(n), rounded.begin() + std::ptrdiff_t(end), 0.0f);
    out.add(sums_of(values.data(), rounded.data(), end));
  }
  return out;
}

}  // namespace ropewalk::verify
#endif
