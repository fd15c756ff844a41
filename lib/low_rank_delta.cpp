#include <numeric>
#include <utility>
#include <vector>

#include "lib/adapters/changed_tensor.h"
#include "lib/error.h"
#include "lib/low_rank_kernel.h"
#include "lib/recipes.h"

namespace ropewalk {
namespace {

constexpr std::uint64_t kTileRows = 8;  // of the kernel

struct Factors {
  std::vector<double> b;  // [out, rank]
  PackedFactor a;
  double scale;
  bool exact_products;
};

Factors read_factors(const LowRankTerm& term) {
  const TensorInfo& a = term.a->info();
  return {read_whole(*term.b), PackedFactor(read_whole(*term.a), a.rows(), a.columns()), term.scale,
          !term.a->is_wide() && !term.b->is_wide()};
}

std::uint64_t factor_bytes(const std::vector<LowRankTerm>& terms) {
  std::uint64_t bytes = 0;
  for (const LowRankTerm& term : terms)
    bytes += PackedFactor::bytes(term.a->info().rows(), term.a->info().columns()) +
             term.b->info().elements() * sizeof(double);
  return bytes;
}

class LowRankDelta final : public ChangedTensor<std::vector<Factors>> {
 public:
  LowRankDelta(TensorPtr weight, std::vector<LowRankTerm> terms)
      : ChangedTensor(weight->info(), weight, factor_bytes(terms)), terms_(std::move(terms)) {}

  std::uint64_t row_unit() const noexcept override { return std::lcm(parent().row_unit(), kTileRows); }

 protected:
  std::vector<Factors> make() const override {
    std::vector<Factors> all;
    all.reserve(terms_.size());
    for (const LowRankTerm& term : terms_) all.push_back(read_factors(term));
    return all;
  }
  void change(const std::vector<Factors>& factors, RowRange rows, std::span<double> values) const override {
    for (const Factors& term : factors) {
      const std::uint64_t rank = term.a.rank();
      add_low_rank_product(std::span(term.b).subspan(rows.begin * rank, rows.size() * rank), term.a, term.scale,
                           term.exact_products, values);
    }
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
