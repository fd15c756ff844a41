#include <algorithm>
#include <cstring>
#include <utility>

#include "lib/error.h"
#include "lib/forwarding_tensor.h"
#include "lib/recipes.h"

namespace ropewalk {
namespace {

struct Heads {
  std::uint64_t head_dim, rotary_dim;
  RotaryPairs target;

  /// The channel of a head, in the parent's order, that stands at `channel` of the target's.
  std::uint64_t source(std::uint64_t channel) const {
    const std::uint64_t half = rotary_dim / 2;
    if (channel >= rotary_dim) return channel;
    if (target == RotaryPairs::interleaved) return channel % 2 * half + channel / 2;
    return channel % half * 2 + channel / half;
  }
};

class RotaryOrder final : public ForwardingTensor {
 public:
  RotaryOrder(TensorInfo info, TensorPtr parent, Heads heads)
      : ForwardingTensor(std::move(info), parent), heads_(heads), bias_(this->info().shape.size() == 1) {
    if (bias_) return;
    order_ = std::make_shared<RowOrder>(RowOrder{std::move(parent), {}});
    for (std::uint64_t channel = 0; channel < heads.head_dim; ++channel)
      order_->source.push_back(static_cast<std::uint32_t>(heads.source(channel)));
  }

  const std::shared_ptr<RowOrder>& order() const noexcept { return order_; }

  std::uint64_t row_unit() const noexcept override { return bias_ ? 1 : heads_.head_dim; }
  bool has_raw() const noexcept override { return parent().has_raw(); }
  bool is_wide() const noexcept override { return parent().is_wide(); }

  void read_raw(RowRange range, std::span<std::byte> bytes) const override {
    read(range, bytes, info().row_bytes(),
         [this](RowRange rows, std::span<std::byte> out) { parent().read_raw(rows, out); });
  }
  void read_f32(RowRange range, std::span<float> values) const override {
    read(range, values, info().columns(),
         [this](RowRange rows, std::span<float> out) { parent().read_f32(rows, out); });
  }
  void read_f64(RowRange range, std::span<double> values) const override {
    read(range, values, info().columns(),
         [this](RowRange rows, std::span<double> out) { parent().read_f64(rows, out); });
  }

 private:
  // `length`: of one row, in units of T. A bias is one row whose channels move; a weight moves whole rows.
  template <class T, class Read>
  void read(RowRange range, std::span<T> out, std::uint64_t length, const Read& read_parent) const {
    const std::uint64_t channel = bias_ ? length / info().columns() : length;  // T's per channel
    const std::uint64_t head = heads_.head_dim * channel;
    const std::uint64_t begin = range.begin * length, end = range.end * length;  // of the output, in T's
    const auto buffer = std::make_unique_for_overwrite<T[]>(bias_ ? length : head);
    if (range.size() == 0) return;
    if (bias_) read_parent(range, std::span(buffer.get(), length));
    for (std::uint64_t first = begin / head * head; first < end; first += head) {
      const T* source = buffer.get();
      if (bias_) source += first;
      else read_parent(RowRange{first / length, first / length + heads_.head_dim}, std::span(buffer.get(), head));
      for (std::uint64_t at = std::max(first, begin); at < std::min(first + head, end); at += channel)
        std::memcpy(out.data() + (at - begin), source + heads_.source((at - first) / channel) * channel,
                    channel * sizeof(T));
    }
  }

  Heads heads_;
  bool bias_;
  std::shared_ptr<RowOrder> order_;  // of a weight
};

[[noreturn]] void refuse(const LazyTensor& tensor, const std::string& problem) {
  throw Error(ErrorKind::bad_input, {.path = std::string(tensor.file())}, "tensor '" + tensor.name() + "': " + problem,
              "check the head counts and rotary dimension in the configuration");
}

}  // namespace

std::shared_ptr<const RowOrder> row_order(const LazyTensor& tensor) {
  const auto* ordered = dynamic_cast<const RotaryOrder*>(&tensor);
  return ordered ? ordered->order() : nullptr;
}

TensorPtr with_rotary_pairs(TensorPtr parent, RotaryPairs target, std::uint64_t n_heads, std::uint64_t head_dim,
                            std::uint64_t rotary_dim) {
  const TensorInfo& from = parent->info();
  if (from.pairs == target) return parent;
  if (from.pairs == RotaryPairs::none || target == RotaryPairs::none)
    refuse(*parent, "is not a rotary projection, its channels have no pairs to re-order");
  const bool bias = from.shape.size() == 1;
  const std::uint64_t channels = bias ? from.columns() : from.rows();
  std::uint64_t expected = 0;
  if (__builtin_mul_overflow(n_heads, head_dim, &expected) || expected != channels || channels == 0)
    refuse(*parent, "has " + std::to_string(channels) + " output channels, " + std::to_string(n_heads) + " heads of " +
                        std::to_string(head_dim) + " need another number");
  if (rotary_dim == 0 || rotary_dim % 2 != 0 || rotary_dim > head_dim)
    refuse(*parent, "rotary dimension " + std::to_string(rotary_dim) + " must be even and at most the head's " +
                        std::to_string(head_dim));
  if (bias && is_block_type(from.dtype))
    refuse(*parent, "a bias in blocks of " + std::string(info(from.dtype).name) + " cannot be re-ordered");
  TensorInfo info = from;
  info.pairs = target;
  return std::make_shared<RotaryOrder>(std::move(info), std::move(parent), Heads{head_dim, rotary_dim, target});
}

TensorPtr with_rotary_pairs(TensorPtr parent, RotaryPairs target, const ModelConfig& config) {
  const auto head_dim = static_cast<std::uint64_t>(config.head_dim);
  const std::uint64_t n_heads = parent->info().shape.front() / head_dim;
  return with_rotary_pairs(std::move(parent), target, n_heads, head_dim,
                           static_cast<std::uint64_t>(paired_channels(config.rope)));
}

}  // namespace ropewalk
