#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "lib/lazy_tensor.h"
#include "lib/self_rounding.h"

namespace ropewalk {

/// What a merge did to one weight. Frobenius norms, in double.
struct MergeNorms {
  double delta_norm = 0;   // |scale B A|
  double weight_norm = 0;  // |W|
  // |rounded - exact| / |delta|: the part of the delta that rounding to the merge dtype ate or added; 0 without a delta
  double rounding_loss = 0;
  double rounding_norm = 0;  // |rounded - exact|
};

/// A merged weight before its rounding (`exact` = W + delta, wide) that measures itself while a writer streams it:
/// every row read, or read rounded, leaves its three sums, so one pass over the weights serves the writer and the report. Feed it to
/// cast(..., `rounded_to`). Reading a row twice leaves the same sums, and the order of the rows does not matter: they
/// are added up by row number. With `exact` the weight itself it measures what a cast alone costs. release(), which a writer calls after the last row, settles the norms and drops the
/// rows' sums: a model's worth of them would be hundreds of MB.
class ObservedMerge : public LazyTensor, public SelfRounding {
 public:
  /// `every`: of how many row units one is measured, the first always; norms() are of those.
  ObservedMerge(TensorPtr weight, TensorPtr exact, DType rounded_to, std::uint64_t every = 1);

  std::uint64_t row_unit() const noexcept override { return exact_->row_unit(); }
  void prepare() const override { exact_->prepare(); }
  std::uint64_t prepared_bytes() const noexcept override {
    return exact_->prepared_bytes() + info().rows() * sizeof(RowSums);
  }
  void release() const override;
  bool is_wide() const noexcept override { return true; }
  std::string_view file() const noexcept override { return exact_->file(); }
  void read_f32(RowRange range, std::span<float> values) const override;
  void read_f64(RowRange range, std::span<double> values) const override;
  /// As `exact` does it, and measured by it, if what it changes is the weight.
  const LazyTensor& unchanged() const noexcept override { return *weight_; }
  bool read_rounded(DType dtype, RowRange range, std::span<std::byte> bytes, std::span<RowSums> sums) const override;

  DType rounded_to() const noexcept { return rounded_to_; }
  /// Of the rows read before the first release(): all of them once the tensor has been streamed.
  MergeNorms norms() const;

 private:
  using Rows = std::vector<RowSums>;  // each written by whoever reads the row: disjoint ranges never share an element
  std::shared_ptr<Rows> rows() const;
  /// body(rows, whether they are measured) for all of `range`.
  template <class Body>
  void for_each_part(RowRange range, const Body& body) const;
  static MergeNorms sum_up(const Rows& rows);
  /// Leaves the sums of rows `range` in `sums`; `exact`: their values.
  void measure(RowRange range, std::span<const double> exact, Rows& sums) const;

  TensorPtr weight_, exact_;
  const SelfRounding* self_rounding_;  // exact_, where it is a change of weight_
  DType rounded_to_;
  std::uint64_t every_;
  mutable std::mutex mutex_;
  mutable std::shared_ptr<Rows> rows_;         // while rows are read
  mutable std::optional<MergeNorms> settled_;  // afterwards
};

}  // namespace ropewalk
