#include <algorithm>
#include <numeric>
#include <unordered_map>

#include "lib/adapters/adapter_recipes.h"
#include "lib/adapters/changed_tensor.h"

namespace ropewalk {
namespace {

class Transposed final : public ForwardingTensor {
 public:
  Transposed(TensorInfo info, TensorPtr matrix) : ForwardingTensor(std::move(info), std::move(matrix)) {}

  void prepare() const override { (void)values(); }
  std::uint64_t prepared_bytes() const noexcept override {
    return parent().prepared_bytes() + info().elements() * sizeof(double);
  }
  void release() const override {
    const std::lock_guard lock(mutex_);
    values_.reset();
  }
  bool is_wide() const noexcept override { return parent().is_wide(); }
  void read_f32(RowRange range, std::span<float> out) const override { gather(range, out); }
  void read_f64(RowRange range, std::span<double> out) const override { gather(range, out); }

 private:
  template <class T>
  void gather(RowRange range, std::span<T> out) const {
    const auto all = values();
    const std::uint64_t stride = parent().info().columns(), columns = info().columns();
    for (std::uint64_t row = range.begin; row < range.end; ++row)
      for (std::uint64_t c = 0; c < columns; ++c)
        out[(row - range.begin) * columns + c] = static_cast<T>((*all)[c * stride + row]);
  }
  std::shared_ptr<const std::vector<double>> values() const {
    const std::lock_guard lock(mutex_);
    if (!values_) values_ = std::make_shared<const std::vector<double>>(read_whole(parent()));
    return values_;
  }
  mutable std::mutex mutex_;
  mutable std::shared_ptr<const std::vector<double>> values_;
};

class AddedDelta final : public ForwardingTensor {
 public:
  AddedDelta(TensorPtr weight, TensorPtr delta, double scale, bool change)
      : ForwardingTensor(weight->info(), weight), delta_(std::move(delta)), scale_(scale), change_(change) {}

  std::uint64_t row_unit() const noexcept override { return std::lcm(parent().row_unit(), delta_->row_unit()); }
  void prepare() const override { parent().prepare(), delta_->prepare(); }
  std::uint64_t prepared_bytes() const noexcept override {
    return parent().prepared_bytes() + delta_->prepared_bytes();
  }
  void release() const override { parent().release(), delta_->release(); }
  bool is_wide() const noexcept override { return true; }
  void read_f64(RowRange range, std::span<double> values) const override {
    std::vector<double> delta(values.size());
    parent().read_f64(range, values);
    delta_->read_f64(range, delta);
    if (change_)
      for (std::size_t i = 0; i < values.size(); ++i) delta[i] -= values[i];
    for (std::size_t i = 0; i < values.size(); ++i) values[i] += scale_ * delta[i];
    if (!std::isfinite(largest_magnitude(std::span<const double>(values))))
      refuse_created_infinities(*this, parent(), range, values);
  }
  void read_f32(RowRange range, std::span<float> values) const override {
    std::vector<double> wide(values.size());
    read_f64(range, wide);
    simd::f64_to_f32(wide.data(), values.data(), wide.size());
  }

 private:
  TensorPtr delta_;
  double scale_;
  bool change_;  // delta_ is the changed weight
};

struct NewRows {
  std::unordered_map<std::uint64_t, std::uint64_t> place;  // of a row of the weight among `values`
  std::vector<double> values;
};
class ReplacedRows final : public ChangedTensor<NewRows> {
 public:
  ReplacedRows(TensorPtr weight, std::vector<std::uint64_t> indices, TensorPtr rows)
      : ChangedTensor(weight->info(), weight, rows->info().elements() * sizeof(double) + 64 * indices.size()),
        indices_(std::move(indices)),
        rows_(std::move(rows)) {}

 protected:
  NewRows make() const override {
    NewRows state;
    state.values = read_whole(*rows_);
    for (std::uint64_t i = 0; i < indices_.size(); ++i) state.place.emplace(indices_[i], i);
    return state;
  }
  void change(const NewRows& state, RowRange rows, std::span<double> values) const override {
    const std::uint64_t columns = info().columns();
    for (std::uint64_t row = rows.begin; row < rows.end; ++row) {
      const auto found = state.place.find(row);
      if (found == state.place.end()) continue;
      std::copy_n(state.values.begin() + std::ptrdiff_t(found->second * columns), columns,
                  values.begin() + std::ptrdiff_t((row - rows.begin) * columns));
    }
  }

 private:
  std::vector<std::uint64_t> indices_;
  TensorPtr rows_;
};

class RowCount final : public ForwardingTensor {
 public:
  using ForwardingTensor::ForwardingTensor;
  bool is_wide() const noexcept override { return parent().is_wide(); }
  void read_f32(RowRange range, std::span<float> values) const override {
    read(range, values, [&](RowRange own, std::span<float> out) { parent().read_f32(own, out); });
  }
  void read_f64(RowRange range, std::span<double> values) const override {
    read(range, values, [&](RowRange own, std::span<double> out) { parent().read_f64(own, out); });
  }

 private:
  template <class T, class Read>
  void read(RowRange range, std::span<T> values, Read read_own) const {
    const std::uint64_t there = parent().info().rows(), columns = info().columns();
    const RowRange own{std::min(range.begin, there), std::min(range.end, there)};
    if (own.size() > 0) read_own(own, values.first(own.size() * columns));
    std::fill(values.begin() + std::ptrdiff_t(own.size() * columns), values.end(), T{0});
  }
};

}  // namespace

TensorPtr transposed(TensorPtr parent) {
  TensorInfo info = parent->info();
  if (info.shape.size() != 2)
    throw Error(ErrorKind::bad_input, {.path = std::string(parent->file())},
                "'" + info.name + "' has shape " + shape_text(info.shape) + ", expected two axes",
                "the adapter is damaged: save it again");
  std::swap(info.shape[0], info.shape[1]);
  return std::make_shared<Transposed>(std::move(info), std::move(parent));
}

TensorPtr with_delta(TensorPtr weight, TensorPtr delta, double scale) {
  if (delta->info().shape != weight->info().shape) fail_shape(*weight, *delta, "the same shape");
  return std::make_shared<AddedDelta>(std::move(weight), std::move(delta), scale, false);
}

TensorPtr with_part_of(TensorPtr weight, TensorPtr changed, double part) {
  if (changed->info().shape != weight->info().shape) fail_shape(*weight, *changed, "the same shape");
  return std::make_shared<AddedDelta>(std::move(weight), std::move(changed), part, true);
}

TensorPtr with_rows(TensorPtr weight, std::vector<std::uint64_t> indices, TensorPtr rows) {
  if (weight->info().shape.size() != 2 ||
      rows->info().shape != std::vector<std::uint64_t>{indices.size(), weight->info().columns()})
    fail_shape(*weight, *rows,
               "[" + std::to_string(indices.size()) + ", " + std::to_string(weight->info().columns()) +
                   "], a row for each index");
  std::vector<std::uint64_t> sorted = indices;
  std::sort(sorted.begin(), sorted.end());
  const auto twice = std::adjacent_find(sorted.begin(), sorted.end());
  if (twice != sorted.end() || (!sorted.empty() && sorted.back() >= weight->info().rows()))
    throw Error(ErrorKind::bad_input, {.path = std::string(rows->file())},
                "'" + rows->name() + "' replaces row " +
                    std::to_string(twice != sorted.end() ? *twice : sorted.back()) +
                    (twice != sorted.end() ? " twice" : "") + " of '" + weight->name() + "' " +
                    shape_text(weight->info().shape) + ", expected distinct rows of it",
                "the adapter was trained on a model with another vocabulary: use that one");
  return std::make_shared<ReplacedRows>(std::move(weight), std::move(indices), std::move(rows));
}

TensorPtr with_row_count(TensorPtr parent, std::uint64_t rows) {
  if (parent->info().rows() == rows) return parent;
  TensorInfo info = parent->info();
  info.shape = {rows, parent->info().columns()};
  return std::make_shared<RowCount>(std::move(info), std::move(parent));
}

}  // namespace ropewalk
