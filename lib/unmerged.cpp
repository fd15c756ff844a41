#include "lib/unmerged.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "lib/error.h"
#include "lib/forwarding_tensor.h"

namespace ropewalk {
namespace {

TensorInfo factor_info(const LazyTensor& weight, const char* which, std::uint64_t rows, std::uint64_t columns) {
  return {weight.name() + which, {rows, columns}, DType::f32};
}

std::uint64_t total_rank(const std::vector<LowRankTerm>& terms) {
  std::uint64_t rank = 0;
  for (const LowRankTerm& term : terms) rank += term.a->info().rows();
  return rank;
}

/// What the factors of several terms have in common: prepared and released together.
class Factor : public LazyTensor {
 public:
  Factor(TensorInfo info, std::vector<LowRankTerm> terms) : LazyTensor(std::move(info)), terms_(std::move(terms)) {}

  void prepare() const override {
    for (const LowRankTerm& term : terms_) of(term).prepare();
  }
  std::uint64_t prepared_bytes() const noexcept override {
    std::uint64_t bytes = 0;
    for (const LowRankTerm& term : terms_) bytes += of(term).prepared_bytes();
    return bytes;
  }
  void release() const override {
    for (const LowRankTerm& term : terms_) of(term).release();
  }
  std::string_view file() const noexcept override { return of(terms_.front()).file(); }

 protected:
  virtual const LazyTensor& of(const LowRankTerm& term) const noexcept = 0;
  const std::vector<LowRankTerm>& terms() const noexcept { return terms_; }

 private:
  std::vector<LowRankTerm> terms_;
};

/// A of every term, one below the other.
class StackedA final : public Factor {
 public:
  using Factor::Factor;

  void read_f32(RowRange range, std::span<float> values) const override {
    std::uint64_t first = 0;
    for (const LowRankTerm& term : terms()) {
      const std::uint64_t rank = term.a->info().rows();
      const RowRange own{std::clamp(range.begin, first, first + rank), std::clamp(range.end, first, first + rank)};
      if (own.size() > 0)
        term.a->read_f32({own.begin - first, own.end - first},
                         values.subspan((own.begin - range.begin) * info().columns(), own.size() * info().columns()));
      first += rank;
    }
  }

 protected:
  const LazyTensor& of(const LowRankTerm& term) const noexcept override { return *term.a; }
};

/// Scale times B of every term, side by side.
class ScaledB final : public Factor {
 public:
  using Factor::Factor;

  void read_f32(RowRange range, std::span<float> values) const override {
    const std::uint64_t columns = info().columns();
    std::uint64_t first = 0;
    std::vector<double> wide;
    for (const LowRankTerm& term : terms()) {
      const std::uint64_t rank = term.b->info().columns();
      wide.resize(range.size() * rank);
      term.b->read_f64(range, wide);
      for (std::uint64_t row = 0; row < range.size(); ++row)
        for (std::uint64_t k = 0; k < rank; ++k) {
          const double exact = wide[row * rank + k];
          const float scaled = static_cast<float>(exact * term.scale);
          if (!std::isfinite(scaled) && std::isfinite(exact)) refuse(*term.b, range.begin + row, k);
          values[row * columns + first + k] = scaled;
        }
      first += rank;
    }
  }

 protected:
  const LazyTensor& of(const LowRankTerm& term) const noexcept override { return *term.b; }

 private:
  [[noreturn]] static void refuse(const LazyTensor& b, std::uint64_t row, std::uint64_t k) {
    throw Error(
        ErrorKind::bad_input, {.path = std::string(b.file())},
        "'" + b.name() + "': " + element_place(b.info(), row, k) + ": the adapter's scale makes an infinity of it",
        "give a smaller scale or another checkpoint of the adapter");
  }
};

class Unmerged final : public RelabelledTensor {
 public:
  Unmerged(TensorPtr sum, std::shared_ptr<const UnmergedWeight> parts)
      : RelabelledTensor(sum->info(), sum), parts_(std::move(parts)) {}
  const std::shared_ptr<const UnmergedWeight>& parts() const noexcept { return parts_; }

 private:
  std::shared_ptr<const UnmergedWeight> parts_;
};

}  // namespace

TensorPtr with_unmerged_delta(TensorPtr weight, std::vector<LowRankTerm> terms) {
  if (terms.empty()) return weight;
  const std::uint64_t rank = total_rank(terms);
  TensorPtr sum = with_low_rank_delta(weight, terms);  // checks the shapes
  auto parts = std::make_shared<UnmergedWeight>(UnmergedWeight{
      weight, std::make_shared<StackedA>(factor_info(*weight, ".lora_A", rank, weight->info().columns()), terms),
      std::make_shared<ScaledB>(factor_info(*weight, ".lora_B", weight->info().rows(), rank), terms)});
  return std::make_shared<Unmerged>(std::move(sum), std::move(parts));
}

std::shared_ptr<const UnmergedWeight> taken_apart(const LazyTensor& tensor) {
  const auto* own = dynamic_cast<const Unmerged*>(&tensor);
  return own ? own->parts() : nullptr;
}

}  // namespace ropewalk
