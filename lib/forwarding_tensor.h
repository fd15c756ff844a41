#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>

#include "lib/lazy_tensor.h"

namespace ropewalk {

/// A recipe over one parent: prepared, released and sized with it. Subclasses say how rows are read.
class ForwardingTensor : public LazyTensor {
 public:
  ForwardingTensor(TensorInfo info, TensorPtr parent) : LazyTensor(std::move(info)), parent_(std::move(parent)) {}

  std::uint64_t row_unit() const noexcept override { return parent_->row_unit(); }
  void prepare() const override { parent_->prepare(); }
  std::uint64_t prepared_bytes() const noexcept override { return parent_->prepared_bytes(); }
  void release() const override { parent_->release(); }
  std::string_view file() const noexcept override { return parent_->file(); }
  std::uint64_t clamped() const noexcept override { return parent_->clamped(); }

 protected:
  const LazyTensor& parent() const noexcept { return *parent_; }

 private:
  TensorPtr parent_;
};

/// The parent's rows as they are under other words: another name, another statement of their layout.
class RelabelledTensor : public ForwardingTensor {
 public:
  using ForwardingTensor::ForwardingTensor;
  bool has_raw() const noexcept override { return parent().has_raw(); }
  bool is_wide() const noexcept override { return parent().is_wide(); }
  void read_raw(RowRange range, std::span<std::byte> bytes) const override { parent().read_raw(range, bytes); }
  void read_f32(RowRange range, std::span<float> values) const override { parent().read_f32(range, values); }
  void read_f64(RowRange range, std::span<double> values) const override { parent().read_f64(range, values); }
};

/// Calls `body(chunk)` for consecutive row ranges that cover `range`, each of about `elements` elements and whole row
/// units:
/// temporaries of that size stay in the second cache, whatever range the caller asked for.
template <class Body>
void for_each_chunk(const LazyTensor& tensor, RowRange range, std::uint64_t elements, const Body& body) {
  const std::uint64_t unit = tensor.row_unit(), columns = std::max<std::uint64_t>(tensor.info().columns(), 1);
  const std::uint64_t step = std::max<std::uint64_t>(elements / columns / unit, 1) * unit;
  for (std::uint64_t row = range.begin; row < range.end;) {
    const RowRange chunk{row, std::min(row + step, range.end)};
    body(chunk);
    row = chunk.end;
  }
}

}  // namespace ropewalk
