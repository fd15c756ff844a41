#pragma once

#include <memory>
#include <vector>

#include "lib/recipes.h"

namespace ropewalk {

/// A weight with its low-rank terms beside it instead of in it: y = W x + B (A x), as an adapter computes while it is
/// not merged.
struct UnmergedWeight {
  TensorPtr weight;  // W, [out, in]
  // The factors of all terms side by side, f32: a [rank, in], the terms' A one below the other; b [out, rank], each
  // term's scale times its B, one rounding. rank: the sum of the terms'. Reading throws Error(bad_input) naming the
  // element where a scale makes it infinite.
  TensorPtr a, b;
};

/// The weight as a tensor whose rows read as with_low_rank_delta() gives them (wide, before any rounding to the
/// weight's dtype), and which taken_apart() gives back in parts. No terms: the weight itself. Error(bad_input) if the
/// shapes do not fit.
TensorPtr with_unmerged_delta(TensorPtr weight, std::vector<LowRankTerm> terms);

/// The parts of a tensor that with_unmerged_delta() made; nullptr for any other.
std::shared_ptr<const UnmergedWeight> taken_apart(const LazyTensor& tensor);

}  // namespace ropewalk
