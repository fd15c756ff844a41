#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "lib/low_rank_kernel.h"
#include "lib/self_rounding.h"

namespace ropewalk {

struct PackedProduct;

// Deltas in f32 with a bound of their error, so that most elements of W + delta are rounded to 16 bits without double
// arithmetic (A. Ziv, "Fast evaluation of elementary mathematical functions with correctly rounded last bit", ACM TOMS
// 17(3), 1991): where both ends of the interval round to one code, so does what is computed in double. The others are
// computed in double.

/// sum over t of scale_t B_t A_t in f32.
class NarrowProduct {
 public:
  struct Term {
    const PackedProduct* product;
    double scale;
  };
  /// `bound_factor`: times what bounds the error; for tests that a smaller bound must fail.
  explicit NarrowProduct(std::span<const Term> terms, double bound_factor = 1);
  static std::uint64_t bytes(std::uint64_t rows, std::uint64_t rank, std::uint64_t columns);

  std::size_t stride() const noexcept { return PackedPanels<float>::padded(a_.columns()); }
  /// [rows.size() rounded up to 8, stride()].
  void multiply(RowRange rows, float* values) const {
    narrow_product(std::span(b_).subspan(rows.begin * a_.rank(), rows.size() * a_.rank()), a_, rows.size(), values);
  }
  /// An element of multiply() differs from the exact sum, and from what is computed in double, by at most
  /// row_bounds()[row] * column_bounds()[column], if that is finite.
  /// A product b_k a_k passes at most w_k roundings on its way: of b_k, of a_k unless it is exact in f32, of itself, its
  /// run's sums from its own on, and the runs' from its own on. So it takes part with at most gamma(w_k) |b_k a_k|, gamma(w) = w u / (1 - w u),
  /// u = 2^-24 (N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed. 2002, lemma 3.1), and the sum of
  /// those over k is at most |sqrt(w) b| |sqrt(w) a| (Cauchy and Schwarz). Another rounding is for the double sum, which is
  /// within rank * 2^-53 of the exact one. Factors below f32's normal range count as its smallest.
  std::span<const float> row_bounds() const noexcept { return row_bounds_; }
  std::span<const float> column_bounds() const noexcept { return column_bounds_; }

 private:
  std::vector<float> b_;  // [rows, rank]: of all terms, side by side, with their scales
  PackedPanels<float> a_;
  std::vector<float> row_bounds_, column_bounds_;
};

/// A delta of products: `first`, or first times `second` element by element.
struct QuickDelta {
  NarrowProduct first;
  std::optional<NarrowProduct> second = std::nullopt;

  /// Adds the delta in double to `values`, the weight's at `places`, whose rows are counted from the first that is read.
  using Exact = std::function<void(std::span<const ElementPlace> places, std::span<double> values)>;

  /// SelfRounding::read_rounded() of weight + delta for f16 and bf16: false too if more than one in 64 codes is uncertain,
  /// or an end of an interval is not finite, and where sums are asked for and deltas are too small for f32.
  bool read_rounded(const LazyTensor& weight, DType dtype, RowRange rows, std::span<std::byte> bytes,
                    std::span<RowSums> sums, const Exact& exact) const;
  /// Whether the first rows of weight + delta can be read so, as f16.
  bool pays_off(const LazyTensor& weight) const;
};

}  // namespace ropewalk
