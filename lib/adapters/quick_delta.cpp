#include "lib/adapters/quick_delta.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <new>
#include <numeric>

#include "lib/adapters/packed_product.h"
#include "lib/adapters/sum_of_squares.h"
#include "lib/convert.h"
#include "lib/convert_simd.h"
#include "lib/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lib/adapters/quick_delta.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#ifndef ROPEWALK_QUICK_DELTA_ONCE
#define ROPEWALK_QUICK_DELTA_ONCE
namespace ropewalk::quick {

/// A row of one product and the bounds of its errors.
struct Part {
  float* values;
  float row_bound;
  const float* column_bounds;
};
struct Row {
  Part first, second;  // first.values become the delta
  bool hadamard;
  const float* weight;
  float *low, *high;  // the ends of the intervals
  float largest;      // finite number of the type
  std::size_t n;      // all but the weight's are padded to whole vectors, and behind it stands more that can be read
};

// y = fl(w + delta) and either end of its interval are rounded once each: 2^-23 (|y| + bound). What lies below f32's
// normal range and the roundings of the bounds themselves: the rest.
constexpr float kRoundings = 0x1.01p-23F, kTiny = 0x1p-120F;

}  // namespace ropewalk::quick
#endif

HWY_BEFORE_NAMESPACE();
namespace ropewalk::quick::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::CappedTag<float, 16>;
using Doubles = hn::CappedTag<double, 8>;

template <bool kHadamard>
bool intervals(const Row& row) {
  const Floats d;
  auto finite = hn::Eq(hn::Zero(d), hn::Zero(d));
  const auto largest = hn::Set(d, row.largest);
  const auto roundings = hn::Set(d, kRoundings), tiny = hn::Set(d, kTiny);
  const auto row1 = hn::Set(d, row.first.row_bound), row2 = hn::Set(d, row.second.row_bound);
  for (std::size_t c = 0; c < row.n; c += hn::MaxLanes(d)) {
    auto delta = hn::LoadU(d, row.first.values + c);
    auto bound = hn::MulAdd(row1, hn::LoadU(d, row.first.column_bounds + c), tiny);
    if constexpr (kHadamard) {  // |p q - p' q'| <= |p'| |q - q'| + |q'| |p - p'| + |p - p'| |q - q'|
      const auto other = hn::LoadU(d, row.second.values + c);
      const auto of_other = hn::MulAdd(row2, hn::LoadU(d, row.second.column_bounds + c), tiny);
      bound = hn::MulAdd(hn::Add(hn::Abs(delta), bound), of_other, hn::MulAdd(hn::Abs(other), bound, tiny));
      delta = hn::Mul(delta, other);
      bound = hn::MulAdd(hn::Abs(delta), roundings, bound);
      hn::StoreU(delta, d, row.first.values + c);
    }
    const auto y = hn::Add(hn::LoadU(d, row.weight + c), delta);
    bound = hn::MulAdd(hn::Abs(y), roundings, bound);
    finite = hn::And(finite, hn::Le(hn::Add(hn::Abs(y), bound), largest));
    hn::StoreU(hn::Sub(y, bound), d, row.low + c);
    hn::StoreU(hn::Add(y, bound), d, row.high + c);
  }
  return hn::AllTrue(d, finite);
}
bool Intervals(const Row& row) { return row.hadamard ? intervals<true>(row) : intervals<false>(row); }

// The sums of squares of delta, weight and rounded - (weight + delta).
void SumSquares(const float* weight, const float* delta, const float* rounded, std::size_t n, RowSums& sums) {
  const Doubles d;
  const hn::Rebind<float, Doubles> df;
  auto deltas = hn::Zero(d), weights = hn::Zero(d), roundings = hn::Zero(d);
  std::size_t c = 0;
  for (; c + hn::MaxLanes(d) <= n; c += hn::MaxLanes(d)) {
    const auto w = hn::LoadU(df, weight + c), x = hn::LoadU(df, delta + c);
    const auto off = hn::PromoteTo(d, hn::Sub(hn::Sub(hn::LoadU(df, rounded + c), w), x));
    const auto wide_w = hn::PromoteTo(d, w), wide_x = hn::PromoteTo(d, x);
    deltas = hn::MulAdd(wide_x, wide_x, deltas);
    weights = hn::MulAdd(wide_w, wide_w, weights);
    roundings = hn::MulAdd(off, off, roundings);
  }
  const auto total = [&](auto lanes) { return hn::GetLane(hn::SumOfLanes(d, lanes)); };
  sums = {total(deltas), total(weights), total(roundings)};
  for (; c < n; ++c) {
    const double w = weight[c], x = delta[c], off = rounded[c] - weight[c] - delta[c];
    sums.delta += x * x, sums.weight += w * w, sums.rounding += off * off;
  }
}

// Appends the columns at which n codes of a row differ.
void AppendDiffering(std::uint32_t row, const std::byte* low, const std::byte* high, std::size_t n,
                     std::vector<ElementPlace>& places) {
  const hn::CappedTag<std::uint16_t, 32> d;
  std::size_t c = 0;
  const auto codes = [&](const std::byte* at) { return hn::LoadU(d, reinterpret_cast<const std::uint16_t*>(at) + c); };
  for (; c + hn::MaxLanes(d) <= n; c += hn::MaxLanes(d)) {
    std::uint8_t bytes[8] = {};
    hn::StoreMaskBits(d, hn::Ne(codes(low), codes(high)), bytes);
    std::uint64_t bits;
    for (std::memcpy(&bits, bytes, 8); bits != 0; bits &= bits - 1)
      places.push_back({row, static_cast<std::uint32_t>(c) + static_cast<std::uint32_t>(std::countr_zero(bits))});
  }
  for (; c < n; ++c)
    if (std::memcmp(low + 2 * c, high + 2 * c, 2) != 0) places.push_back({row, static_cast<std::uint32_t>(c)});
}

}  // namespace ropewalk::quick::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ropewalk {
namespace quick {
HWY_EXPORT(Intervals);
HWY_EXPORT(SumSquares);
HWY_EXPORT(AppendDiffering);

constexpr std::uint64_t kFewest = 64;   // one element in so many may be uncertain
constexpr double kLeastSum = 0x1p-120;  // of squares: deltas far above what f32 loses

/// Rounded up.
float above(double x) { return std::nextafter(static_cast<float>(x), std::numeric_limits<float>::infinity()); }
/// The square of a factor that may lose what is below f32's normal range; zeros lose nothing.
double square_of(double x) {
  const double size = std::fabs(x) + (x != 0 ? 0x1p-126 : 0.0);
  return size * size;
}

void fill(std::vector<float>& bounds, const std::vector<double>& squares, double factor) {
  bounds.resize(squares.size());
  for (std::size_t i = 0; i < squares.size(); ++i)
    bounds[i] = squares[i] == 0 ? 0.0F : above(factor * std::sqrt(squares[i]));
}

/// Floats for vectors, not cleared.
class Floats {
 public:
  explicit Floats(std::size_t n) : values_(hwy::AllocateAligned<float>(std::max<std::size_t>(n, 1))) {
    if (!values_) throw std::bad_alloc();
  }
  float* get() noexcept { return values_.get(); }

 private:
  hwy::AlignedFreeUniquePtr<float[]> values_;
};

struct Codes {
  void (*narrow)(const float*, std::byte*, std::size_t);
  void (*widen)(const std::byte*, float*, std::size_t);
  float largest;
};
std::optional<Codes> codes_of(DType dtype) {
  if (dtype == DType::f16) return Codes{simd::f32_to_f16, simd::f16_to_f32, 65504};
  if (dtype == DType::bf16) return Codes{simd::f32_to_bf16, simd::bf16_to_f32, 0x1.fep127F};
  return std::nullopt;
}

/// Sorts places of `columns` columns by panel of the factors in double, for the caches' sake.
void by_panel(std::vector<ElementPlace>& places, std::size_t columns) {
  std::vector<std::size_t> ends(columns / PackedFactor::kPanelColumns + 2);
  for (const ElementPlace& place : places) ++ends[place.column / PackedFactor::kPanelColumns + 1];
  std::partial_sum(ends.begin(), ends.end(), ends.begin());
  std::vector<ElementPlace> sorted(places.size());
  for (const ElementPlace& place : places) sorted[ends[place.column / PackedFactor::kPanelColumns]++] = place;
  places = std::move(sorted);
}

/// Puts the exact codes at `places`.
void settle(DType dtype, std::span<const ElementPlace> places, const float* weight, std::size_t columns,
            const QuickDelta::Exact& exact, std::byte* bytes) {
  std::vector<double> values(places.size());
  std::vector<std::byte> codes(2 * places.size());
  const auto index = [&](std::size_t i) { return places[i].row * columns + places[i].column; };
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = weight[index(i)];
  exact(places, values);
  encode_f64(dtype, values, codes);
  for (std::size_t i = 0; i < values.size(); ++i) std::memcpy(bytes + 2 * index(i), codes.data() + 2 * i, 2);
}
}  // namespace quick

NarrowProduct::NarrowProduct(std::span<const Term> terms, double bound_factor)
    : a_(std::accumulate(terms.begin(), terms.end(), std::size_t{0},
                         [](std::size_t rank, const Term& term) { return rank + term.product->right.rank(); }),
         terms.front().product->right.columns()) {
  constexpr std::size_t width = PackedFactor::kPanelColumns;
  const std::size_t rank = a_.rank(), n_rows = terms.front().product->rows;
  std::vector<double> roundings(rank), rows(n_rows), columns(stride());  // the latter sums of squares
  b_.resize(n_rows * rank);
  std::size_t first = 0;
  for (const auto& [product, scale] : terms) {
    const std::size_t own = product->right.rank();
    for (std::size_t k = first; k < first + own; ++k)
      roundings[k] = (product->exact ? 3 : 4) + double(kNarrowRun - k % kNarrowRun) +
                     std::ceil(double(rank) / kNarrowRun) - double(k / kNarrowRun);
    for (std::size_t begin = 0; begin < a_.columns(); begin += width)
      for (std::size_t k = 0; k < own; ++k) {
        const double *a = product->right.panel(begin / width) + k * width, weight = roundings[first + k];
        float* out = a_.panel(begin / a_.kPanelColumns) + (first + k) * a_.kPanelColumns + begin % a_.kPanelColumns;
        for (std::size_t c = 0; c < width; ++c) {
          out[c] = static_cast<float>(a[c]);
          columns[begin + c] += weight * quick::square_of(a[c]);
        }
      }
    for (std::size_t row = 0; row < n_rows; ++row) {
      float* out = b_.data() + row * rank + first;
      const double* b = product->left.data() + row * own;
      for (std::size_t k = 0; k < own; ++k) out[k] = static_cast<float>(scale * b[k]);
      rows[row] +=
          sum_in_lanes(own, [&](std::size_t k) { return roundings[first + k] * quick::square_of(scale * b[k]); });
    }
    first += own;
  }
  const double most = rank > 0 ? *std::ranges::max_element(roundings) * 0x1p-24 : 0;
  const double gamma = most < 0.5 ? 0x1.001p-24 / (1 - most) : std::numeric_limits<double>::infinity();
  quick::fill(row_bounds_, rows, 1);
  quick::fill(column_bounds_, columns, bound_factor * gamma);
}

std::uint64_t NarrowProduct::bytes(std::uint64_t rows, std::uint64_t rank, std::uint64_t columns) {
  return PackedPanels<float>::bytes(rank, columns) +
         (rows * (rank + 1) + PackedPanels<float>::padded(columns)) * sizeof(float);
}

bool QuickDelta::read_rounded(const LazyTensor& tensor, DType dtype, RowRange rows, std::span<std::byte> bytes,
                              std::span<RowSums> sums, const Exact& exact) const {
  using namespace quick;
  const std::optional<Codes> codes = codes_of(dtype);
  if (!codes) return false;
  const std::size_t n = tensor.info().columns(), stride = first.stride(), padded_rows = (rows.size() + 7) / 8 * 8;
  Floats products(stride * padded_rows), others(second ? stride * padded_rows : 1);
  Floats weights(rows.size() * n + stride), ends(2 * stride);
  tensor.read_f32(rows, {weights.get(), rows.size() * n});
  std::fill_n(weights.get() + rows.size() * n, stride, 0.0F);
  first.multiply(rows, products.get());
  if (second) second->multiply(rows, others.get());
  const auto part = [&](const NarrowProduct& product, float* values, std::size_t row) {
    return Part{values + row * stride, product.row_bounds()[rows.begin + row], product.column_bounds().data()};
  };
  std::vector<std::byte> high_codes(2 * n);
  std::vector<ElementPlace> uncertain;
  for (std::size_t row = 0; row < rows.size(); ++row) {
    const std::span<std::byte> out = bytes.subspan(row * 2 * n, 2 * n);
    const Row now{part(first, products.get(), row),
                  second ? part(*second, others.get(), row) : Part{},
                  second.has_value(),
                  weights.get() + row * n,
                  ends.get(),
                  ends.get() + stride,
                  codes->largest,
                  n};
    if (!HWY_DYNAMIC_DISPATCH(Intervals)(now)) return false;
    codes->narrow(ends.get(), out.data(), n);
    codes->narrow(ends.get() + stride, high_codes.data(), n);
    HWY_DYNAMIC_DISPATCH(AppendDiffering)(std::uint32_t(row), out.data(), high_codes.data(), n, uncertain);
    if (uncertain.size() > rows.size() * n / kFewest + 1) return false;
  }
  by_panel(uncertain, n);
  settle(dtype, uncertain, weights.get(), n, exact, bytes.data());
  for (std::size_t row = 0; row < sums.size(); ++row) {
    float* rounded = ends.get();
    codes->widen(bytes.data() + row * 2 * n, rounded, n);
    HWY_DYNAMIC_DISPATCH(SumSquares)(weights.get() + row * n, products.get() + row * stride, rounded, n, sums[row]);
    if (sums[row].delta < kLeastSum && first.row_bounds()[rows.begin + row] > 0) return false;
  }
  return true;
}

bool QuickDelta::pays_off(const LazyTensor& weight) const {
  const RowRange rows{0, std::min<std::uint64_t>(8, weight.info().rows())};
  std::vector<std::byte> bytes(2 * rows.size() * weight.info().columns());
  return read_rounded(weight, DType::f16, rows, bytes, {}, [](auto, auto) {});
}

}  // namespace ropewalk
#endif
