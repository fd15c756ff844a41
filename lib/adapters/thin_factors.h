#pragma once

#include <Eigen/Core>
#include <cstdint>
#include <functional>
#include <string>

#include "lib/lazy_tensor.h"

namespace ropewalk {

// Deltas as products of two thin matrices, in double. For .cpp files of this folder: the one header with Eigen in it.

using WideMatrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// All of a matrix.
WideMatrix wide_matrix(const LazyTensor& tensor);

struct ThinFactors {
  WideMatrix a, b;  // [rank, in], [out, rank]
};

/// splitmix64 of a counter: a number for each that depends on nothing else.
std::uint64_t mixed(std::uint64_t x);

/// The part of `delta` with its `rank` largest singular values, b = U S, a = V^T: by the eigenvectors of its smaller side.
ThinFactors cut(const WideMatrix& delta, std::uint64_t rank);
/// The same of a delta that is b a: through the thin factors' QR.
ThinFactors cut(const ThinFactors& whole, std::uint64_t rank);
/// The same of a large delta, by block Krylov iteration (arXiv:1504.05477v4, algorithm 2) until another block adds less
/// than 1e-10 to the squares that are kept; with as many vectors as the smaller side has, it is exact. `stream` chooses the
/// first block.
ThinFactors cut_by_iteration(const WideMatrix& delta, std::uint64_t rank, std::uint64_t stream);
/// The Frobenius norm of b a.
double product_norm(const ThinFactors& factors);

/// The two factors as tensors that are computed together when the first is prepared, and dropped when both have been
/// released. `bytes`: what that costs.
struct FactorTensors {
  TensorPtr a, b;
};
FactorTensors computed_factors(TensorInfo a, TensorInfo b, const std::string& file, std::uint64_t bytes,
                               std::function<ThinFactors()> make);

}  // namespace ropewalk
