#include "verify/head_statistics.h"

#include <algorithm>
#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "verify/head_statistics.cpp"
#include "verify/simd_targets.h"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "verify/simd_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ropewalk::verify::HWY_NAMESPACE {

constexpr std::size_t kParts = kGroup / kLanes64;
using Half = hn::Rebind<float, F64>;  // as many floats as a register holds doubles

// Raises row.max to the block's maximum. What was summed shrinks by the factor returned, e^(old - new), and `x - max`
// moves with it.
HWY_INLINE double raise_max(const float* x, std::size_t width, std::size_t first_column, RowStatistics& row) {
  const F32 d;
  auto largest = hn::LoadU(d, x);
  for (std::size_t i = kLanes32; i < kVocabBlock; i += kLanes32) largest = hn::Max(largest, hn::LoadU(d, x + i));
  const float block_max = hn::GetLane(hn::MaxOfLanes(d, largest));
  if (!(double(block_max) > row.max)) return 1.0;
  // not found: the padding's, beside logits that are all NaN or -infinity
  if (const float* at = std::find(x, x + width, block_max); at != x + width)
    row.argmax = static_cast<std::int32_t>(first_column + static_cast<std::size_t>(at - x));
  const double shift = row.max - double(block_max);  // -infinity at first, when there is nothing to move
  const double factor = row.sum > 0 ? hn::GetLane(exp_f64(hn::Set(F64(), shift))) : 0.0;
  row.weighted = row.sum > 0 ? (row.weighted + row.sum * shift) * factor : 0.0;
  row.sum *= factor;
  row.max = double(block_max);
  return factor;
}

struct Sums {
  HWY_ALIGN double sum[kGroup], weighted[kGroup], difference[kGroup];
};

// kPair: also e^(x - max) (x - other).
template <bool kPair>
HWY_INLINE void sum_block(const float* x, const float* other, double max, Sums& out) {
  const F64 d;
  const Half half;
  hn::Vec<F64> sum[kParts], weighted[kParts], difference[kParts];
  for (std::size_t part = 0; part < kParts; ++part) sum[part] = weighted[part] = difference[part] = hn::Zero(d);
  for (std::size_t i = 0; i < kVocabBlock; i += kGroup)
    for (std::size_t part = 0; part < kParts; ++part) {
      const std::size_t at = i + part * kLanes64;
      const auto value = hn::PromoteTo(d, hn::LoadU(half, x + at));
      const auto centred = hn::Sub(value, hn::Set(d, max));
      const auto p = exp_f64(centred);
      sum[part] = hn::Add(sum[part], p);
      weighted[part] = fused(d, p, centred, weighted[part]);
      if constexpr (kPair)
        difference[part] = fused(d, p, hn::Sub(value, hn::PromoteTo(d, hn::LoadU(half, other + at))), difference[part]);
    }
  for (std::size_t part = 0; part < kParts; ++part) {
    hn::Store(sum[part], d, out.sum + part * kLanes64);
    hn::Store(weighted[part], d, out.weighted + part * kLanes64);
    hn::Store(difference[part], d, out.difference + part * kLanes64);
  }
}

// Columns past the vocabulary must weigh 0 and, in a pair, differ by 0: the lowest finite float does both (-infinity
// would give 0 * infinity).
HWY_INLINE void pad(float* x, std::size_t width) {
  std::fill(x + width, x + kVocabBlock, std::numeric_limits<float>::lowest());
}

void one(float* x, std::size_t first_column, std::size_t width, RowStatistics& row) {
  pad(x, width);
  raise_max(x, width, first_column, row);
  Sums sums;
  sum_block<false>(x, nullptr, row.max, sums);
  row.sum += sum_of_lanes(sums.sum);
  row.weighted += sum_of_lanes(sums.weighted);
}

void pair(float* a, float* b, std::size_t first_column, std::size_t width, PairStatistics& row) {
  pad(a, width);
  pad(b, width);
  row.difference *= raise_max(a, width, first_column, row.a);
  raise_max(b, width, first_column, row.b);
  Sums sums;
  sum_block<true>(a, b, row.a.max, sums);
  row.a.sum += sum_of_lanes(sums.sum);
  row.a.weighted += sum_of_lanes(sums.weighted);
  row.difference += sum_of_lanes(sums.difference);
  sum_block<false>(b, nullptr, row.b.max, sums);
  row.b.sum += sum_of_lanes(sums.sum);
  row.b.weighted += sum_of_lanes(sums.weighted);
}

}  // namespace ropewalk::verify::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ropewalk::verify {

HWY_EXPORT(one);
HWY_EXPORT(pair);
void accumulate(float* x, std::size_t first_column, std::size_t width, RowStatistics& row) {
  HWY_DYNAMIC_DISPATCH(one)(x, first_column, width, row);
}
void accumulate(float* a, float* b, std::size_t first_column, std::size_t width, PairStatistics& row) {
  HWY_DYNAMIC_DISPATCH(pair)(a, b, first_column, width, row);
}

double RowStatistics::log_sum_exp() const { return max + std::log(sum); }
double RowStatistics::entropy() const { return std::log(sum) - weighted / sum; }
double PairStatistics::kl() const {
  const double value = difference / a.sum - (a.log_sum_exp() - b.log_sum_exp());
  return value < 0 ? 0 : value;
}

}  // namespace ropewalk::verify
#endif
