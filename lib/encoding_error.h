#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <span>

#include "lib/dtype.h"

namespace ropewalk {

/// How far an encoding is from the values it was made of.
struct EncodingError {
  std::uint64_t elements = 0;
  double squares = 0, reference = 0;                    // sums of (x - decoded)^2 and of x^2
  double weighted_squares = 0, weighted_reference = 0;  // the same with each column's importance before it, 1 without
  // the row with the largest relative error, the first of equals; row 0 where all are exact
  std::uint64_t worst_row = 0;
  double worst_row_error = 0;

  double rmse() const;      // root of the mean of squares; 0 of nothing
  double relative() const;  // root of squares / reference; 0 where both are 0
};

/// Sums of blocks of rows, put together in their order: the same bits whatever the threads.
class EncodingErrors {
 public:
  void add(std::uint64_t first_row, const EncodingError& block);
  EncodingError total() const;

 private:
  mutable std::mutex mutex_;
  std::map<std::uint64_t, EncodingError> blocks_;
};

/// Of whole rows of `columns` values and what they became; importances: empty, or one a column. worst_row counts from
/// the first given. Both NaN, or both the same infinity, is no error. Requires can_decode(dtype).
EncodingError measure_encoding(DType dtype, std::span<const float> values, std::uint64_t columns,
                               std::span<const float> importances, std::span<const std::byte> encoded);
EncodingError measure_encoding(DType dtype, std::span<const double> values, std::uint64_t columns,
                               std::span<const float> importances, std::span<const std::byte> encoded);
/// `more` stands `rows` rows after the first of `sum`.
void append(EncodingError& sum, const EncodingError& more, std::uint64_t rows);

}  // namespace ropewalk
