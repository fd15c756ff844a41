#include <Eigen/LU>
#include <algorithm>
#include <cmath>
#include <numeric>

#include "lib/adapters/adapter_recipes.h"
#include "lib/adapters/changed_tensor.h"
#include "lib/adapters/sum_of_squares.h"

namespace ropewalk {
namespace {

using Matrix = Eigen::MatrixXd;

/// (I + Q)^-1 (I - Q); the two commute, so on either side.
Matrix cayley(const Matrix& q) {
  const Matrix one = Matrix::Identity(q.rows(), q.cols());
  return (one + q).partialPivLu().solve(one - q);
}

/// R of one block, from the upper triangle of Q.
Matrix rotation_of(const double* upper, std::uint64_t n_blocks, const BlockRotation& rotation) {
  const auto n = static_cast<Eigen::Index>(rotation.block_size);
  const std::optional<int>& neumann_terms = rotation.neumann_terms;
  Matrix q = Matrix::Zero(n, n);
  for (Eigen::Index row = 0; row < n; ++row)
    for (Eigen::Index column = row + 1; column < n; ++column) {
      q(row, column) = *upper;
      q(column, row) = -*upper++;
    }
  if (rotation.most) {
    const double most = *rotation.most / std::sqrt(double(n_blocks)), norm = q.norm();
    if (norm > most) q *= most / norm;
  }
  if (!neumann_terms) return cayley(q);
  const Matrix one = Matrix::Identity(n, n);
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

/// One block of a row, turned; `turned`: room for it.
void turn(const Matrix& r, double* w, std::vector<double>& turned) {
  const auto size = static_cast<std::size_t>(r.rows());
  turned.assign(size, 0.0);
  for (std::size_t from = 0; from < size; ++from) {
    const double* column = r.data() + from * size;  // r[:, from], as Eigen stores it
    for (std::size_t to = 0; to < size; ++to) turned[to] += column[to] * w[from];
  }
  std::copy(turned.begin(), turned.end(), w);
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
    const std::uint64_t n_blocks = rotation_.skew->info().rows();
    for (std::uint64_t block = 0; block < n_blocks; ++block)
      blocks.push_back(rotation_of(upper.data() + block * rotation_.skew->info().columns(), n_blocks, rotation_));
    return blocks;
  }
  void change(const Blocks& blocks, RowRange rows, std::span<double> values) const override {
    const std::uint64_t columns = info().columns(), size = rotation_.block_size;
    std::vector<double> turned;
    for (std::uint64_t row = 0; row < rows.size(); ++row)
      for (std::uint64_t block = 0; block < columns / size; ++block)
        turn(blocks[blocks.size() == 1 ? 0 : block], values.data() + row * columns + block * size, turned);
  }

 private:
  BlockRotation rotation_;
};

/// Which channel stands at each place before the blocks of butterfly `factor` turn them: halves of blocks, the even ones of a
/// group of them before the odd ones. Groups double from one butterfly to the next; a single one leaves all in place.
std::vector<std::size_t> butterfly_order(std::size_t channels, std::size_t n_blocks, std::size_t factor,
                                         std::size_t n_factors) {
  std::vector<std::size_t> order(channels);
  std::iota(order.begin(), order.end(), std::size_t{0});
  if (n_factors == 1) return order;
  const std::size_t group = channels / (n_blocks >> factor), half = channels / n_blocks / 2, n_halves = group / half;
  for (std::size_t place = 0; place < channels; ++place) {
    const std::size_t within = place % group / half, evens = (n_halves + 1) / 2;
    const std::size_t from = within < evens ? 2 * within : 2 * (within - evens) + 1;
    order[place] = place / group * group + from * half + place % half;
  }
  return order;
}

struct Butterfly {
  Blocks blocks;
  std::vector<std::size_t> order;
};
using Butterflies = std::vector<Butterfly>;
class ButterflyRotated final : public ChangedTensor<Butterflies> {
 public:
  ButterflyRotated(TensorPtr weight, TensorPtr blocks)
      : ChangedTensor(weight->info(), weight, 2 * blocks->info().elements() * sizeof(double)),
        blocks_(std::move(blocks)) {}

 protected:
  Butterflies make() const override {
    const std::vector<std::uint64_t>& shape = blocks_->info().shape;
    const std::vector<double> all = read_whole(*blocks_);
    const auto size = static_cast<Eigen::Index>(shape[2]);
    Butterflies made(shape[0]);
    const double* at = all.data();
    for (std::size_t factor = 0; factor < shape[0]; ++factor) {
      made[factor].order = butterfly_order(info().columns(), shape[1], factor, shape[0]);
      for (std::uint64_t block = 0; block < shape[1]; ++block, at += size * size) {
        const Matrix r = Eigen::Map<const Matrix>(at, size, size).transpose();  // Eigen's columns are the file's rows
        made[factor].blocks.push_back(cayley(0.5 * (r - r.transpose())));
      }
    }
    return made;
  }
  /// Each row w becomes P B P^T w: place order[i] of P^T w is channel i of w.
  void change(const Butterflies& butterflies, RowRange rows, std::span<double> values) const override {
    const std::uint64_t columns = info().columns();
    std::vector<double> placed(columns), turned;
    for (std::uint64_t row = 0; row < rows.size(); ++row) {
      double* w = values.data() + row * columns;  // w[row, :]
      for (const Butterfly& one : butterflies) {
        const std::size_t size = columns / one.blocks.size();
        for (std::size_t c = 0; c < columns; ++c) placed[one.order[c]] = w[c];
        for (std::size_t block = 0; block < one.blocks.size(); ++block)
          turn(one.blocks[block], placed.data() + block * size, turned);
        for (std::size_t c = 0; c < columns; ++c) w[c] = placed[one.order[c]];
      }
    }
  }

 private:
  TensorPtr blocks_;
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

TensorPtr with_butterflies(TensorPtr weight, TensorPtr blocks) {
  const std::vector<std::uint64_t>&shape = blocks->info().shape, &whole = weight->info().shape;
  bool fits = shape.size() == 4 && whole.size() == 2 && shape[0] >= 1 && shape[1] >= 1 && shape[2] == shape[3] &&
              whole[1] % shape[1] == 0 && whole[1] / shape[1] == shape[2];
  // groups of blocks double with each butterfly, and are cut into halves of blocks
  if (fits && shape[0] > 1)
    fits = shape[0] <= 32 && shape[2] % 2 == 0 && shape[1] % (std::uint64_t{1} << (shape[0] - 1)) == 0;
  if (!fits) fail_shape(*weight, *blocks, "[butterflies, blocks, size, size], blocks times size its columns,");
  return std::make_shared<ButterflyRotated>(std::move(weight), std::move(blocks));
}

TensorPtr with_reflections(TensorPtr weight, TensorPtr u, bool orthogonalised) {
  if (weight->info().shape.size() != 2 || u->info().shape.size() != 2 || u->info().shape[0] != weight->info().columns())
    fail_shape(*weight, *u, "[" + std::to_string(weight->info().columns()) + ", rank]");
  return std::make_shared<Reflected>(std::move(weight), std::move(u), orthogonalised);
}

}  // namespace ropewalk
