#include <Eigen/LU>
#include <algorithm>
#include <cmath>

#include "lib/adapters/adapter_recipes.h"
#include "lib/adapters/changed_tensor.h"
#include "lib/adapters/sum_of_squares.h"

namespace ropewalk {
namespace {

using Matrix = Eigen::MatrixXd;

/// R of one block, from the upper triangle of Q.
Matrix rotation_of(const double* upper, std::uint64_t size, std::optional<int> neumann_terms) {
  const auto n = static_cast<Eigen::Index>(size);
  Matrix q = Matrix::Zero(n, n);
  for (Eigen::Index row = 0; row < n; ++row)
    for (Eigen::Index column = row + 1; column < n; ++column) {
      q(row, column) = *upper;
      q(column, row) = -*upper++;
    }
  const Matrix one = Matrix::Identity(n, n);
  if (!neumann_terms) return (one + q).partialPivLu().solve(one - q);  // they commute: on either side
  Matrix r = one;
  if (*neumann_terms > 1) r += 2 * q;
  if (*neumann_terms > 2) {
    Matrix power = q * q;
    r += 2 * power;
    for (int term = 3; term < *neumann_terms - 1; ++term) {
      power = (power * q).eval();
      r += 2 * power;
    }
    r += power * q;
  }
  return r;
}

using Blocks = std::vector<Matrix>;
class BlockRotated final : public ChangedTensor<Blocks> {
 public:
  BlockRotated(TensorPtr weight, const BlockRotation& rotation)
      : ChangedTensor(weight->info(), weight,
                      rotation.skew->info().rows() * rotation.block_size * rotation.block_size * sizeof(double)),
        rotation_(rotation) {}

 protected:
  Blocks make() const override {
    const std::vector<double> upper = read_whole(*rotation_.skew);
    Blocks blocks;
    for (std::uint64_t block = 0; block < rotation_.skew->info().rows(); ++block)
      blocks.push_back(rotation_of(upper.data() + block * rotation_.skew->info().columns(), rotation_.block_size,
                                   rotation_.neumann_terms));
    return blocks;
  }
  void change(const Blocks& blocks, RowRange rows, std::span<double> values) const override {
    const std::uint64_t columns = info().columns(), size = rotation_.block_size;
    std::vector<double> turned(size);
    for (std::uint64_t row = 0; row < rows.size(); ++row)
      for (std::uint64_t block = 0; block < columns / size; ++block) {
        const Matrix& r = blocks[blocks.size() == 1 ? 0 : block];
        double* w = values.data() + row * columns + block * size;  // w[row, block]
        std::fill(turned.begin(), turned.end(), 0.0);
        for (std::uint64_t from = 0; from < size; ++from) {
          const double* column = r.data() + from * size;  // r[:, from], as Eigen stores it
          for (std::uint64_t to = 0; to < size; ++to) turned[to] += column[to] * w[from];
        }
        std::copy(turned.begin(), turned.end(), w);
      }
  }

 private:
  BlockRotation rotation_;
};

/// Unit vectors, [rank, in].
using Vectors = std::vector<std::vector<double>>;
class Reflected final : public ChangedTensor<Vectors> {
 public:
  Reflected(TensorPtr weight, TensorPtr u, bool orthogonalised)
      : ChangedTensor(weight->info(), weight, u->info().elements() * sizeof(double)),
        u_(std::move(u)),
        orthogonalised_(orthogonalised) {}

 protected:
  Vectors make() const override {
    const std::vector<double> u = read_whole(*u_);  // [in, rank]
    const std::uint64_t n = u_->info().rows(), rank = u_->info().columns();
    Vectors vectors(rank, std::vector<double>(n));
    for (std::uint64_t k = 0; k < rank; ++k) {
      std::vector<double>& v = vectors[k];
      for (std::uint64_t c = 0; c < n; ++c) v[c] = u[c * rank + k];
      for (std::uint64_t j = 0; orthogonalised_ && j < k; ++j) {
        const double along = dot(vectors[j], v.data());
        for (std::uint64_t c = 0; c < n; ++c) v[c] -= along * vectors[j][c];
      }
      const double norm = std::sqrt(sum_of_squares(n, [&](std::size_t c) { return v[c]; }));
      if (norm == 0)
        throw Error(ErrorKind::bad_input, {.path = std::string(u_->file())},
                    "'" + u_->name() + "': column " + std::to_string(k) + " is zero" +
                        (orthogonalised_ ? " beside those before it" : "") + ", expected a direction",
                    "the adapter is damaged: take another checkpoint of it");
      for (double& x : v) x /= norm;
    }
    return vectors;
  }
  void change(const Vectors& vectors, RowRange rows, std::span<double> values) const override {
    const std::uint64_t columns = info().columns();
    for (std::uint64_t row = 0; row < rows.size(); ++row) {
      double* w = values.data() + row * columns;  // w[row, :]
      // orthogonal vectors: the reflections, one after the other, are I - 2 U U^T
      for (const std::vector<double>& u : vectors) {
        const double twice = 2 * dot(u, w);
        for (std::uint64_t c = 0; c < columns; ++c) w[c] -= twice * u[c];
      }
    }
  }

 private:
  static double dot(const std::vector<double>& a, const double* b) {
    return sum_in_lanes(a.size(), [&](std::size_t c) { return a[c] * b[c]; });
  }
  TensorPtr u_;
  bool orthogonalised_;
};

}  // namespace

TensorPtr with_block_rotation(TensorPtr weight, const BlockRotation& rotation) {
  const std::vector<std::uint64_t>&skew = rotation.skew->info().shape, &shape = weight->info().shape;
  const std::uint64_t size = rotation.block_size;
  if (shape.size() != 2 || skew.size() != 2 || size < 1 || shape[1] % size != 0 ||
      (skew[0] != 1 && skew[0] != shape[1] / size) || skew[1] != size * (size - 1) / 2)
    fail_shape(*weight, *rotation.skew,
               "triangles of blocks of " + std::to_string(size) + ", which divide its columns,");
  return std::make_shared<BlockRotated>(std::move(weight), rotation);
}

TensorPtr with_reflections(TensorPtr weight, TensorPtr u, bool orthogonalised) {
  if (weight->info().shape.size() != 2 || u->info().shape.size() != 2 || u->info().shape[0] != weight->info().columns())
    fail_shape(*weight, *u, "[" + std::to_string(weight->info().columns()) + ", rank]");
  return std::make_shared<Reflected>(std::move(weight), std::move(u), orthogonalised);
}

}  // namespace ropewalk
