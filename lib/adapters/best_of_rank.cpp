#include "lib/adapters/best_of_rank.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <utility>

#include "lib/adapters/adapter_recipes.h"
#include "lib/adapters/thin_factors.h"
#include "lib/convert.h"
#include "lib/error.h"

namespace ropewalk {
namespace {

constexpr std::uint64_t kBlock = std::uint64_t{1} << 16;  // values read at once

std::uint64_t rows_at_once(const LazyTensor& tensor) {
  return std::max<std::uint64_t>(1, kBlock / std::max<std::uint64_t>(tensor.info().columns(), 1));
}

/// The values as the factors' type holds them.
void round_to(DType dtype, WideMatrix& matrix) {
  const std::span<double> values(matrix.data(), std::size_t(matrix.size()));
  std::vector<std::byte> bytes(values.size() * std::size_t(info(dtype).block_bytes));
  encode_f64(dtype, values, bytes);
  decode_f64(dtype, bytes, values);
}

/// The roots of the lengths on both sides, the rank asked for, and the type's values.
void finish(ThinFactors& factors, const FactorTypes& types, const LazyTensor& of) {
  if (!factors.a.allFinite() || !factors.b.allFinite())
    throw Error(ErrorKind::bad_input, {.path = std::string(of.file())},
                "the delta of '" + of.name() + "' is infinite or NaN", "the weights are damaged: take another copy");
  for (Eigen::Index k = 0; k < factors.a.rows(); ++k) {
    const double left = factors.b.col(k).norm(), right = factors.a.row(k).norm();
    if (left == 0 || right == 0) continue;
    factors.b.col(k) *= std::sqrt(right / left);
    factors.a.row(k) *= std::sqrt(left / right);
  }
  const auto rank = Eigen::Index(types.rank), found = factors.a.rows();
  factors.a.conservativeResize(rank, factors.a.cols());
  factors.b.conservativeResize(factors.b.rows(), rank);
  if (found < rank) factors.a.bottomRows(rank - found).setZero(), factors.b.rightCols(rank - found).setZero();
  round_to(types.dtype, factors.a);
  round_to(types.dtype, factors.b);
}

BestOfRank best(const FactorTypes& types, std::uint64_t out, std::uint64_t in, const LazyTensor& of,
                std::uint64_t elements, std::function<ThinFactors(CutNorms&)> make) {
  const auto norms = std::make_shared<std::optional<CutNorms>>();
  FactorTensors factors =
      computed_factors({types.a, {types.rank, in}, types.dtype}, {types.b, {out, types.rank}, types.dtype},
                       std::string(of.file()), elements * sizeof(double), [norms, make = std::move(make)] {
                         CutNorms now;
                         ThinFactors made = make(now);
                         *norms = now;
                         return made;
                       });
  return {std::move(factors.a), std::move(factors.b), norms};
}

/// Of tuned - base.
WideMatrix difference(const LazyTensor& tuned, const LazyTensor& base) {
  WideMatrix delta = wide_matrix(tuned);
  const std::uint64_t columns = tuned.info().columns(), step = rows_at_once(base);
  std::vector<double> block;
  base.prepare();
  for (std::uint64_t row = 0; row < base.info().rows(); row += step) {
    const RowRange range{row, std::min(row + step, base.info().rows())};
    block.resize(range.size() * columns);
    base.read_f64(range, block);
    double* out = delta.data() + row * columns;  // delta[row, :]
    for (std::size_t i = 0; i < block.size(); ++i) out[i] -= block[i];
  }
  base.release();
  return delta;
}

/// |delta - b a|, some rows at a time.
double remainder_norm(const WideMatrix& delta, const ThinFactors& factors) {
  double sum = 0;
  for (Eigen::Index row = 0; row < delta.rows(); row += 64) {
    const Eigen::Index rows = std::min<Eigen::Index>(64, delta.rows() - row);
    sum += (delta.middleRows(row, rows) - factors.b.middleRows(row, rows) * factors.a).squaredNorm();
  }
  return std::sqrt(sum);
}

/// A number for each name.
std::uint64_t stream_of(const std::string& name) {
  std::uint64_t stream = mixed(0);
  for (const char c : name) stream = mixed(stream ^ static_cast<unsigned char>(c));
  return stream;
}

}  // namespace

BestOfRank best_of_rank(const LowRankTerm& whole, const FactorTypes& types) {
  const std::uint64_t out = whole.b->info().rows(), in = whole.a->info().columns(), rank = whole.a->info().rows();
  return best(types, out, in, *whole.a, 6 * rank * (out + in), [=](CutNorms& norms) {
    ThinFactors factors{wide_matrix(*whole.a) * whole.scale, wide_matrix(*whole.b)};
    ThinFactors made = cut(factors, types.rank);
    finish(made, types, *whole.a);
    norms.delta = product_norm(factors);
    // side by side with what stands for them: [b, b'] [a; -a']
    const Eigen::Index own = factors.a.rows(), more = made.a.rows();
    factors.a.conservativeResize(own + more, factors.a.cols());
    factors.b.conservativeResize(factors.b.rows(), own + more);
    factors.a.bottomRows(more) = -made.a;
    factors.b.rightCols(more) = made.b;
    norms.error = product_norm(factors);
    return made;
  });
}

BestOfRank best_difference_of_rank(const TensorPtr& tuned, const TensorPtr& base, const FactorTypes& types) {
  const TensorInfo& info = tuned->info();
  if (info.shape.size() != 2 || info.shape != base->info().shape)
    throw Error(ErrorKind::bad_input, {.path = std::string(tuned->file())},
                "'" + info.name + "' has shape " + shape_text(info.shape) + ", expected " +
                    shape_text(base->info().shape) + " as the base has",
                "take the base that the model was tuned from");
  const std::uint64_t out = info.rows(), in = info.columns();
  // the difference, and the iteration's bases, seldom more than eight blocks wide
  const std::uint64_t elements = out * in + std::min(out * in, 8 * (types.rank + 8) * (out + in));
  return best(types, out, in, *tuned, elements, [=](CutNorms& norms) {
    const WideMatrix delta = difference(*tuned, *base);
    norms.delta = delta.norm();
    if (!std::isfinite(norms.delta))
      throw Error(ErrorKind::bad_input, {.path = std::string(tuned->file())},
                  "'" + tuned->name() + "' less that of the base is infinite or NaN",
                  "the weights are damaged: take another copy");
    ThinFactors made = cut_by_iteration(delta, types.rank, stream_of(types.a));
    finish(made, types, *tuned);
    norms.error = remainder_norm(delta, made);
    return made;
  });
}

TensorPtr scaled(TensorPtr parent, double scale) {
  if (scale == 1) return parent;
  const std::vector<double> factors(parent->info().columns(), scale);
  const std::span<const std::byte> bytes = std::as_bytes(std::span(factors));
  TensorPtr all =
      memory_tensor({parent->name() + ".scale", {factors.size()}, DType::f64}, {bytes.begin(), bytes.end()});
  return with_factors(std::move(parent), std::move(all), Axis::columns);
}

bool same_values(const LazyTensor& a, const LazyTensor& b) {
  if (a.info().shape != b.info().shape) return false;
  if (a.info().elements() == 0) return true;  // [2^60, 0] claims rows that hold nothing
  a.prepare(), b.prepare();
  std::vector<double> left, right;
  bool same = true;
  for (std::uint64_t row = 0, step = rows_at_once(a); same && row < a.info().rows(); row += step) {
    const RowRange range{row, std::min(row + step, a.info().rows())};
    left.resize(range.size() * a.info().columns()), right.resize(left.size());
    a.read_f64(range, left), b.read_f64(range, right);
    same = left == right;
  }
  a.release(), b.release();
  return same;
}

}  // namespace ropewalk
