#pragma once

#include <cmath>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "lib/adapters/quick_delta.h"
#include "lib/convert.h"
#include "lib/convert_simd.h"
#include "lib/error.h"
#include "lib/forwarding_tensor.h"
#include "lib/self_rounding.h"

namespace ropewalk {

/// All elements of a tensor, in double. Prepares it and releases it again: for the small tensors of an adapter.
std::vector<double> read_whole(const LazyTensor& tensor);

/// Error(bad_input): `part` of an adapter does not fit `weight`. `expected`: its shape in words.
[[noreturn]] void fail_shape(const LazyTensor& weight, const LazyTensor& part, const std::string& expected);

/// Throws Error(bad_input) naming the first element of `values` that is not finite where `parent` is: what an adapter made
/// of a finite weight. `values`: rows `rows` of `tensor`.
void refuse_created_infinities(const LazyTensor& tensor, const LazyTensor& parent, RowRange rows,
                               std::span<const double> values);

/// A weight that an adapter changes row by row, in double: what is not row-local, and the adapter's own tensors, stand
/// in a State that prepare() makes once. Wide: the one rounding is whoever reads it.
template <class State>
class ChangedTensor : public ForwardingTensor, public SelfRounding {
 public:
  /// `state_bytes`: what a State costs, beside what the parent declares.
  ChangedTensor(TensorInfo info, TensorPtr parent, std::uint64_t state_bytes)
      : ForwardingTensor(std::move(info), std::move(parent)), state_bytes_(state_bytes) {}

  void prepare() const override {
    ForwardingTensor::prepare();
    (void)state();
  }
  std::uint64_t prepared_bytes() const noexcept override { return parent().prepared_bytes() + state_bytes_; }
  void release() const override {
    ForwardingTensor::release();
    const std::lock_guard lock(mutex_);
    state_.reset();
    quick_.reset();
    quick_tried_ = false;
  }
  bool is_wide() const noexcept override { return true; }

  void read_f64(RowRange range, std::span<double> values) const override {
    const std::shared_ptr<const State> now = state();
    const std::uint64_t columns = info().columns();
    for_each_chunk(*this, range, kChunk, [&](RowRange chunk) {
      const std::span out = values.subspan((chunk.begin - range.begin) * columns, chunk.size() * columns);
      parent().read_f64(chunk, out);
      change(*now, chunk, out);
      if (!std::isfinite(largest_magnitude(std::span<const double>(out))))
        refuse_created_infinities(*this, parent(), chunk, out);
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

  const LazyTensor& unchanged() const noexcept override { return parent(); }
  bool read_rounded(DType dtype, RowRange range, std::span<std::byte> bytes, std::span<RowSums> sums) const override {
    if (parent().is_wide() || (dtype != DType::f16 && dtype != DType::bf16)) return false;
    const std::shared_ptr<const State> now = state();
    const std::shared_ptr<const QuickDelta> delta = quick(*now);
    return delta && delta->read_rounded(parent(), dtype, range, bytes, sums,
                                        [&](std::span<const ElementPlace> places, std::span<double> values) {
                                          change_at(*now, range, places, values);
                                        });
  }

 protected:
  // Doubles that stay in the second cache while what changes them (the panels of a factor) streams past.
  static constexpr std::uint64_t kChunk = std::uint64_t{32} << 10;

  virtual State make() const = 0;
  /// `values`: the parent's rows `rows`, to be changed in place.
  virtual void change(const State& state, RowRange rows, std::span<double> values) const = 0;

  /// The change as a QuickDelta, if it is one; change_at() is then what change() does to single elements of rows `rows`.
  virtual std::shared_ptr<const QuickDelta> make_quick(const State&) const { return nullptr; }
  virtual void change_at(const State&, RowRange, std::span<const ElementPlace>, std::span<double>) const {}

 private:
  // Readers keep what they use: a release() meanwhile only drops our own share.
  std::shared_ptr<const State> state() const {
    const std::lock_guard lock(mutex_);
    if (!state_) state_ = std::make_shared<const State>(make());
    return state_;
  }
  std::shared_ptr<const QuickDelta> quick(const State& state) const {
    const std::lock_guard lock(mutex_);
    if (!quick_tried_ && (quick_ = make_quick(state)) && !quick_->pays_off(parent())) quick_ = nullptr;
    quick_tried_ = true;
    return quick_;
  }

  std::uint64_t state_bytes_;
  mutable std::mutex mutex_;
  mutable std::shared_ptr<const State> state_;
  mutable std::shared_ptr<const QuickDelta> quick_;
  mutable bool quick_tried_ = false;
};

}  // namespace ropewalk
