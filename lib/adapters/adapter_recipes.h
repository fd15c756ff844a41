#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "lib/lazy_tensor.h"
#include "lib/recipes.h"

namespace ropewalk {

// What adapters do to a tensor beside W + scale B A (recipes.h), each as one recipe. All are evaluated in double and wide;
// whoever reads rounds once. Each checks the shapes it is given, Error(bad_input) naming both tensors, and refuses, when
// it is read, an infinity or NaN that it makes of a finite value.

/// [columns, rows] of a matrix [rows, columns]: for factors, prepare() holds all of it.
TensorPtr transposed(TensorPtr parent);

/// W + scale * D. `delta` has the shape of `weight`.
TensorPtr with_delta(TensorPtr weight, TensorPtr delta, double scale);

/// W + part * (changed - W): a change that is no multiple of a delta, taken in part.
TensorPtr with_part_of(TensorPtr weight, TensorPtr changed, double part);

/// `weight` whose rows `indices` are those of `rows` [indices.size(), columns], in that order. Error(bad_input) for an index
/// past the last row or named twice.
TensorPtr with_rows(TensorPtr weight, std::vector<std::uint64_t> indices, TensorPtr rows);

/// The first `rows` rows of a tensor that has more, or its rows and zeros below.
TensorPtr with_row_count(TensorPtr parent, std::uint64_t rows);

enum class Axis { rows, columns };

/// DoRA (arXiv:2402.09353v6, eq. 5): each row (or column) of `weight`, which holds W + dW, scaled to the length that
/// `magnitudes` gives it: m / |v| * v. Of columns the norms are one pass over the weight, in prepare(). A row without length
/// is Error(bad_input).
TensorPtr with_magnitudes(TensorPtr weight, TensorPtr magnitudes, Axis axis);

/// Row r times factors[r], or column c times factors[c]: IA3 (arXiv:2205.05638v2), and factors of VeRA and AdaLoRA. `factors`
/// has as many elements, in whatever shape.
TensorPtr with_factors(TensorPtr parent, TensorPtr factors, Axis axis);

/// `count` rows or columns from `first` on, each `step` after the one before.
struct Slice {
  std::uint64_t first, count, step = 1;
};
/// What lies in both slices of a matrix that has them whole; rows in step 1.
TensorPtr part_of(TensorPtr matrix, Slice rows, Slice columns);
/// The first `rows` rows and `columns` columns of a matrix that has as many at least.
TensorPtr upper_left(TensorPtr parent, std::uint64_t rows, std::uint64_t columns);

/// A weight [experts, rows, columns] with a low-rank delta for each expert, evaluated as with_low_rank_delta() does.
/// `terms`: one for each expert, b [rows, rank], a [rank, columns]. An expert's factors are read with its first row and
/// dropped after its last: of many experts few are in memory.
TensorPtr with_expert_deltas(TensorPtr weight, std::vector<LowRankTerm> terms);

/// LoHa (arXiv:2108.06098v3): W + scale * (A1 B1) o (A2 B2), products in rank order. a: [out, rank], b: [rank, in].
struct HadamardFactors {
  TensorPtr a1, b1, a2, b2;
};
TensorPtr with_hadamard_delta(TensorPtr weight, const HadamardFactors& factors, double scale);

/// LoKr (arXiv:2309.14859v2): W + scale * (U (x) V), the Kronecker product. Each factor is one matrix, or the product of two
/// (then `second` is not null), in rank order.
struct KroneckerFactor {
  TensorPtr first, second;
};
TensorPtr with_kronecker_delta(TensorPtr weight, const KroneckerFactor& u, const KroneckerFactor& v, double scale);

/// OFT (arXiv:2306.07280v3): W R^T, R block-diagonal over the columns of W. `skew`: the upper triangles of skew-symmetric
/// matrices Q, row by row, [blocks, size (size - 1) / 2]; one block is shared by all places. Exactly R = (I + Q)^-1 (I - Q),
/// or PEFT's `neumann_terms` of the series for (I - Q)^-1 (I + Q), the last power once and not twice (PEFT 0.21.2).
/// `most`: a Q whose Frobenius norm is larger than that over the root of their number is scaled to it (COFT).
struct BlockRotation {
  TensorPtr skew;
  std::uint64_t block_size;
  std::optional<int> neumann_terms;
  std::optional<double> most = std::nullopt;
};
TensorPtr with_block_rotation(TensorPtr weight, const BlockRotation& rotation);

/// BOFT (arXiv:2311.06243v2): W (M_n ... M_1)^T, each M_i a block-diagonal rotation between a permutation and back. `blocks`:
/// [factors, blocks, size, size], of which the skew-symmetric half is Q. Permutations as PEFT 0.21.2 makes them.
TensorPtr with_butterflies(TensorPtr weight, TensorPtr blocks);

/// HRA (arXiv:2405.17484v2): W H_1 H_2 ... H_rank, H_i = I - 2 u_i u_i^T for the columns of u [in, rank] at unit length;
/// orthogonalised: W (I - 2 U U^T) after Gram-Schmidt.
TensorPtr with_reflections(TensorPtr weight, TensorPtr u, bool orthogonalised);

/// W less its `rank` largest singular components: the base as PiSSA (arXiv:2404.02948v4) left it before training. prepare()
/// reads the weight and decomposes a symmetric matrix of its smaller side.
TensorPtr without_largest_components(TensorPtr weight, std::uint64_t rank);
/// W less scale * Q R, the QR decomposition of W cut to `rank` columns and rows: the base as OLoRA (arXiv:2406.01775v1) left
/// it before training. prepare() reads the weight.
TensorPtr without_qr_part(TensorPtr weight, std::uint64_t rank, double scale);

}  // namespace ropewalk
