#include <algorithm>

#include "lib/adapters/adapter_recipes.h"
#include "lib/adapters/changed_tensor.h"

namespace ropewalk {
namespace {

using Numbers = std::vector<double>;

class Scaled final : public ChangedTensor<Numbers> {
 public:
  Scaled(TensorPtr parent, TensorPtr factors, Axis axis)
      : ChangedTensor(parent->info(), parent, factors->info().elements() * sizeof(double)),
        factors_(std::move(factors)),
        axis_(axis) {}

 protected:
  Numbers make() const override { return read_whole(*factors_); }
  void change(const Numbers& factors, RowRange rows, std::span<double> values) const override {
    const std::uint64_t columns = info().columns();
    for (std::uint64_t row = rows.begin; row < rows.end; ++row) {
      double* v = values.data() + (row - rows.begin) * columns;  // v[row, :]
      for (std::uint64_t c = 0; c < columns; ++c) v[c] *= axis_ == Axis::rows ? factors[row] : factors[c];
    }
  }

 private:
  TensorPtr factors_;
  Axis axis_;
};

}  // namespace

TensorPtr with_factors(TensorPtr parent, TensorPtr factors, Axis axis) {
  const TensorInfo& info = parent->info();
  const bool one_row = info.shape.size() < 2;  // a bias: its elements are its columns
  const std::uint64_t expected = axis == Axis::rows && !one_row ? info.rows() : info.columns();
  if (info.shape.size() > 2 || factors->info().elements() != expected)
    throw Error(ErrorKind::bad_input, {.path = std::string(factors->file())},
                "'" + factors->name() + "' has shape " + shape_text(factors->info().shape) + ", expected " +
                    std::to_string(expected) + " elements for '" + parent->name() + "' " + shape_text(info.shape),
                "the adapter was trained on a model of another shape: use that one");
  return std::make_shared<Scaled>(std::move(parent), std::move(factors), one_row ? Axis::columns : axis);
}

}  // namespace ropewalk
