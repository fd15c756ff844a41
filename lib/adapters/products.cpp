#include <numeric>

#include "lib/adapters/adapter_recipes.h"
#include "lib/adapters/packed_product.h"
#include "lib/adapters/quick_delta.h"

namespace ropewalk {
namespace {

[[noreturn]] void fail_fit(const LazyTensor& weight, const LazyTensor& factor, const std::string& what) {
  throw Error(ErrorKind::bad_input, {.path = std::string(factor.file())},
              "'" + factor.name() + "' has shape " + shape_text(factor.info().shape) + ": " + what + " '" +
                  weight.name() + "' " + shape_text(weight.info().shape) + " of the base",
              "the adapter was trained on a model of another shape: use that one");
}

void require_matrix(const LazyTensor& weight, const LazyTensor& factor) {
  if (factor.info().shape.size() != 2 || weight.info().shape.size() != 2)
    fail_fit(weight, factor, "expected a matrix, for a matrix,");
}

struct TwoProducts {
  PackedProduct first, second;
};
class HadamardDelta final : public ChangedTensor<TwoProducts> {
 public:
  HadamardDelta(TensorPtr weight, const HadamardFactors& factors, double scale)
      : ChangedTensor(weight->info(), weight, bytes(*factors.a1, *factors.b1) + bytes(*factors.a2, *factors.b2)),
        factors_(factors),
        scale_(scale) {}
  std::uint64_t row_unit() const noexcept override { return std::lcm(parent().row_unit(), PackedProduct::kRows); }

 protected:
  TwoProducts make() const override { return {{*factors_.a1, *factors_.b1}, {*factors_.a2, *factors_.b2}}; }
  void change(const TwoProducts& state, RowRange rows, std::span<double> values) const override {
    const PackedProduct &first = state.first, &second = state.second;
    add_hadamard_product(first.left_rows(rows), first.right, second.left_rows(rows), second.right, scale_,
                         first.exact && second.exact, values);
  }
  std::shared_ptr<const QuickDelta> make_quick(const TwoProducts& state) const override {
    const NarrowProduct::Term first{&state.first, scale_}, second{&state.second, 1.0};
    return std::make_shared<const QuickDelta>(NarrowProduct({&first, 1}), NarrowProduct({&second, 1}));
  }
  void change_at(const TwoProducts& state, RowRange rows, std::span<const ElementPlace> places,
                 std::span<double> values) const override {
    std::vector<double> first(places.size()), second(places.size());
    state.first.at(rows, places, first);
    state.second.at(rows, places, second);
    for (std::size_t i = 0; i < first.size(); ++i) {
      const double delta = first[i] * second[i] * scale_;
      values[i] = values[i] + delta;
    }
  }

 private:
  static std::uint64_t bytes(const LazyTensor& left, const LazyTensor& right) {
    return PackedProduct::bytes(left, right) +
           NarrowProduct::bytes(left.info().rows(), right.info().rows(), right.info().columns());
  }

  HadamardFactors factors_;
  double scale_;
};

struct Matrix {
  std::uint64_t rows, columns;
  std::vector<double> values;
};
std::vector<std::uint64_t> shape_of(const KroneckerFactor& factor) {
  return {factor.first->info().shape[0], (factor.second ? factor.second : factor.first)->info().shape[1]};
}
Matrix read_matrix(const KroneckerFactor& factor) {
  const std::vector<std::uint64_t> shape = shape_of(factor);
  if (!factor.second) return {shape[0], shape[1], read_whole(*factor.first)};
  Matrix matrix{shape[0], shape[1], std::vector<double>(shape[0] * shape[1])};
  PackedProduct(*factor.first, *factor.second).add({0, shape[0]}, 1.0, matrix.values);
  return matrix;
}

struct TwoMatrices {
  Matrix u, v;
};
class KroneckerDelta final : public ChangedTensor<TwoMatrices> {
 public:
  KroneckerDelta(TensorPtr weight, const KroneckerFactor& u, const KroneckerFactor& v, double scale,
                 std::uint64_t state_bytes)
      : ChangedTensor(weight->info(), weight, state_bytes), u_(u), v_(v), scale_(scale) {}

 protected:
  TwoMatrices make() const override { return {read_matrix(u_), read_matrix(v_)}; }
  void change(const TwoMatrices& state, RowRange rows, std::span<double> values) const override {
    const Matrix &u = state.u, &v = state.v;
    double* out = values.data();
    for (std::uint64_t row = rows.begin; row < rows.end; ++row) {
      const double *u_row = u.values.data() + row / v.rows * u.columns,  // u[row / v.rows, :]
          *v_row = v.values.data() + row % v.rows * v.columns;           // v[row % v.rows, :]
      for (std::uint64_t i = 0; i < u.columns; ++i)
        for (std::uint64_t j = 0; j < v.columns; ++j) *out++ += u_row[i] * v_row[j] * scale_;
    }
  }

 private:
  KroneckerFactor u_, v_;
  double scale_;
};

void check_product(const LazyTensor& weight, const KroneckerFactor& factor) {
  require_matrix(weight, *factor.first);
  if (!factor.second) return;
  require_matrix(weight, *factor.second);
  if (factor.first->info().shape[1] != factor.second->info().shape[0])
    fail_fit(weight, *factor.second,
             "expected the " + std::to_string(factor.first->info().shape[1]) + " rows of its partner, for");
}

}  // namespace

TensorPtr with_hadamard_delta(TensorPtr weight, const HadamardFactors& factors, double scale) {
  const auto check = [&](const TensorPtr& a, const TensorPtr& b) {
    check_product(*weight, {a, b});
    if (a->info().shape[0] != weight->info().shape[0]) fail_fit(*weight, *a, "expected the rows of");
    if (b->info().shape[1] != weight->info().shape[1]) fail_fit(*weight, *b, "expected the columns of");
  };
  check(factors.a1, factors.b1);
  check(factors.a2, factors.b2);
  return std::make_shared<HadamardDelta>(std::move(weight), factors, scale);
}

TensorPtr with_kronecker_delta(TensorPtr weight, const KroneckerFactor& u, const KroneckerFactor& v, double scale) {
  check_product(*weight, u);
  check_product(*weight, v);
  const std::vector<std::uint64_t> left = shape_of(u), right = shape_of(v), &whole = weight->info().shape;
  for (int axis = 0; axis < 2; ++axis)  // by division: a product of two numbers of a file can wrap
    if (right[axis] == 0 || whole[axis] % right[axis] != 0 || whole[axis] / right[axis] != left[axis])
      fail_fit(*weight, *v.first,
               "the Kronecker product of " + shape_text(left) + " and " + shape_text(right) + " does not fit");
  const std::uint64_t bytes = (left[0] * left[1] + right[0] * right[1]) * sizeof(double);
  return std::make_shared<KroneckerDelta>(std::move(weight), u, v, scale, bytes);
}

}  // namespace ropewalk
