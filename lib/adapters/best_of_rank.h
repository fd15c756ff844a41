#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "lib/recipes.h"

namespace ropewalk {

/// Frobenius norms of a delta, and of what its approximation leaves out, rounding to the factors' type included.
struct CutNorms {
  double delta = 0, error = 0;
};
/// b a, the best approximation of a delta by a product of that rank (Eckart and Young), the roots of the singular values
/// on both sides. Computed when a factor is prepared; the norms are there afterwards.
struct BestOfRank {
  TensorPtr a, b;  // [rank, in], [out, rank]; past the delta's own rank rows and columns are zero
  std::shared_ptr<const std::optional<CutNorms>> norms;
};
/// What the factors are: names and type. Error(bad_input) naming the tensor, when they are computed, for values that are
/// not finite.
struct FactorTypes {
  std::string a, b;
  std::uint64_t rank;
  DType dtype;
};
/// Of scale * b a.
BestOfRank best_of_rank(const LowRankTerm& whole, const FactorTypes& types);
/// Of tuned - base, matrices of one shape. Memory while it is computed: the difference in double and some of its size.
BestOfRank best_difference_of_rank(const TensorPtr& tuned, const TensorPtr& base, const FactorTypes& types);

/// scale * parent.
TensorPtr scaled(TensorPtr parent, double scale);
/// The same numbers in the same places.
bool same_values(const LazyTensor& a, const LazyTensor& b);

}  // namespace ropewalk
