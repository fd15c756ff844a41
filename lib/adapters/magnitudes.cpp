#include <cmath>

#include "lib/adapters/adapter_recipes.h"
#include "lib/adapters/changed_tensor.h"
#include "lib/adapters/sum_of_squares.h"

namespace ropewalk {
namespace {

[[noreturn]] void refuse_zero(const LazyTensor& tensor, const char* axis, std::uint64_t index) {
  throw Error(ErrorKind::bad_input, {.path = std::string(tensor.file())},
              "tensor '" + tensor.name() + "': " + axis + " " + std::to_string(index) +
                  " is zero with the adapter, and has no direction for its magnitude",
              "the base or the adapter is damaged: take another copy of them");
}

using Magnitudes = std::vector<double>;

class RowMagnitudes final : public ChangedTensor<Magnitudes> {
 public:
  RowMagnitudes(TensorPtr weight, TensorPtr magnitudes)
      : ChangedTensor(weight->info(), weight, magnitudes->info().elements() * sizeof(double)),
        magnitudes_(std::move(magnitudes)) {}

 protected:
  Magnitudes make() const override { return read_whole(*magnitudes_); }
  void change(const Magnitudes& magnitudes, RowRange rows, std::span<double> values) const override {
    const std::uint64_t columns = info().columns();
    for (std::uint64_t row = rows.begin; row < rows.end; ++row) {
      double* v = values.data() + (row - rows.begin) * columns;  // v[row, :]
      const double norm = std::sqrt(sum_of_squares(columns, [&](std::size_t c) { return v[c]; }));
      if (norm == 0) refuse_zero(*this, "row", row);
      const double factor = magnitudes[row] / norm;
      for (std::uint64_t c = 0; c < columns; ++c) v[c] = factor * v[c];
    }
  }

 private:
  TensorPtr magnitudes_;
};

class ColumnMagnitudes final : public ChangedTensor<Magnitudes> {
 public:
  ColumnMagnitudes(TensorPtr weight, TensorPtr magnitudes)
      : ChangedTensor(weight->info(), weight, 2 * magnitudes->info().elements() * sizeof(double)),
        magnitudes_(std::move(magnitudes)) {}

 protected:
  /// One pass over all rows, in order: each column's sum never varies.
  Magnitudes make() const override {
    const std::uint64_t columns = info().columns();
    Magnitudes squares(columns), factors = read_whole(*magnitudes_);
    std::vector<double> block;
    for_each_chunk(*this, {0, info().rows()}, kChunk, [&](RowRange rows) {
      block.resize(rows.size() * columns);
      parent().read_f64(rows, block);
      for (std::uint64_t row = 0; row < rows.size(); ++row)
        for (std::uint64_t c = 0; c < columns; ++c) squares[c] += block[row * columns + c] * block[row * columns + c];
    });
    for (std::uint64_t c = 0; c < columns; ++c) {
      if (squares[c] == 0) refuse_zero(*this, "column", c);
      factors[c] /= std::sqrt(squares[c]);
    }
    return factors;
  }
  void change(const Magnitudes& factors, RowRange rows, std::span<double> values) const override {
    const std::uint64_t columns = info().columns();
    for (std::uint64_t row = 0; row < rows.size(); ++row)
      for (std::uint64_t c = 0; c < columns; ++c) values[row * columns + c] = factors[c] * values[row * columns + c];
  }

 private:
  TensorPtr magnitudes_;
};

}  // namespace

TensorPtr with_magnitudes(TensorPtr weight, TensorPtr magnitudes, Axis axis) {
  const std::uint64_t expected = axis == Axis::rows ? weight->info().rows() : weight->info().columns();
  if (weight->info().shape.size() != 2 || magnitudes->info().elements() != expected)
    fail_shape(*weight, *magnitudes, std::to_string(expected) + " elements");
  if (axis == Axis::rows) return std::make_shared<RowMagnitudes>(std::move(weight), std::move(magnitudes));
  return std::make_shared<ColumnMagnitudes>(std::move(weight), std::move(magnitudes));
}

}  // namespace ropewalk
