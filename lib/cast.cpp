#include <algorithm>
#include <atomic>
#include <memory>
#include <utility>

#include "lib/convert.h"
#include "lib/error.h"
#include "lib/forwarding_tensor.h"
#include "lib/recipes.h"
#include "lib/self_rounding.h"
#include "lib/value_range.h"

namespace ropewalk {
namespace {

// Elements per step: the temporary (256 KiB as doubles) stays in the second cache between the parent that fills it and
// the encoder.
constexpr std::uint64_t kChunk = std::uint64_t{32} << 10;

class Cast final : public ForwardingTensor {
 public:
  Cast(TensorInfo info, TensorPtr parent, bool saturate)
      : ForwardingTensor(std::move(info), std::move(parent)),
        policy_(saturate ? OutOfRange::clamp : OutOfRange::refuse),
        self_rounding_(dynamic_cast<const SelfRounding*>(&this->parent())) {}

  std::uint64_t clamped() const noexcept override {
    return ForwardingTensor::clamped() + clamped_.load(std::memory_order_relaxed);
  }

  bool has_raw() const noexcept override { return true; }
  bool is_wide() const noexcept override { return dtype() == DType::f64; }

  void read_raw(RowRange range, std::span<std::byte> bytes) const override {
    if (parent().is_wide()) return encode<double>(range, bytes);
    encode<float>(range, bytes);
  }
  void read_f32(RowRange range, std::span<float> values) const override { decode(range, values, decode_f32); }
  void read_f64(RowRange range, std::span<double> values) const override { decode(range, values, decode_f64); }

 private:
  template <class Float>
  void encode(RowRange range, std::span<std::byte> bytes) const {
    const std::uint64_t columns = info().columns(), row_bytes = info().row_bytes();
    std::unique_ptr<Float[]> buffer;
    std::uint64_t capacity = 0;
    for_each_chunk(*this, range, kChunk, [&](RowRange chunk) {
      const std::uint64_t n = chunk.size() * columns;
      const std::span out = bytes.subspan((chunk.begin - range.begin) * row_bytes, chunk.size() * row_bytes);
      if (self_rounding_ && self_rounding_->read_rounded(dtype(), chunk, out, {})) return;
      if (n > capacity) buffer = std::make_unique_for_overwrite<Float[]>(capacity = n);
      const std::span values(buffer.get(), n);
      if constexpr (sizeof(Float) == 8) {
        parent().read_f64(chunk, values);
        guard(chunk, values);
        encode_f64(dtype(), values, out);
      } else {
        parent().read_f32(chunk, values);
        guard(chunk, values);
        encode_f32(dtype(), values, out);
      }
    });
  }

  // The values a consumer of the cast sees are the rounded ones.
  template <class Float>
  void decode(RowRange range, std::span<Float> values,
              void (*decode_all)(DType, std::span<const std::byte>, std::span<Float>)) const {
    const std::uint64_t columns = info().columns(), row_bytes = info().row_bytes();
    std::unique_ptr<std::byte[]> buffer;
    std::uint64_t capacity = 0;
    for_each_chunk(*this, range, kChunk, [&](RowRange chunk) {
      const std::uint64_t n = chunk.size() * row_bytes;
      if (n > capacity) buffer = std::make_unique_for_overwrite<std::byte[]>(capacity = n);
      const std::span bytes(buffer.get(), n);
      read_raw(chunk, bytes);
      decode_all(dtype(), bytes, values.subspan((chunk.begin - range.begin) * columns, chunk.size() * columns));
    });
  }

  template <class Float>
  void guard(RowRange rows, std::span<Float> values) const {
    if (in_range(dtype(), largest_magnitude(std::span<const Float>(values)))) return;
    clamped_.fetch_add(enforce_range(*this, rows.begin, dtype(), policy_, values), std::memory_order_relaxed);
  }

  OutOfRange policy_;
  const SelfRounding* self_rounding_;  // the parent
  mutable std::atomic<std::uint64_t> clamped_ = 0;
};

}  // namespace

TensorPtr cast(TensorPtr parent, DType dtype, bool saturate) {
  if (parent->dtype() == dtype && parent->has_raw()) return parent;
  if (!can_encode(dtype))
    throw Error(
        ErrorKind::unsupported, {.path = std::string(parent->file())},
        "tensor '" + parent->name() + "': type " + std::string(info(dtype).name) + " cannot be written by this version",
        "choose another type");
  if (!can_decode(parent->dtype()))
    throw Error(ErrorKind::unsupported, {.path = std::string(parent->file())},
                "tensor '" + parent->name() + "': type " + std::string(info(parent->dtype()).name) +
                    " cannot be read by this version",
                "start from another encoding");
  if (!byte_size(dtype, parent->info().columns()))
    throw Error(ErrorKind::unsupported, {.path = std::string(parent->file())},
                "tensor '" + parent->name() + "': rows of " + std::to_string(parent->info().columns()) +
                    " elements are not whole blocks of " + std::to_string(info(dtype).block_elements) + ", which " +
                    std::string(info(dtype).name) + " needs",
                "keep this tensor in f32 or f16");
  TensorInfo info = parent->info();
  info.dtype = dtype;
  return std::make_shared<Cast>(std::move(info), std::move(parent), saturate);
}

}  // namespace ropewalk
