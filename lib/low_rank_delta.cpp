#include <cmath>
#include <cstring>
#include <mutex>
#include <numeric>
#include <string>
#include <utility>

#include "lib/convert.h"
#include "lib/convert_simd.h"
#include "lib/error.h"
#include "lib/forwarding_tensor.h"
#include "lib/low_rank_kernel.h"
#include "lib/recipes.h"

namespace ropewalk {
namespace {

// Rows times columns per kernel call: with the panels of A streaming past, doubles of this many elements stay in the
// second cache.
constexpr std::uint64_t kChunk = std::uint64_t{32} << 10;
constexpr std::uint64_t kTileRows = 8;  // of the kernel

struct Factors {
  std::vector<double> b;  // [out, rank]
  PackedFactor a;
  double scale;
  bool exact_products;
};

std::vector<double> read_whole(const LazyTensor& tensor) {
  std::vector<double> values(tensor.info().elements());
  tensor.read_f64({0, tensor.info().rows()}, values);
  return values;
}

Factors read_factors(const LowRankTerm& term) {
  term.a->prepare();
  term.b->prepare();
  const TensorInfo& a = term.a->info();
  Factors factors{read_whole(*term.b), PackedFactor(read_whole(*term.a), a.rows(), a.columns()), term.scale,
                  !term.a->is_wide() && !term.b->is_wide()};
  term.a->release();
  term.b->release();
  return factors;
}

class LowRankDelta final : public ForwardingTensor {
 public:
  LowRankDelta(TensorInfo info, TensorPtr weight, std::vector<LowRankTerm> terms)
      : ForwardingTensor(std::move(info), std::move(weight)), terms_(std::move(terms)) {}

  std::uint64_t row_unit() const noexcept override { return std::lcm(parent().row_unit(), kTileRows); }

  void prepare() const override {
    ForwardingTensor::prepare();
    prepared();
  }
  std::uint64_t prepared_bytes() const noexcept override {
    std::uint64_t bytes = parent().prepared_bytes();
    for (const LowRankTerm& term : terms_)
      bytes += PackedFactor::bytes(term.a->info().rows(), term.a->info().columns()) +
               term.b->info().elements() * sizeof(double);
    return bytes;
  }
  void release() const override {
    ForwardingTensor::release();
    const std::lock_guard lock(mutex_);
    factors_.reset();
  }

  bool is_wide() const noexcept override { return true; }

  void read_f64(RowRange range, std::span<double> values) const override {
    const auto factors = prepared();
    const std::uint64_t columns = info().columns();
    for_each_chunk(*this, range, kChunk, [&](RowRange chunk) {
      const std::span out = values.subspan((chunk.begin - range.begin) * columns, chunk.size() * columns);
      parent().read_f64(chunk, out);
      for (const Factors& term : *factors) {
        const std::uint64_t rank = term.a.rank();
        add_low_rank_product(std::span(term.b).subspan(chunk.begin * rank, chunk.size() * rank), term.a, term.scale,
                             term.exact_products, out);
      }
      if (!std::isfinite(largest_magnitude(std::span<const double>(out)))) refuse_created(chunk, out);
    });
  }
  void read_f32(RowRange range, std::span<float> values) const override {
    const std::uint64_t columns = info().columns();
    std::vector<double> wide;
    for_each_chunk(*this, range, kChunk, [&](RowRange chunk) {
      wide.resize(chunk.size() * columns);
      read_f64(chunk, wide);
      simd::f64_to_f32(wide.data(), values.data() + (chunk.begin - range.begin) * columns, wide.size());
    });
  }

 private:
  using AllFactors = std::vector<Factors>;

  /// The base's own infinities and NaN pass; one that the terms made of a finite value is an error.
  void refuse_created(RowRange rows, std::span<const double> values) const {
    std::vector<double> base(values.size());
    parent().read_f64(rows, base);
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (std::isfinite(values[i]) || !std::isfinite(base[i])) continue;
      throw Error(ErrorKind::bad_input, {.path = std::string(file())},
                  "tensor '" + name() + "': " + element_place(info(), rows.begin, i) + ": the merge makes " +
                      (std::isnan(values[i]) ? "NaN" : "an infinity") + " of a finite value",
                  "the adapter's scale is too large or its weights are damaged: give a smaller scale or another "
                  "checkpoint of it");
    }
  }

  // Readers keep what they use: a release() meanwhile only drops our own share.
  std::shared_ptr<const AllFactors> prepared() const {
    const std::lock_guard lock(mutex_);
    if (!factors_) {
      auto all = std::make_shared<AllFactors>();
      all->reserve(terms_.size());
      for (const LowRankTerm& term : terms_) all->push_back(read_factors(term));
      factors_ = std::move(all);
    }
    return factors_;
  }

  std::vector<LowRankTerm> terms_;
  mutable std::mutex mutex_;
  mutable std::shared_ptr<const AllFactors> factors_;
};

void check(const LazyTensor& weight, const LowRankTerm& term) {
  const TensorInfo &w = weight.info(), &a = term.a->info(), &b = term.b->info();
  if (w.shape.size() == 2 && a.shape.size() == 2 && b.shape.size() == 2 && b.rows() == w.rows() &&
      a.columns() == w.columns() && b.columns() == a.rows())
    return;
  throw Error(ErrorKind::bad_input, {.path = std::string(term.a->file())},
              "tensor '" + weight.name() + "' of shape " + shape_text(weight.info().shape) +
                  " does not fit the product of '" + term.b->name() + "' " + shape_text(term.b->info().shape) +
                  " and '" + term.a->name() + "' " + shape_text(term.a->info().shape),
              "the adapter was trained on a model of another shape: use that one");
}

}  // namespace

TensorPtr with_low_rank_delta(TensorPtr weight, std::vector<LowRankTerm> terms) {
  for (const LowRankTerm& term : terms) check(*weight, term);
  if (terms.empty()) return weight;
  TensorInfo info = weight->info();
  return std::make_shared<LowRankDelta>(std::move(info), std::move(weight), std::move(terms));
}

}  // namespace ropewalk
