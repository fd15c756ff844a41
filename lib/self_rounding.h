#pragma once

#include <cstddef>
#include <span>

#include "lib/lazy_tensor.h"

namespace ropewalk {

/// What a change and its rounding did to one row: sums of squares.
struct RowSums {
  double delta = 0, weight = 0, rounding = 0;
};

/// What a wide tensor is, too, if it has a faster way to its rounded rows than by read_f64().
class SelfRounding {
 public:
  virtual ~SelfRounding() = default;

  /// The weight that RowSums::weight is of and the delta is added to.
  virtual const LazyTensor& unchanged() const noexcept = 0;
  /// The bytes that one rounding of read_f64()'s values gives, all of them finite. False if there is no such way to these
  /// rows or this type: bytes and sums are anything then. `sums`: for each row, or none; to f32's accuracy.
  virtual bool read_rounded(DType dtype, RowRange range, std::span<std::byte> bytes, std::span<RowSums> sums) const = 0;
};

}  // namespace ropewalk
