#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "lib/adapters/changed_tensor.h"
#include "lib/low_rank_kernel.h"

namespace ropewalk {

/// left [rows, rank] times right [rank, columns], packed for the kernel.
struct PackedProduct {
  std::vector<double> left;
  PackedFactor right;
  std::uint64_t rows;
  bool exact;  // factors of 24 significant bits

  static constexpr std::uint64_t kRows = kRowsOfAPass;  // of row ranges the best are multiples

  PackedProduct(const LazyTensor& of_left, const LazyTensor& of_right)
      : left(read_whole(of_left)),
        right(read_whole(of_right), of_right.info().rows(), of_right.info().columns()),
        rows(of_left.info().rows()),
        exact(!of_left.is_wide() && !of_right.is_wide()) {}
  static std::uint64_t bytes(const LazyTensor& of_left, const LazyTensor& of_right) {
    return of_left.info().elements() * sizeof(double) +
           PackedFactor::bytes(of_right.info().rows(), of_right.info().columns());
  }
  /// Adds scale times its rows `range` to `values`.
  void add(RowRange range, double scale, std::span<double> values) const {
    add_low_rank_product(left_rows(range), right, scale, exact, values);
  }
  /// Its elements at `places`, rows counted from range.begin.
  void at(RowRange range, std::span<const ElementPlace> places, std::span<double> sums) const {
    low_rank_sums(left_rows(range), right, exact, places, sums);
  }
  std::span<const double> left_rows(RowRange range) const {
    return std::span(left).subspan(range.begin * right.rank(), range.size() * right.rank());
  }
};

}  // namespace ropewalk
