#include "lib/adapters/combinations.h"

#include <Eigen/Eigenvalues>
#include <Eigen/QR>
#include <Eigen/SVD>
#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <memory>
#include <mutex>
#include <numeric>
#include <string>
#include <utility>

#include "lib/adapters/changed_tensor.h"
#include "lib/error.h"

namespace ropewalk {
namespace {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

constexpr std::array kNames = {
    std::pair{"linear", Combination::linear},
    std::pair{"cat", Combination::cat},
    std::pair{"svd", Combination::svd},
    std::pair{"ties", Combination::ties},
    std::pair{"ties_svd", Combination::ties_svd},
    std::pair{"dare_linear", Combination::dare_linear},
    std::pair{"dare_linear_svd", Combination::dare_linear_svd},
    std::pair{"dare_ties", Combination::dare_ties},
    std::pair{"dare_ties_svd", Combination::dare_ties_svd},
    std::pair{"magnitude_prune", Combination::magnitude_prune},
    std::pair{"magnitude_prune_svd", Combination::magnitude_prune_svd},
};

bool is_one_of(Combination type, std::initializer_list<Combination> types) {
  return std::find(types.begin(), types.end(), type) != types.end();
}
bool of_whole_deltas(Combination type) {
  return is_one_of(type, {Combination::svd, Combination::ties_svd, Combination::dare_linear_svd,
                          Combination::dare_ties_svd, Combination::magnitude_prune_svd});
}
bool is_dare(Combination type) {
  return is_one_of(type, {Combination::dare_linear, Combination::dare_linear_svd, Combination::dare_ties,
                          Combination::dare_ties_svd});
}
bool is_ties(Combination type) {
  return is_one_of(type,
                   {Combination::ties, Combination::ties_svd, Combination::dare_ties, Combination::dare_ties_svd});
}
bool prunes(Combination type) { return !is_one_of(type, {Combination::linear, Combination::cat, Combination::svd}); }

Matrix matrix_of(const LazyTensor& tensor) {
  const std::vector<double> values = read_whole(tensor);
  return Eigen::Map<const Matrix>(values.data(), Eigen::Index(tensor.info().rows()),
                                  Eigen::Index(tensor.info().columns()));
}

/// All but the `density` largest magnitudes are zero; of equal ones the first stay.
void keep_largest(Matrix& values, double density) {
  if (density >= 1) return;
  std::vector<std::size_t> order(static_cast<std::size_t>(values.size()));
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto kept = static_cast<std::size_t>(density * double(values.size()));
  const double* data = values.data();
  std::nth_element(order.begin(), order.begin() + std::ptrdiff_t(kept), order.end(), [&](std::size_t a, std::size_t b) {
    const double x = std::abs(data[a]), y = std::abs(data[b]);
    return x != y ? x > y : a < b;
  });
  for (std::size_t i = kept; i < order.size(); ++i) values.data()[order[i]] = 0;
}

/// splitmix64 of a counter: a number for each element that depends on nothing else.
std::uint64_t mixed(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}
void keep_some(Matrix& values, double density, std::uint64_t stream) {
  if (density >= 1) return;
  for (Eigen::Index i = 0; i < values.size(); ++i) {
    const double draw = double(mixed(stream + std::uint64_t(i) * 0x2545f4914f6cdd1d) >> 11) * 0x1p-53;
    double& x = values.data()[i];
    x = draw < density ? x / density : 0;
  }
}

/// Task tensors of one shape, pruned and added as `options` say.
Matrix added(std::vector<Matrix> tasks, const std::vector<double>& weights, const CombineOptions& options,
             std::uint64_t stream) {
  for (std::size_t t = 0; prunes(options.type) && t < tasks.size(); ++t)
    if (is_dare(options.type)) keep_some(tasks[t], *options.density, mixed(stream + t));
    else keep_largest(tasks[t], *options.density);
  Matrix sum = Matrix::Zero(tasks.front().rows(), tasks.front().cols());
  const auto sign = [](double x) { return x > 0 ? 1.0 : x < 0 ? -1.0 : 0.0; };
  for (Eigen::Index i = 0; i < sum.size(); ++i) {
    double total = 0, votes = 0, kept = 0;
    for (const Matrix& task : tasks) votes += options.sign_by_count ? sign(task.data()[i]) : task.data()[i];
    for (std::size_t t = 0; t < tasks.size(); ++t) {
      const double x = tasks[t].data()[i];
      if (is_ties(options.type) && sign(x) != (votes >= 0 ? 1.0 : -1.0)) continue;
      total += x * weights[t];
      kept += 1;
    }
    sum.data()[i] = is_ties(options.type) ? total / std::max(kept, 1.0) : total;
  }
  return sum;
}

struct Factors {
  Matrix a, b;  // [rank, in], [out, rank]
};

/// b a with the `rank` largest singular values of delta, b = U S, a = V^T: by the eigenvectors of its smaller side.
Factors cut(const Matrix& delta, std::uint64_t rank) {
  const bool tall = delta.rows() >= delta.cols();
  const auto r = Eigen::Index(std::min<std::uint64_t>(rank, std::uint64_t(std::min(delta.rows(), delta.cols()))));
  const Matrix square = tall ? Matrix(delta.transpose() * delta) : Matrix(delta * delta.transpose());
  const Matrix vectors = Eigen::SelfAdjointEigenSolver<Matrix>(square).eigenvectors().rightCols(r).rowwise().reverse();
  if (tall) return {vectors.transpose(), delta * vectors};
  Factors out{vectors.transpose() * delta, vectors};
  for (Eigen::Index k = 0; k < r; ++k) {
    const double size = out.a.row(k).norm();
    if (size == 0) continue;
    out.a.row(k) /= size;
    out.b.col(k) *= size;
  }
  return out;
}

/// The same of a delta that is b a: through the thin factors' QR.
Factors cut(const Factors& whole, std::uint64_t rank) {
  const Eigen::HouseholderQR<Matrix> left(whole.b), right(whole.a.transpose());
  const auto k_left = std::min(whole.b.rows(), whole.b.cols()), k_right = std::min(whole.a.rows(), whole.a.cols());
  const Matrix q_left = left.householderQ() * Matrix::Identity(whole.b.rows(), k_left),
               q_right = right.householderQ() * Matrix::Identity(whole.a.cols(), k_right),
               r_left = left.matrixQR().topRows(k_left).triangularView<Eigen::Upper>(),
               r_right = right.matrixQR().topRows(k_right).triangularView<Eigen::Upper>();
  const Eigen::JacobiSVD<Eigen::MatrixXd> svd(Eigen::MatrixXd(r_left * r_right.transpose()),
                                              Eigen::ComputeThinU | Eigen::ComputeThinV);
  const auto r = std::min(Eigen::Index(rank), svd.singularValues().size());
  return {(q_right * svd.matrixV().leftCols(r)).transpose(),
          q_left * (svd.matrixU().leftCols(r) * svd.singularValues().head(r).asDiagonal())};
}

/// Values past the quantile of all of them, either sign, are cut there: torch.quantile, between neighbours linearly.
void clamp(Factors& factors, double quantile) {
  std::vector<double> all(factors.b.data(), factors.b.data() + factors.b.size());
  all.insert(all.end(), factors.a.data(), factors.a.data() + factors.a.size());
  if (all.empty()) return;
  std::sort(all.begin(), all.end());
  const double at = quantile * double(all.size() - 1), below = std::floor(at);
  const double low = all[std::size_t(below)], high = all[std::min(std::size_t(below) + 1, all.size() - 1)];
  const double most = low + (at - below) * (high - low);
  for (Matrix* matrix : {&factors.a, &factors.b}) *matrix = matrix->cwiseMax(-most).cwiseMin(most);
}

Factors concatenated(const std::vector<WeightedTerm>& terms) {
  Eigen::Index rank = 0, at = 0;
  for (const WeightedTerm& one : terms) rank += Eigen::Index(one.term.a->info().rows());
  Factors all{Matrix(rank, Eigen::Index(terms.front().term.a->info().columns())),
              Matrix(Eigen::Index(terms.front().term.b->info().rows()), rank)};
  for (const WeightedTerm& one : terms) {
    const auto own = Eigen::Index(one.term.a->info().rows());
    all.a.middleRows(at, own) = matrix_of(*one.term.a) * (one.weight * one.term.scale);
    all.b.middleCols(at, own) = matrix_of(*one.term.b);
    at += own;
  }
  return all;
}

Factors combine(const std::vector<WeightedTerm>& terms, const CombineOptions& options, std::uint64_t stream) {
  if (options.type == Combination::cat) return concatenated(terms);
  if (of_whole_deltas(options.type)) {
    std::uint64_t rank = 0;
    for (const WeightedTerm& one : terms) rank = std::max(rank, one.term.a->info().rows());
    rank = options.rank.value_or(rank);
    Factors out;
    if (options.type == Combination::svd) {
      out = cut(concatenated(terms), rank);
    } else {
      std::vector<Matrix> tasks;
      std::vector<double> weights;
      for (const WeightedTerm& one : terms) {
        tasks.push_back(matrix_of(*one.term.b) * matrix_of(*one.term.a) * one.term.scale);
        weights.push_back(one.weight);
      }
      out = cut(added(std::move(tasks), weights, options, stream), rank);
    }
    if (options.clamp) clamp(out, *options.clamp);
    return out;
  }
  std::vector<Matrix> a, b;
  std::vector<double> weights_a, weights_b;
  for (const WeightedTerm& one : terms) {
    const double weight = one.weight * one.term.scale, root = std::sqrt(std::abs(weight));
    weights_a.push_back(weight >= 0 ? root : -root);
    weights_b.push_back(root);
    a.push_back(matrix_of(*one.term.a));
    b.push_back(matrix_of(*one.term.b));
  }
  return {added(std::move(a), weights_a, options, mixed(stream)),
          added(std::move(b), weights_b, options, mixed(stream + 1))};
}

/// Two tensors that are computed together: alive while either is prepared.
class Together {
 public:
  explicit Together(std::function<Factors()> make) : make_(std::move(make)) {}
  std::shared_ptr<const Factors> get() {
    const std::lock_guard lock(mutex_);
    std::shared_ptr<const Factors> now = made_.lock();
    if (!now) made_ = now = std::make_shared<const Factors>(make_());
    return now;
  }

 private:
  std::mutex mutex_;
  std::function<Factors()> make_;
  std::weak_ptr<const Factors> made_;
};
class OneOf final : public LazyTensor {
 public:
  OneOf(TensorInfo info, std::shared_ptr<Together> both, bool is_a, std::string file, std::uint64_t bytes)
      : LazyTensor(std::move(info)), both_(std::move(both)), is_a_(is_a), file_(std::move(file)), bytes_(bytes) {}
  void prepare() const override { (void)now(); }
  std::uint64_t prepared_bytes() const noexcept override { return bytes_; }
  void release() const override {
    const std::lock_guard lock(mutex_);
    now_.reset();
  }
  bool is_wide() const noexcept override { return true; }
  std::string_view file() const noexcept override { return file_; }
  void read_f64(RowRange range, std::span<double> values) const override {
    const auto factors = now();
    const Matrix& own = is_a_ ? factors->a : factors->b;
    std::copy_n(own.data() + range.begin * info().columns(), values.size(), values.begin());
  }
  void read_f32(RowRange range, std::span<float> values) const override {
    std::vector<double> wide(values.size());
    read_f64(range, wide);
    std::transform(wide.begin(), wide.end(), values.begin(), [](double x) { return static_cast<float>(x); });
  }

 private:
  std::shared_ptr<const Factors> now() const {
    const std::lock_guard lock(mutex_);
    if (!now_) now_ = both_->get();
    return now_;
  }
  std::shared_ptr<Together> both_;
  bool is_a_;
  std::string file_;
  std::uint64_t bytes_;
  mutable std::mutex mutex_;
  mutable std::shared_ptr<const Factors> now_;
};

void check(const std::string& name, const std::vector<WeightedTerm>& terms, const CombineOptions& options) {
  const bool same_rank = !of_whole_deltas(options.type) && options.type != Combination::cat;
  const LowRankTerm& first = terms.front().term;
  for (const WeightedTerm& one : terms) {
    const std::vector<std::uint64_t>&a = one.term.a->info().shape, &b = one.term.b->info().shape;
    if (a.size() == 2 && b.size() == 2 && a[1] == first.a->info().shape[1] && b[0] == first.b->info().shape[0] &&
        (!same_rank || a[0] == first.a->info().shape[0]) && a[0] == b[1])
      continue;
    throw Error(ErrorKind::bad_input, {.path = std::string(one.term.a->file())},
                "'" + one.term.a->name() + "' " + shape_text(a) + " and '" + first.a->name() + "' " +
                    shape_text(first.a->info().shape) + " of '" + name +
                    "' cannot be added factor by factor: expected " +
                    (same_rank ? "one rank, as PEFT 0.21.2 does" : "one width"),
                "combine them with cat or svd");
  }
}

}  // namespace

std::optional<Combination> combination_from_name(std::string_view name) {
  for (const auto& [known, type] : kNames)
    if (name == known) return type;
  return std::nullopt;
}

std::vector<std::string> combination_names() {
  std::vector<std::string> names;
  for (const auto& [name, type] : kNames) names.emplace_back(name);
  return names;
}

LowRankTerm combined(const std::string& name, std::vector<WeightedTerm> terms, const CombineOptions& options) {
  if (prunes(options.type) && !options.density)
    throw Error(ErrorKind::usage, {}, "this combination prunes, and no density is given",
                "say which part of the values to keep, 0 to 1");
  check(name, terms, options);
  const std::uint64_t out = terms.front().term.b->info().rows(), in = terms.front().term.a->info().columns();
  std::uint64_t rank = 0, total = 0;
  for (const WeightedTerm& one : terms) {
    rank = std::max(rank, one.term.a->info().rows());
    total += one.term.a->info().rows();
  }
  if (options.type == Combination::cat) rank = total;
  if (of_whole_deltas(options.type)) {
    rank = std::min({options.rank.value_or(rank), out, in});
    if (options.type == Combination::svd) rank = std::min(rank, total);
  }
  std::uint64_t bytes = 2 * (out + in) * total;
  if (of_whole_deltas(options.type) && options.type != Combination::svd)
    bytes += (terms.size() + 2) * out * in + 3 * std::min(out, in) * std::min(out, in);
  std::uint64_t stream = mixed(options.seed);
  for (const char c : name) stream = mixed(stream ^ static_cast<unsigned char>(c));
  const std::string file(terms.front().term.a->file());
  auto both = std::make_shared<Together>(
      [terms = std::move(terms), options, stream] { return combine(terms, options, stream); });
  return {std::make_shared<OneOf>(TensorInfo{name + ".lora_A", {rank, in}, DType::f64}, both, true, file, bytes * 8),
          std::make_shared<OneOf>(TensorInfo{name + ".lora_B", {out, rank}, DType::f64}, both, false, file, 0), 1.0};
}

}  // namespace ropewalk
