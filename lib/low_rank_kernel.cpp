#include "lib/low_rank_kernel.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstdint>
#include <new>

#include "lib/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lib/low_rank_kernel.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#ifndef ROPEWALK_LOW_RANK_KERNEL_ONCE
#define ROPEWALK_LOW_RANK_KERNEL_ONCE
namespace ropewalk::low_rank {

constexpr std::size_t kVectors = 3;   // of columns in a tile
constexpr std::size_t kMostRows = 8;  // of a tile, on any target
// rows that share one pass over a's panels: their packed b stays in the first cache
constexpr std::size_t kRowBlock = 32;

/// What a tile needs, with strides in doubles.
struct Tile {
  const double* b;  // [rank, kMostRows]: the rows' factors, k by k
  const double* a;  // [rank, kPanelColumns], from the tile's first column
  std::size_t rank;
  double scale;
  double* values;
  std::size_t stride;  // of values' rows
};

}  // namespace ropewalk::low_rank
#endif

HWY_BEFORE_NAMESPACE();
namespace ropewalk::low_rank::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Doubles = hn::CappedTag<double, 8>;
constexpr std::size_t kLanes = hn::MaxLanes(Doubles());
constexpr std::size_t kTileColumns = kVectors * kLanes;
// Accumulators, one row of a and one factor of b fit the registers: 3 x 8 of 32, or 3 x 4 of 16.
constexpr std::size_t kRows = HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_NEON ? 8 : 4;
static_assert(kMostRows % kRows == 0 && PackedFactor::kPanelColumns % kTileColumns == 0);

template <bool kExact>
HWY_INLINE hn::Vec<Doubles> add_product(hn::Vec<Doubles> b, hn::Vec<Doubles> a, hn::Vec<Doubles> sum) {
  if constexpr (kExact || HWY_NATIVE_FMA) return hn::MulAdd(b, a, sum);
  const Doubles d;
  HWY_ALIGN double x[kLanes], y[kLanes], sums[kLanes];
  hn::Store(b, d, x), hn::Store(a, d, y), hn::Store(sum, d, sums);
  for (std::size_t lane = 0; lane < kLanes; ++lane) sums[lane] = std::fma(x[lane], y[lane], sums[lane]);
  return hn::Load(d, sums);
}

// kRows rows by kTileColumns columns, all inside values.
template <bool kExact>
HWY_INLINE void add_tile(const Tile& tile) {
  const Doubles d;
  using V = hn::Vec<Doubles>;
  V sum[kRows][kVectors];
  HWY_UNROLL(kRows)
  for (std::size_t row = 0; row < kRows; ++row)
    for (std::size_t v = 0; v < kVectors; ++v) sum[row][v] = hn::Zero(d);
  const double *a = tile.a, *b = tile.b;
  for (std::size_t k = 0; k < tile.rank; ++k, a += PackedFactor::kPanelColumns, b += kMostRows) {
    const V a0 = hn::Load(d, a), a1 = hn::Load(d, a + kLanes), a2 = hn::Load(d, a + 2 * kLanes);
    HWY_UNROLL(kRows)
    for (std::size_t row = 0; row < kRows; ++row) {
      const V factor = hn::Set(d, b[row]);
      sum[row][0] = add_product<kExact>(factor, a0, sum[row][0]);
      sum[row][1] = add_product<kExact>(factor, a1, sum[row][1]);
      sum[row][2] = add_product<kExact>(factor, a2, sum[row][2]);
    }
  }
  const V scale = hn::Set(d, tile.scale);
  for (std::size_t row = 0; row < kRows; ++row)
    for (std::size_t v = 0; v < kVectors; ++v) {
      double* at = tile.values + row * tile.stride + v * kLanes;
      hn::StoreU(hn::Add(hn::LoadU(d, at), hn::Mul(sum[row][v], scale)), d, at);
    }
}

// As add_tile for a tile of which only `rows` x `columns` exist: through a whole one beside it.
template <bool kExact>
void add_edge(Tile tile, std::size_t rows, std::size_t columns) {
  double whole[kRows * kTileColumns] = {};
  double* const values = tile.values;
  const std::size_t stride = tile.stride;
  for (std::size_t row = 0; row < rows; ++row) std::copy_n(values + row * stride, columns, whole + row * kTileColumns);
  tile.values = whole;
  tile.stride = kTileColumns;
  add_tile<kExact>(tile);
  for (std::size_t row = 0; row < rows; ++row) std::copy_n(whole + row * kTileColumns, columns, values + row * stride);
}

template <bool kExact>
void add_rows(const double* packed_b, const PackedFactor& a, double scale, double* values, std::size_t n_rows) {
  for (std::size_t first = 0; first < a.columns(); first += kTileColumns) {
    const std::size_t columns = std::min(kTileColumns, a.columns() - first);
    const double* from = a.panel(first / PackedFactor::kPanelColumns) + first % PackedFactor::kPanelColumns;
    for (std::size_t row = 0; row < n_rows; row += kRows) {
      const double* b = packed_b + row / kMostRows * kMostRows * a.rank() + row % kMostRows;
      const Tile tile{b, from, a.rank(), scale, values + row * a.columns() + first, a.columns()};
      const std::size_t rows = std::min(kRows, n_rows - row);
      if (rows == kRows && columns == kTileColumns) add_tile<kExact>(tile);
      else add_edge<kExact>(tile, rows, columns);
    }
  }
}

// packed_b: groups of kMostRows rows, each [rank, kMostRows].
void AddRows(const double* packed_b, const PackedFactor& a, double scale, bool exact, double* values,
             std::size_t n_rows) {
  if (exact) return add_rows<true>(packed_b, a, scale, values, n_rows);
  add_rows<false>(packed_b, a, scale, values, n_rows);
}

}  // namespace ropewalk::low_rank::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ropewalk {
namespace low_rank {
HWY_EXPORT(AddRows);
}

PackedFactor::PackedFactor(std::span<const double> a, std::size_t rank, std::size_t columns)
    : rank_(rank),
      columns_(columns),
      panels_(hwy::AllocateAligned<double>(std::max<std::size_t>(bytes(rank, columns), 1) / sizeof(double) + 1)) {
  assert(a.size() == rank * columns);
  if (!panels_) throw std::bad_alloc();
  for (std::size_t first = 0, index = 0; first < columns; first += kPanelColumns, ++index) {
    const std::size_t width = std::min(kPanelColumns, columns - first);
    double* out = panels_.get() + index * rank * kPanelColumns;
    for (std::size_t k = 0; k < rank; ++k, out += kPanelColumns) {
      std::copy_n(a.data() + k * columns + first, width, out);
      std::fill(out + width, out + kPanelColumns, 0.0);
    }
  }
}

void add_low_rank_product(std::span<const double> b, const PackedFactor& a, double scale, bool exact_products,
                          std::span<double> values) {
  using namespace low_rank;
  if (values.empty()) return;
  const std::size_t n_rows = values.size() / a.columns(), rank = a.rank();
  assert(values.size() == n_rows * a.columns() && b.size() == n_rows * rank);
  const auto packed = hwy::AllocateAligned<double>(kRowBlock * std::max<std::size_t>(rank, 1));
  if (!packed) throw std::bad_alloc();
  for (std::size_t begin = 0; begin < n_rows; begin += kRowBlock) {
    const std::size_t rows = std::min(kRowBlock, n_rows - begin),
                      padded = (rows + kMostRows - 1) / kMostRows * kMostRows;
    for (std::size_t row = 0; row < padded; ++row) {
      double* out = packed.get() + row / kMostRows * kMostRows * rank + row % kMostRows;
      for (std::size_t k = 0; k < rank; ++k) out[k * kMostRows] = row < rows ? b[(begin + row) * rank + k] : 0.0;
    }
    HWY_DYNAMIC_DISPATCH(AddRows)(packed.get(), a, scale, exact_products, values.data() + begin * a.columns(), rows);
  }
}

}  // namespace ropewalk
#endif
