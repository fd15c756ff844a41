#include "lib/low_rank_kernel.h"

#include <algorithm>
#include <array>
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

/// b times a for all columns of a and up to kRowsOfAPass rows.
struct Product {
  const double* b;  // groups of kMostRows rows, each [rank, kMostRows]
  const PackedFactor* a;
};

/// The part of it that falls into a tile.
struct TileProduct {
  const double* b;  // [rank, kMostRows]: the rows' factors, k by k
  const double* a;  // [rank, kPanelColumns], from the tile's first column
  std::size_t rank;
  // Bytes to call to the second cache meanwhile, `step` of them with each k: a number, since it may lie past the end.
  std::uintptr_t ahead;
  std::size_t step;
};

/// kProducts products, multiplied element by element, with strides in doubles.
template <std::size_t kProducts>
struct Tile {
  std::array<TileProduct, kProducts> products;
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

using Sums = hn::Vec<Doubles>[kRows][kVectors];

template <bool kExact>
HWY_INLINE void sum_tile(const TileProduct& product, Sums& sum) {
  const Doubles d;
  using V = hn::Vec<Doubles>;
  HWY_UNROLL(kRows)
  for (std::size_t row = 0; row < kRows; ++row)
    for (std::size_t v = 0; v < kVectors; ++v) sum[row][v] = hn::Zero(d);
  const double *a = product.a, *b = product.b;
  std::uintptr_t ahead = product.ahead;
  for (std::size_t k = 0; k < product.rank; ++k, a += PackedFactor::kPanelColumns, b += kMostRows) {
    __builtin_prefetch(reinterpret_cast<const void*>(ahead), 0, 2);
    ahead += product.step;
    const V a0 = hn::Load(d, a), a1 = hn::Load(d, a + kLanes), a2 = hn::Load(d, a + 2 * kLanes);
    HWY_UNROLL(kRows)
    for (std::size_t row = 0; row < kRows; ++row) {
      const V factor = hn::Set(d, b[row]);
      sum[row][0] = add_product<kExact>(factor, a0, sum[row][0]);
      sum[row][1] = add_product<kExact>(factor, a1, sum[row][1]);
      sum[row][2] = add_product<kExact>(factor, a2, sum[row][2]);
    }
  }
}

// kRows rows by kTileColumns columns, all inside values.
template <bool kExact, std::size_t kProducts>
HWY_INLINE void add_tile(const Tile<kProducts>& tile) {
  const Doubles d;
  HWY_ALIGN double first[kRows][kTileColumns];  // while the registers hold the second product's sums
  Sums sum;
  if constexpr (kProducts == 2) {
    sum_tile<kExact>(tile.products[0], sum);
    for (std::size_t row = 0; row < kRows; ++row)
      for (std::size_t v = 0; v < kVectors; ++v) hn::Store(sum[row][v], d, first[row] + v * kLanes);
  }
  sum_tile<kExact>(tile.products[kProducts - 1], sum);
  const hn::Vec<Doubles> scale = hn::Set(d, tile.scale);
  for (std::size_t row = 0; row < kRows; ++row)
    for (std::size_t v = 0; v < kVectors; ++v) {
      double* at = tile.values + row * tile.stride + v * kLanes;
      hn::Vec<Doubles> delta = sum[row][v];
      if constexpr (kProducts == 2) delta = hn::Mul(hn::Load(d, first[row] + v * kLanes), delta);
      hn::StoreU(hn::Add(hn::LoadU(d, at), hn::Mul(delta, scale)), d, at);
    }
}

// As add_tile for a tile of which only `rows` x `columns` exist: through a whole one beside it.
template <bool kExact, std::size_t kProducts>
void add_edge(Tile<kProducts> tile, std::size_t rows, std::size_t columns) {
  double whole[kRows * kTileColumns] = {};
  double* const values = tile.values;
  const std::size_t stride = tile.stride;
  for (std::size_t row = 0; row < rows; ++row) std::copy_n(values + row * stride, columns, whole + row * kTileColumns);
  tile.values = whole;
  tile.stride = kTileColumns;
  add_tile<kExact>(tile);
  for (std::size_t row = 0; row < rows; ++row) std::copy_n(whole + row * kTileColumns, columns, values + row * stride);
}

template <bool kExact, std::size_t kProducts>
void add_rows(const std::array<Product, kProducts>& products, double scale, double* values, std::size_t n_rows) {
  const std::size_t n_columns = products[0].a->columns();
  // a tile's share of the next panel; of one tile's three lines a step, the first
  const std::size_t step = sizeof(double) * PackedFactor::kPanelColumns / std::max<std::size_t>(1, n_rows / kRows);
  for (std::size_t first = 0; first < n_columns; first += kTileColumns) {
    const std::size_t columns = std::min(kTileColumns, n_columns - first);
    for (std::size_t row = 0; row < n_rows; row += kRows) {
      Tile<kProducts> tile{{}, scale, values + row * n_columns + first, n_columns};
      for (std::size_t i = 0; i < kProducts; ++i) {
        const PackedFactor& a = *products[i].a;
        tile.products[i] = {products[i].b + row / kMostRows * kMostRows * a.rank() + row % kMostRows,
                            a.panel(first / PackedFactor::kPanelColumns) + first % PackedFactor::kPanelColumns,
                            a.rank(),
                            reinterpret_cast<std::uintptr_t>(a.panel(first / PackedFactor::kPanelColumns)) +
                                (sizeof(double) * PackedFactor::kPanelColumns + row / kRows * step) * a.rank(),
                            step};
      }
      const std::size_t rows = std::min(kRows, n_rows - row);
      if (rows == kRows && columns == kTileColumns) add_tile<kExact>(tile);
      else add_edge<kExact>(tile, rows, columns);
    }
  }
}

template <std::size_t kProducts>
void add_rows(const std::array<Product, kProducts>& products, double scale, bool exact, double* values,
              std::size_t n_rows) {
  if (exact) return add_rows<true>(products, scale, values, n_rows);
  add_rows<false>(products, scale, values, n_rows);
}
void AddOne(const std::array<Product, 1>& products, double scale, bool exact, double* values, std::size_t n_rows) {
  add_rows(products, scale, exact, values, n_rows);
}
void AddTwo(const std::array<Product, 2>& products, double scale, bool exact, double* values, std::size_t n_rows) {
  add_rows(products, scale, exact, values, n_rows);
}

}  // namespace ropewalk::low_rank::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ropewalk {
namespace low_rank {
HWY_EXPORT(AddOne);
HWY_EXPORT(AddTwo);

/// Rows of b, as a Product has them.
class PackedRows {
 public:
  explicit PackedRows(std::size_t rank)
      : rank_(rank), rows_(hwy::AllocateAligned<double>(kRowsOfAPass * std::max<std::size_t>(rank, 1))) {
    if (!rows_) throw std::bad_alloc();
  }
  /// The first n_rows rows of b, row-major, up to kRowsOfAPass.
  const double* pack(const double* b, std::size_t n_rows) {
    const std::size_t padded = (n_rows + kMostRows - 1) / kMostRows * kMostRows;
    for (std::size_t row = 0; row < padded; ++row) {
      double* out = rows_.get() + row / kMostRows * kMostRows * rank_ + row % kMostRows;
      for (std::size_t k = 0; k < rank_; ++k) out[k * kMostRows] = row < n_rows ? b[row * rank_ + k] : 0.0;
    }
    return rows_.get();
  }

 private:
  std::size_t rank_;
  hwy::AlignedFreeUniquePtr<double[]> rows_;
};
}  // namespace low_rank

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
  const std::size_t n_rows = values.size() / a.columns();
  assert(values.size() == n_rows * a.columns() && b.size() == n_rows * a.rank());
  PackedRows packed(a.rank());
  for (std::size_t begin = 0; begin < n_rows; begin += kRowsOfAPass) {
    const std::size_t rows = std::min(kRowsOfAPass, n_rows - begin);
    const std::array products{Product{packed.pack(b.data() + begin * a.rank(), rows), &a}};
    HWY_DYNAMIC_DISPATCH(AddOne)(products, scale, exact_products, values.data() + begin * a.columns(), rows);
  }
}

void add_hadamard_product(std::span<const double> b1, const PackedFactor& a1, std::span<const double> b2,
                          const PackedFactor& a2, double scale, bool exact_products, std::span<double> values) {
  using namespace low_rank;
  if (values.empty()) return;
  const std::size_t n_rows = values.size() / a1.columns();
  assert(a1.columns() == a2.columns() && values.size() == n_rows * a1.columns());
  assert(b1.size() == n_rows * a1.rank() && b2.size() == n_rows * a2.rank());
  PackedRows first(a1.rank()), second(a2.rank());
  for (std::size_t begin = 0; begin < n_rows; begin += kRowsOfAPass) {
    const std::size_t rows = std::min(kRowsOfAPass, n_rows - begin);
    const std::array products{Product{first.pack(b1.data() + begin * a1.rank(), rows), &a1},
                              Product{second.pack(b2.data() + begin * a2.rank(), rows), &a2}};
    HWY_DYNAMIC_DISPATCH(AddTwo)(products, scale, exact_products, values.data() + begin * a1.columns(), rows);
  }
}

}  // namespace ropewalk
#endif
