#include <Eigen/Eigenvalues>
#include <Eigen/QR>
#include <algorithm>

#include "lib/adapters/adapter_recipes.h"
#include "lib/adapters/changed_tensor.h"

namespace ropewalk {
namespace {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

Matrix read_matrix(const LazyTensor& tensor) {
  Matrix matrix(tensor.info().rows(), tensor.info().columns());
  tensor.read_f64({0, tensor.info().rows()}, {matrix.data(), std::size_t(matrix.size())});
  return matrix;
}

/// What is taken from row r is left[r, :] * right.
struct Part {
  Matrix left, right;  // [rows, rank], [rank, columns]
};
class LessPart : public ChangedTensor<Part> {
 public:
  /// `decomposed`: elements of the largest square matrix of the decomposition.
  LessPart(const TensorPtr& weight, std::uint64_t rank, std::uint64_t decomposed)
      : ChangedTensor(weight->info(), weight, bytes(weight->info(), rank, decomposed)), rank_(rank) {}

 protected:
  std::uint64_t rank() const noexcept { return rank_; }
  void change(const Part& part, RowRange rows, std::span<double> values) const override {
    const std::uint64_t columns = info().columns();
    for (std::uint64_t row = rows.begin; row < rows.end; ++row) {
      double* w = values.data() + (row - rows.begin) * columns;  // w[row, :]
      for (std::uint64_t k = 0; k < rank_; ++k) {
        const double factor = part.left(Eigen::Index(row), Eigen::Index(k));
        const double* right = part.right.data() + k * columns;
        for (std::uint64_t c = 0; c < columns; ++c) w[c] -= factor * right[c];
      }
    }
  }

 private:
  static std::uint64_t bytes(const TensorInfo& info, std::uint64_t rank, std::uint64_t decomposed) {
    return (info.elements() + 3 * decomposed + rank * (info.rows() + info.columns())) * sizeof(double);
  }
  std::uint64_t rank_;
};

class LessComponents final : public LessPart {
 public:
  LessComponents(const TensorPtr& weight, std::uint64_t rank)
      : LessPart(weight, rank,
                 std::min(weight->info().rows(), weight->info().columns()) *
                     std::min(weight->info().rows(), weight->info().columns())) {}

 protected:
  /// U_r S_r V_r^T is W V_r V_r^T, or U_r U_r^T W: the vectors of the smaller side are enough, and those are the eigenvectors
  /// of W^T W or W W^T. In double their error is far below the float32 SVD's that trained the adapter.
  Part make() const override {
    const Matrix w = read_matrix(parent());
    const bool tall = w.rows() >= w.cols();
    const Matrix square = tall ? Matrix(w.transpose() * w) : Matrix(w * w.transpose());
    const Eigen::SelfAdjointEigenSolver<Matrix> solver(square);  // values in ascending order
    const Matrix vectors = solver.eigenvectors().rightCols(Eigen::Index(rank()));
    if (tall) return {w * vectors, vectors.transpose()};
    return {vectors, vectors.transpose() * w};
  }
};

class LessQr final : public LessPart {
 public:
  LessQr(const TensorPtr& weight, std::uint64_t rank, double scale) : LessPart(weight, rank, 0), scale_(scale) {}

 protected:
  /// The first columns of Q depend on the first columns of W alone, and R's first rows are Q^T W.
  Part make() const override {
    const Matrix w = read_matrix(parent());
    const auto r = Eigen::Index(rank());
    const Eigen::HouseholderQR<Matrix> qr(w.leftCols(r));
    const Matrix q = qr.householderQ() * Matrix::Identity(w.rows(), r);
    return {q * scale_, q.transpose() * w};
  }

 private:
  double scale_;
};

void check(const LazyTensor& weight, std::uint64_t rank) {
  const TensorInfo& info = weight.info();
  if (info.shape.size() == 2 && rank >= 1 && rank <= std::min(info.rows(), info.columns())) return;
  throw Error(ErrorKind::bad_input, {.path = std::string(weight.file())},
              "tensor '" + info.name + "' of shape " + shape_text(info.shape) + " has no part of rank " +
                  std::to_string(rank) + ", expected at most its smaller side",
              "the adapter was trained on a model of another shape: use that one");
}

}  // namespace

TensorPtr without_largest_components(TensorPtr weight, std::uint64_t rank) {
  check(*weight, rank);
  return std::make_shared<LessComponents>(weight, rank);
}

TensorPtr without_qr_part(TensorPtr weight, std::uint64_t rank, double scale) {
  check(*weight, rank);
  return std::make_shared<LessQr>(weight, rank, scale);
}

}  // namespace ropewalk
