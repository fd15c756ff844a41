#include <numeric>
#include <utility>
#include <vector>

#include "lib/adapters/packed_product.h"
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

class LowRankDelta final : public ChangedTensor<std::vector<Scaled>> {
 public:
  LowRankDelta(TensorPtr weight, std::vector<LowRankTerm> terms)
      : ChangedTensor(weight->info(), weight, factor_bytes(terms)), terms_(std::move(terms)) {}

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

 private:
  std::vector<LowRankTerm> terms_;
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
  return std::make_shared<LowRankDelta>(std::move(weight), std::move(terms));
}

}  // namespace ropewalk
