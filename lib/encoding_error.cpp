#include "lib/encoding_error.h"

#include <cmath>
#include <vector>

#include "lib/convert.h"

namespace ropewalk {
namespace {

double root_of_ratio(double squares, double reference) { return squares == 0 ? 0 : std::sqrt(squares / reference); }

template <class Float>
EncodingError measure(DType dtype, std::span<const Float> values, std::uint64_t columns,
                      std::span<const float> importances, std::span<const std::byte> encoded) {
  EncodingError sum;
  if (values.empty()) return sum;
  const std::uint64_t rows = values.size() / columns, row_bytes = encoded.size() / rows;
  std::vector<double> decoded(columns);
  std::vector<float> narrow(columns);
  for (std::uint64_t row = 0; row < rows; ++row) {
    const auto bytes = encoded.subspan(row * row_bytes, row_bytes);
    if (dtype == DType::f64) decode_f64(dtype, bytes, decoded);
    else decode_f32(dtype, bytes, narrow), decoded.assign(narrow.begin(), narrow.end());
    EncodingError one{.elements = columns};
    for (std::uint64_t c = 0; c < columns; ++c) {
      const double x = values[row * columns + c], y = decoded[c], weight = importances.empty() ? 1 : importances[c];
      const double error = x == y || (std::isnan(x) && std::isnan(y)) ? 0 : x - y;
      one.squares += error * error, one.reference += x * x;
      one.weighted_squares += weight * error * error, one.weighted_reference += weight * x * x;
    }
    one.worst_row_error = one.relative();
    append(sum, one, row);
  }
  return sum;
}

}  // namespace

double EncodingError::rmse() const { return elements == 0 ? 0 : std::sqrt(squares / static_cast<double>(elements)); }
double EncodingError::relative() const { return root_of_ratio(squares, reference); }

void append(EncodingError& sum, const EncodingError& more, std::uint64_t rows) {
  sum.elements += more.elements;
  sum.squares += more.squares, sum.reference += more.reference;
  sum.weighted_squares += more.weighted_squares, sum.weighted_reference += more.weighted_reference;
  if (!(more.worst_row_error <= sum.worst_row_error) && !std::isnan(sum.worst_row_error))
    sum.worst_row_error = more.worst_row_error, sum.worst_row = rows + more.worst_row;
}

void EncodingErrors::add(std::uint64_t first_row, const EncodingError& block) {
  const std::lock_guard lock(mutex_);
  blocks_[first_row] = block;
}

EncodingError EncodingErrors::total() const {
  const std::lock_guard lock(mutex_);
  EncodingError sum;
  for (const auto& [first_row, block] : blocks_) append(sum, block, first_row);
  return sum;
}

EncodingError measure_encoding(DType dtype, std::span<const float> values, std::uint64_t columns,
                               std::span<const float> importances, std::span<const std::byte> encoded) {
  return measure(dtype, values, columns, importances, encoded);
}
EncodingError measure_encoding(DType dtype, std::span<const double> values, std::uint64_t columns,
                               std::span<const float> importances, std::span<const std::byte> encoded) {
  return measure(dtype, values, columns, importances, encoded);
}

}  // namespace ropewalk
