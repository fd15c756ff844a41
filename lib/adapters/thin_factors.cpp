#include "lib/adapters/thin_factors.h"

#include <Eigen/Eigenvalues>
#include <Eigen/QR>
#include <Eigen/SVD>
#include <algorithm>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace ropewalk {
namespace {

using Solver = Eigen::SelfAdjointEigenSolver<WideMatrix>;  // values in ascending order

/// Thin: q has orthonormal columns, r is a triangle.
struct Decomposed {
  WideMatrix q, r;
  explicit Decomposed(const WideMatrix& matrix) {
    const Eigen::HouseholderQR<WideMatrix> qr(matrix);
    const Eigen::Index rank = std::min(matrix.rows(), matrix.cols());
    q = qr.householderQ() * WideMatrix::Identity(matrix.rows(), rank);
    r = qr.matrixQR().topRows(rank).triangularView<Eigen::Upper>();
  }
};

void append_columns(WideMatrix& all, const WideMatrix& more) {
  const Eigen::Index before = all.cols();
  all.conservativeResize(more.rows(), before + more.cols());
  all.rightCols(more.cols()) = more;
}

WideMatrix random_signs(Eigen::Index rows, Eigen::Index columns, std::uint64_t stream) {
  WideMatrix signs(rows, columns);
  for (Eigen::Index i = 0; i < signs.size(); ++i)
    signs.data()[i] = mixed(stream + std::uint64_t(i) * 0x2545f4914f6cdd1d) >> 63 ? 1 : -1;
  return signs;
}

/// Two tensors that are computed together.
class Together {
 public:
  explicit Together(std::function<ThinFactors()> make) : make_(std::move(make)) {}
  std::shared_ptr<const ThinFactors> get() {
    const std::lock_guard lock(mutex_);
    if (!made_) made_ = std::make_shared<const ThinFactors>(make_()), released_[0] = released_[1] = false;
    return made_;
  }
  void release(bool is_a) {
    const std::lock_guard lock(mutex_);
    released_[is_a] = true;
    if (released_[0] && released_[1]) made_.reset();
  }

 private:
  std::mutex mutex_;
  std::function<ThinFactors()> make_;
  std::shared_ptr<const ThinFactors> made_;
  bool released_[2] = {false, false};
};
class OneOf final : public LazyTensor {
 public:
  OneOf(TensorInfo info, std::shared_ptr<Together> both, bool is_a, std::string file, std::uint64_t bytes)
      : LazyTensor(std::move(info)), both_(std::move(both)), is_a_(is_a), file_(std::move(file)), bytes_(bytes) {}
  void prepare() const override { (void)now(); }
  std::uint64_t prepared_bytes() const noexcept override { return bytes_; }
  void release() const override {
    const std::lock_guard lock(mutex_);
    if (!now_) return;
    now_.reset();
    both_->release(is_a_);
  }
  bool is_wide() const noexcept override { return true; }
  std::string_view file() const noexcept override { return file_; }
  void read_f64(RowRange range, std::span<double> values) const override {
    const auto factors = now();
    const WideMatrix& own = is_a_ ? factors->a : factors->b;
    std::copy_n(own.data() + range.begin * info().columns(), values.size(), values.begin());
  }
  void read_f32(RowRange range, std::span<float> values) const override {
    std::vector<double> wide(values.size());
    read_f64(range, wide);
    std::transform(wide.begin(), wide.end(), values.begin(), [](double x) { return static_cast<float>(x); });
  }

 private:
  std::shared_ptr<const ThinFactors> now() const {
    const std::lock_guard lock(mutex_);
    if (!now_) now_ = both_->get();
    return now_;
  }
  std::shared_ptr<Together> both_;
  bool is_a_;
  std::string file_;
  std::uint64_t bytes_;
  mutable std::mutex mutex_;
  mutable std::shared_ptr<const ThinFactors> now_;
};

}  // namespace

WideMatrix wide_matrix(const LazyTensor& tensor) {
  WideMatrix matrix(Eigen::Index(tensor.info().rows()), Eigen::Index(tensor.info().columns()));
  tensor.prepare();
  tensor.read_f64({0, tensor.info().rows()}, {matrix.data(), std::size_t(matrix.size())});
  tensor.release();
  return matrix;
}

std::uint64_t mixed(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

ThinFactors cut(const WideMatrix& delta, std::uint64_t rank) {
  const bool tall = delta.rows() >= delta.cols();
  const auto r = Eigen::Index(std::min<std::uint64_t>(rank, std::uint64_t(std::min(delta.rows(), delta.cols()))));
  const WideMatrix square = tall ? WideMatrix(delta.transpose() * delta) : WideMatrix(delta * delta.transpose());
  const WideMatrix vectors = Solver(square).eigenvectors().rightCols(r).rowwise().reverse();
  if (tall) return {vectors.transpose(), delta * vectors};
  ThinFactors out{vectors.transpose() * delta, vectors};
  for (Eigen::Index k = 0; k < r; ++k) {
    const double size = out.a.row(k).norm();
    if (size == 0) continue;
    out.a.row(k) /= size;
    out.b.col(k) *= size;
  }
  return out;
}

ThinFactors cut(const ThinFactors& whole, std::uint64_t rank) {
  const Decomposed left(whole.b), right(whole.a.transpose());
  const Eigen::JacobiSVD<Eigen::MatrixXd> svd(Eigen::MatrixXd(left.r * right.r.transpose()),
                                              Eigen::ComputeThinU | Eigen::ComputeThinV);
  const auto r = std::min(Eigen::Index(rank), svd.singularValues().size());
  return {(right.q * svd.matrixV().leftCols(r)).transpose(),
          left.q * (svd.matrixU().leftCols(r) * svd.singularValues().head(r).asDiagonal())};
}

ThinFactors cut_by_iteration(const WideMatrix& delta, std::uint64_t rank, std::uint64_t stream) {
  const bool tall = delta.rows() >= delta.cols();
  const Eigen::Index side = std::min(delta.rows(), delta.cols());
  const Eigen::Index r = std::min(Eigen::Index(rank), side), width = std::min(r + 8, side);
  WideMatrix block = Decomposed(random_signs(side, width, stream)).q;
  WideMatrix basis(side, 0), images(tall ? delta.rows() : delta.cols(), 0);  // images = delta basis, or delta^T basis
  WideMatrix vectors;
  for (double kept = -1;;) {
    const WideMatrix image = tall ? WideMatrix(delta * block) : WideMatrix(delta.transpose() * block);
    append_columns(basis, block);
    append_columns(images, image);
    const Solver solver(WideMatrix(images.transpose() * images));
    const double now = solver.eigenvalues().tail(r).sum();
    vectors = solver.eigenvectors().rightCols(r).rowwise().reverse();
    if (basis.cols() == side || now <= kept * (1 + 1e-10)) break;
    kept = now;
    block = tall ? WideMatrix(delta.transpose() * image) : WideMatrix(delta * image);
    block = WideMatrix(block.leftCols(std::min(width, side - basis.cols())));
    for (int again = 0; again < 2; ++again) {  // once leaves the rounding of what was taken out
      block -= basis * (basis.transpose() * block);
      block = Decomposed(block).q;
    }
  }
  const WideMatrix inner = basis * vectors, outer = images * vectors;
  if (tall) return {inner.transpose(), outer};
  return {outer.transpose(), inner};
}

double product_norm(const ThinFactors& factors) {
  return (Decomposed(factors.b).r * Decomposed(factors.a.transpose()).r.transpose()).norm();
}

FactorTensors computed_factors(TensorInfo a, TensorInfo b, const std::string& file, std::uint64_t bytes,
                               std::function<ThinFactors()> make) {
  auto both = std::make_shared<Together>(std::move(make));
  return {std::make_shared<OneOf>(std::move(a), both, true, file, bytes),
          std::make_shared<OneOf>(std::move(b), both, false, file, 0)};
}

}  // namespace ropewalk
