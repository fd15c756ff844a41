#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include <hwy/aligned_allocator.h>

namespace ropewalk {

/// Rows that share one pass over a factor's panels; their own factors stay in the first cache.
constexpr std::size_t kRowsOfAPass = 32;

/// A [rank, columns] as the kernel reads it: panels of kPanelColumns columns, each [rank, kPanelColumns], the last
/// padded with zeros.
template <class T>
class PackedPanels {
 public:
  static constexpr std::size_t kPanelColumns = 192 / sizeof(T);  // 3 vectors of 64 bytes; 6 of 32; 12 of 16

  /// Not filled, but for the last panel, which is of zeros.
  PackedPanels(std::size_t rank, std::size_t columns);
  /// a: row-major [rank, columns].
  PackedPanels(std::span<const double> a, std::size_t rank, std::size_t columns);

  T* panel(std::size_t index) noexcept { return panels_.get() + index * rank_ * kPanelColumns; }
  const T* panel(std::size_t index) const noexcept { return panels_.get() + index * rank_ * kPanelColumns; }
  std::size_t rank() const noexcept { return rank_; }
  std::size_t columns() const noexcept { return columns_; }
  static std::size_t padded(std::size_t columns) {
    return (columns + kPanelColumns - 1) / kPanelColumns * kPanelColumns;
  }
  static std::size_t bytes(std::size_t rank, std::size_t columns) { return padded(columns) * rank * sizeof(T); }

 private:
  std::size_t rank_, columns_;
  hwy::AlignedFreeUniquePtr<T[]> panels_;
};
using PackedFactor = PackedPanels<double>;

/// values[row, column] = values[row, column] + scale * (sum over k = 0 .. rank - 1, in this order and starting from +0,
/// of b[row, k] * a[k, column]) in double: each product and its sum are rounded together, once (fma); the scale and the
/// last sum each on its own. b: row-major [n_rows, rank]; values: row-major [n_rows, a.columns()].
/// exact_products: all factors have at most 24 significant bits, so that products are exact: a processor without fused
/// multiply-adds then has the same bits without making them, many times faster. The bits depend on nothing else: not on
/// vector width, blocking or threads.
void add_low_rank_product(std::span<const double> b, const PackedFactor& a, double scale, bool exact_products,
                          std::span<double> values);

/// The same with the element-wise product of two such sums: values += scale * (b1 a1 [row, column] * b2 a2 [row, column]);
/// the sums as above, their product, the scale and the last sum each rounded on its own. Any two ranks.
void add_hadamard_product(std::span<const double> b1, const PackedFactor& a1, std::span<const double> b2,
                          const PackedFactor& a2, double scale, bool exact_products, std::span<double> values);

struct ElementPlace {
  std::uint32_t row, column;
};
/// The sums of add_low_rank_product() for single elements, to the bit. b: all its rows, row-major.
void low_rank_sums(std::span<const double> b, const PackedFactor& a, bool exact_products,
                   std::span<const ElementPlace> places, std::span<double> sums);

/// As b a in f32, to some roundings: runs of kNarrowRun products, each summed from zero, then summed, all in order of k. A
/// product and its sum are rounded together where the processor can, else each: the bits differ between processors.
/// values: [n_rows rounded up to 8, padded columns], row-major.
constexpr std::size_t kNarrowRun = 16;
void narrow_product(std::span<const float> b, const PackedPanels<float>& a, std::size_t n_rows, float* values);

}  // namespace ropewalk
