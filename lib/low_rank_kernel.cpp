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
template <class T>
struct TileProduct {
  const T* b;  // [rank, kMostRows]: the rows' factors, k by k
  const T* a;  // [rank, kPanelColumns], from the tile's first column
  std::size_t rank;
  // Bytes to call to the second cache meanwhile, `step` of them with each k: a number, since it may lie past the end.
  std::uintptr_t ahead;
  std::size_t step;
};

/// kProducts products, multiplied element by element, with strides in doubles.
template <std::size_t kProducts>
struct Tile {
  std::array<TileProduct<double>, kProducts> products;
  double scale;
  double* values;
  std::size_t stride;  // of values' rows
};

}  // namespace ropewalk::low_rank
#endif

HWY_BEFORE_NAMESPACE();
namespace ropewalk::low_rank::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class T>
using Tag = hn::CappedTag<T, 64 / sizeof(T)>;
using Doubles = Tag<double>;
constexpr std::size_t kLanes = hn::MaxLanes(Doubles());
constexpr std::size_t kTileColumns = kVectors * kLanes;
// Accumulators, one row of a and one factor of b fit the registers: 3 x 8 of 32, or 3 x 4 of 16.
constexpr std::size_t kRows = HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_NEON ? 8 : 4;
static_assert(kMostRows % kRows == 0 && PackedFactor::kPanelColumns % kTileColumns == 0);

template <bool kExact, class V>
HWY_INLINE V add_product(V b, V a, V sum) {
  if constexpr (kExact || HWY_NATIVE_FMA) {
    return hn::MulAdd(b, a, sum);
  } else {
    const Doubles d;
    HWY_ALIGN double x[kLanes], y[kLanes], sums[kLanes];
    hn::Store(b, d, x), hn::Store(a, d, y), hn::Store(sum, d, sums);
    for (std::size_t lane = 0; lane < kLanes; ++lane) sums[lane] = std::fma(x[lane], y[lane], sums[lane]);
    return hn::Load(d, sums);
  }
}

template <class T>
using Sums = hn::Vec<Tag<T>>[kRows][kVectors];

template <bool kExact, class T>
HWY_INLINE void sum_tile(const TileProduct<T>& product, Sums<T>& sum) {
  const Tag<T> d;
  constexpr std::size_t lanes = hn::MaxLanes(Tag<T>());
  using V = hn::Vec<Tag<T>>;
  HWY_UNROLL(kRows)
  for (std::size_t row = 0; row < kRows; ++row)
    for (std::size_t v = 0; v < kVectors; ++v) sum[row][v] = hn::Zero(d);
  const T *a = product.a, *b = product.b;
  std::uintptr_t ahead = product.ahead;
  for (std::size_t k = 0; k < product.rank; ++k, a += PackedPanels<T>::kPanelColumns, b += kMostRows) {
    __builtin_prefetch(reinterpret_cast<const void*>(ahead), 0, 2);
    ahead += product.step;
    const V a0 = hn::Load(d, a), a1 = hn::Load(d, a + lanes), a2 = hn::Load(d, a + 2 * lanes);
    HWY_UNROLL(kRows)
    for (std::size_t row = 0; row < kRows; ++row) {
      const V factor = hn::Set(d, b[row]);
      sum[row][0] = add_product<kExact>(factor, a0, sum[row][0]);
      sum[row][1] = add_product<kExact>(factor, a1, sum[row][1]);
      sum[row][2] = add_product<kExact>(factor, a2, sum[row][2]);
    }
  }
}

/// The tile of rows from `row` and columns from `first` of b times a. `step`: bytes of the next panel that each k calls.
template <class T>
HWY_INLINE TileProduct<T> tile_product(const T* b, const PackedPanels<T>& a, std::size_t row, std::size_t first,
                                       std::size_t step) {
  constexpr std::size_t width = PackedPanels<T>::kPanelColumns;
  const T* panel = a.panel(first / width);
  return {b + row / kMostRows * kMostRows * a.rank() + row % kMostRows, panel + first % width, a.rank(),
          reinterpret_cast<std::uintptr_t>(panel) + (sizeof(T) * width + row / kRows * step) * a.rank(), step};
}
/// A tile's share of the next panel; of one tile's three lines a step, the first.
template <class T>
std::size_t step_ahead(std::size_t n_rows) {
  return sizeof(T) * PackedPanels<T>::kPanelColumns / std::max<std::size_t>(1, n_rows / kRows);
}

// kRows rows by kTileColumns columns, all inside values.
template <bool kExact, std::size_t kProducts>
HWY_INLINE void add_tile(const Tile<kProducts>& tile) {
  const Doubles d;
  HWY_ALIGN double first[kRows][kTileColumns];  // while the registers hold the second product's sums
  Sums<double> sum;
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
  const std::size_t step = step_ahead<double>(n_rows);
  for (std::size_t first = 0; first < n_columns; first += kTileColumns) {
    const std::size_t columns = std::min(kTileColumns, n_columns - first);
    for (std::size_t row = 0; row < n_rows; row += kRows) {
      Tile<kProducts> tile{{}, scale, values + row * n_columns + first, n_columns};
      for (std::size_t i = 0; i < kProducts; ++i)
        tile.products[i] = tile_product(products[i].b, *products[i].a, row, first, step);
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

// kRows rows by three vectors of columns.
HWY_INLINE void narrow_tile(TileProduct<float> product, float* values, std::size_t stride) {
  const Tag<float> d;
  constexpr std::size_t lanes = hn::MaxLanes(Tag<float>());
  HWY_ALIGN float total[kRows * kVectors * lanes];
  Sums<float> sum;
  const std::size_t rank = product.rank;
  for (std::size_t k = 0; k == 0 || k < rank; k += kNarrowRun) {
    product.rank = std::min(kNarrowRun, rank - k);
    sum_tile<true>(product, sum);
    product.b += kNarrowRun * kMostRows;
    product.a += kNarrowRun * PackedPanels<float>::kPanelColumns;
    product.ahead += kNarrowRun * product.step;
    HWY_UNROLL(kRows)
    for (std::size_t row = 0; row < kRows; ++row)
      for (std::size_t v = 0; v < kVectors; ++v) {
        float* at = total + (row * kVectors + v) * lanes;
        if (k > 0) sum[row][v] = hn::Add(hn::Load(d, at), sum[row][v]);
        hn::Store(sum[row][v], d, k + kNarrowRun < rank ? at : values + row * stride + v * lanes);
      }
  }
}
void Narrow(const float* b, const PackedPanels<float>& a, float* values, std::size_t n_rows) {
  constexpr std::size_t width = kVectors * hn::MaxLanes(Tag<float>());
  const std::size_t stride = PackedPanels<float>::padded(a.columns()), step = step_ahead<float>(n_rows);
  for (std::size_t first = 0; first < stride; first += width)
    for (std::size_t row = 0; row < n_rows; row += kRows)
      narrow_tile(tile_product(b, a, row, first, step), values + row * stride + first, stride);
}

template <bool kExact>
void sums_at(const double* b, const PackedFactor& a, const ElementPlace* places, std::size_t n, double* sums) {
  const Doubles d;
  const hn::RebindToSigned<Doubles> di;
  HWY_ALIGN std::int64_t of_a[kLanes], of_b[kLanes];
  HWY_ALIGN double out[kLanes];
  for (std::size_t i = 0; i < n; i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) {  // the last again where there are no more
      const ElementPlace place = places[std::min(i + lane, n - 1)];
      of_b[lane] = std::int64_t(place.row * a.rank());
      of_a[lane] = a.panel(place.column / a.kPanelColumns) - a.panel(0) + std::int64_t(place.column % a.kPanelColumns);
    }
    auto at_a = hn::Load(di, of_a), at_b = hn::Load(di, of_b);
    auto sum = hn::Zero(d);
    for (std::size_t k = 0; k < a.rank(); ++k) {
      sum = add_product<kExact>(hn::GatherIndex(d, b, at_b), hn::GatherIndex(d, a.panel(0), at_a), sum);
      at_b = hn::Add(at_b, hn::Set(di, 1)), at_a = hn::Add(at_a, hn::Set(di, std::int64_t(a.kPanelColumns)));
    }
    hn::Store(sum, d, out);
    std::copy_n(out, std::min(kLanes, n - i), sums + i);
  }
}
void SumsAt(const double* b, const PackedFactor& a, bool exact, const ElementPlace* places, std::size_t n,
            double* sums) {
  if (exact) return sums_at<true>(b, a, places, n, sums);
  sums_at<false>(b, a, places, n, sums);
}

}  // namespace ropewalk::low_rank::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ropewalk {
namespace low_rank {
HWY_EXPORT(AddOne);
HWY_EXPORT(AddTwo);

HWY_EXPORT(Narrow);
HWY_EXPORT(SumsAt);

/// Rows of b, as a Product has them.
template <class T>
class PackedRows {
 public:
  explicit PackedRows(std::size_t rank)
      : rank_(rank), rows_(hwy::AllocateAligned<T>(kRowsOfAPass * std::max<std::size_t>(rank, 1))) {
    if (!rows_) throw std::bad_alloc();
  }
  /// The first n_rows rows of b, row-major, up to kRowsOfAPass.
  const T* pack(const T* b, std::size_t n_rows) {
    const std::size_t padded = (n_rows + kMostRows - 1) / kMostRows * kMostRows;
    for (std::size_t row = 0; row < padded; ++row) {
      T* out = rows_.get() + row / kMostRows * kMostRows * rank_ + row % kMostRows;
      for (std::size_t k = 0; k < rank_; ++k) out[k * kMostRows] = row < n_rows ? b[row * rank_ + k] : T{0};
    }
    return rows_.get();
  }

 private:
  std::size_t rank_;
  hwy::AlignedFreeUniquePtr<T[]> rows_;
};
}  // namespace low_rank

template <class T>
PackedPanels<T>::PackedPanels(std::size_t rank, std::size_t columns)
    : rank_(rank), columns_(columns), panels_(hwy::AllocateAligned<T>(bytes(rank, columns) / sizeof(T) + 1)) {
  if (!panels_) throw std::bad_alloc();
  if (columns > 0) std::fill_n(panel((columns - 1) / kPanelColumns), rank * kPanelColumns, T{0});
}
template <class T>
PackedPanels<T>::PackedPanels(std::span<const double> a, std::size_t rank, std::size_t columns)
    : PackedPanels(rank, columns) {
  assert(a.size() == rank * columns);
  for (std::size_t first = 0, index = 0; first < columns; first += kPanelColumns, ++index)
    for (std::size_t k = 0; k < rank; ++k)
      std::copy_n(a.data() + k * columns + first, std::min(kPanelColumns, columns - first),
                  panel(index) + k * kPanelColumns);
}
template class PackedPanels<double>;
template class PackedPanels<float>;

void add_low_rank_product(std::span<const double> b, const PackedFactor& a, double scale, bool exact_products,
                          std::span<double> values) {
  using namespace low_rank;
  if (values.empty()) return;
  const std::size_t n_rows = values.size() / a.columns();
  assert(values.size() == n_rows * a.columns() && b.size() == n_rows * a.rank());
  PackedRows<double> packed(a.rank());
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
  PackedRows<double> first(a1.rank()), second(a2.rank());
  for (std::size_t begin = 0; begin < n_rows; begin += kRowsOfAPass) {
    const std::size_t rows = std::min(kRowsOfAPass, n_rows - begin);
    const std::array products{Product{first.pack(b1.data() + begin * a1.rank(), rows), &a1},
                              Product{second.pack(b2.data() + begin * a2.rank(), rows), &a2}};
    HWY_DYNAMIC_DISPATCH(AddTwo)(products, scale, exact_products, values.data() + begin * a1.columns(), rows);
  }
}

void low_rank_sums(std::span<const double> b, const PackedFactor& a, bool exact_products,
                   std::span<const ElementPlace> places, std::span<double> sums) {
  using namespace low_rank;
  assert(places.size() == sums.size());
  HWY_DYNAMIC_DISPATCH(SumsAt)(b.data(), a, exact_products, places.data(), places.size(), sums.data());
}

void narrow_product(std::span<const float> b, const PackedPanels<float>& a, std::size_t n_rows, float* values) {
  using namespace low_rank;
  assert(b.size() == n_rows * a.rank());
  PackedRows<float> packed(a.rank());
  for (std::size_t begin = 0; begin < n_rows; begin += kRowsOfAPass) {
    const std::size_t rows = std::min(kRowsOfAPass, n_rows - begin);
    HWY_DYNAMIC_DISPATCH(Narrow)
    (packed.pack(b.data() + begin * a.rank(), rows), a, values + begin * PackedPanels<float>::padded(a.columns()),
     (rows + kMostRows - 1) / kMostRows * kMostRows);
  }
}

}  // namespace ropewalk
#endif
