#include <algorithm>
#include <memory>
#include <mutex>
#include <numeric>
#include <utility>
#include <vector>

#include "lib/adapters/adapter_recipes.h"
#include "lib/adapters/packed_product.h"
#include "lib/adapters/quick_delta.h"
#include "lib/error.h"
#include "lib/recipes.h"

namespace ropewalk {
namespace {

struct Scaled {
  PackedProduct product;
  double scale;
};

std::uint64_t factor_bytes(const std::vector<LowRankTerm>& terms) {
  std::uint64_t bytes = 0;
  for (const LowRankTerm& term : terms) bytes += PackedProduct::bytes(*term.b, *term.a);
  return bytes;
}
std::uint64_t narrow_bytes(const std::vector<LowRankTerm>& terms) {
  std::uint64_t bytes = 0;
  for (const LowRankTerm& term : terms)
    bytes += NarrowProduct::bytes(term.b->info().rows(), term.a->info().rows(), term.a->info().columns());
  return bytes;
}

class LowRankDelta final : public ChangedTensor<std::vector<Scaled>> {
 public:
  LowRankDelta(TensorPtr weight, std::vector<LowRankTerm> terms)
      : ChangedTensor(weight->info(), weight, factor_bytes(terms) + narrow_bytes(terms)), terms_(std::move(terms)) {}

  std::uint64_t row_unit() const noexcept override { return std::lcm(parent().row_unit(), PackedProduct::kRows); }

 protected:
  std::vector<Scaled> make() const override {
    std::vector<Scaled> all;
    all.reserve(terms_.size());
    for (const LowRankTerm& term : terms_) all.push_back({PackedProduct(*term.b, *term.a), term.scale});
    return all;
  }
  void change(const std::vector<Scaled>& terms, RowRange rows, std::span<double> values) const override {
    for (const Scaled& term : terms) term.product.add(rows, term.scale, values);
  }
  std::shared_ptr<const QuickDelta> make_quick(const std::vector<Scaled>& terms) const override {
    std::vector<NarrowProduct::Term> all;
    for (const Scaled& term : terms) all.push_back({&term.product, term.scale});
    return std::make_shared<const QuickDelta>(NarrowProduct(all));
  }
  void change_at(const std::vector<Scaled>& terms, RowRange rows, std::span<const ElementPlace> places,
                 std::span<double> values) const override {
    std::vector<double> sums(places.size());
    for (const Scaled& term : terms) {
      term.product.at(rows, places, sums);
      for (std::size_t i = 0; i < sums.size(); ++i) {
        const double delta = sums[i] * term.scale;
        values[i] = values[i] + delta;
      }
    }
  }

 private:
  std::vector<LowRankTerm> terms_;
};

/// The factors of one expert while its rows are read.
struct Expert {
  std::mutex mutex;
  std::shared_ptr<const PackedProduct> product;
  std::uint64_t rows_read = 0;
};

class ExpertDeltas final : public ChangedTensor<std::unique_ptr<Expert[]>> {
 public:
  // two of the experts: rows are read in order, by threads that stand near each other
  ExpertDeltas(TensorPtr weight, std::vector<LowRankTerm> terms)
      : ChangedTensor(weight->info(), weight, factor_bytes({terms.front(), terms.back()})), terms_(std::move(terms)) {}

  std::uint64_t row_unit() const noexcept override { return std::lcm(parent().row_unit(), PackedProduct::kRows); }

 protected:
  std::unique_ptr<Expert[]> make() const override { return std::make_unique<Expert[]>(terms_.size()); }
  void change(const std::unique_ptr<Expert[]>& experts, RowRange rows, std::span<double> values) const override {
    const std::uint64_t height = info().shape[1], columns = info().columns();
    for (std::uint64_t row = rows.begin; row < rows.end;) {
      const std::uint64_t index = row / height, first = index * height;
      const RowRange own{row - first, std::min(rows.end - first, height)};
      product_of(experts[index], terms_[index])
          ->add(own, terms_[index].scale, values.subspan((row - rows.begin) * columns, own.size() * columns));
      const std::lock_guard lock(experts[index].mutex);
      experts[index].rows_read += own.size();
      if (experts[index].rows_read % height == 0) experts[index].product.reset();
      row = first + own.end;
    }
  }

 private:
  static std::shared_ptr<const PackedProduct> product_of(Expert& expert, const LowRankTerm& term) {
    const std::lock_guard lock(expert.mutex);
    if (!expert.product) expert.product = std::make_shared<const PackedProduct>(*term.b, *term.a);
    return expert.product;
  }

  std::vector<LowRankTerm> terms_;
};

/// `rows`: of the weight that the term is added to, which has `axes` axes.
void check(const LazyTensor& weight, std::size_t axes, std::uint64_t rows, const LowRankTerm& term) {
  const TensorInfo &w = weight.info(), &a = term.a->info(), &b = term.b->info();
  if (w.shape.size() == axes && a.shape.size() == 2 && b.shape.size() == 2 && b.rows() == rows &&
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
  for (const LowRankTerm& term : terms) check(*weight, 2, weight->info().rows(), term);
  if (terms.empty()) return weight;
  return std::make_shared<LowRankDelta>(std::move(weight), std::move(terms));
}

TensorPtr with_expert_deltas(TensorPtr weight, std::vector<LowRankTerm> terms) {
  const std::vector<std::uint64_t>& shape = weight->info().shape;
  if (terms.empty() || shape.size() != 3 || shape[0] != terms.size())
    throw Error(ErrorKind::bad_input, {.path = std::string(weight->file())},
                "tensor '" + weight->name() + "' has shape " + shape_text(shape) + ", expected that of " +
                    std::to_string(terms.size()) + " experts",
                "the adapter was trained on a model of another shape: use that one");
  for (const LowRankTerm& term : terms) check(*weight, 3, shape[1], term);
  return std::make_shared<ExpertDeltas>(std::move(weight), std::move(terms));
}

}  // namespace ropewalk
