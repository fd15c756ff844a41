#include "lib/merge_report.h"

#include <algorithm>
#include <cmath>

#include "lib/adapters/sum_of_squares.h"
#include "lib/convert.h"

namespace ropewalk {

ObservedMerge::ObservedMerge(TensorPtr weight, TensorPtr exact, DType rounded_to, std::uint64_t every)
    : LazyTensor(exact->info()),
      weight_(std::move(weight)),
      exact_(std::move(exact)),
      self_rounding_(dynamic_cast<const SelfRounding*>(exact_.get())),
      rounded_to_(rounded_to),
      every_(every) {
  if (self_rounding_ && &self_rounding_->unchanged() != weight_.get()) self_rounding_ = nullptr;
}

void ObservedMerge::read_f32(RowRange range, std::span<float> values) const {
  std::vector<double> wide(values.size());
  read_f64(range, wide);
  for (std::size_t i = 0; i < wide.size(); ++i) values[i] = static_cast<float>(wide[i]);
}

void ObservedMerge::read_f64(RowRange range, std::span<double> values) const {
  exact_->read_f64(range, values);
  const std::shared_ptr<Rows> sums = rows();
  if (!sums) return;
  const std::uint64_t columns = info().columns();
  for_each_part(range, [&](RowRange part, bool measured) {
    if (measured) measure(part, values.subspan((part.begin - range.begin) * columns, part.size() * columns), *sums);
  });
}

template <class Body>
void ObservedMerge::for_each_part(RowRange range, const Body& body) const {
  if (every_ == 1) return body(range, true);
  const std::uint64_t unit = row_unit();
  for (std::uint64_t row = range.begin; row < range.end;) {
    const std::uint64_t stop = std::min((row / unit + 1) * unit, range.end);
    body(RowRange{row, stop}, row / unit % every_ == 0);
    row = stop;
  }
}

bool ObservedMerge::read_rounded(DType dtype, RowRange range, std::span<std::byte> bytes,
                                 std::span<RowSums> sums) const {
  if (!self_rounding_ || dtype != rounded_to_ || !sums.empty()) return false;
  const std::shared_ptr<Rows> all = rows();
  const std::uint64_t row_bytes = *byte_size(dtype, info().columns());
  bool done = true;
  for_each_part(range, [&](RowRange part, bool measured) {
    done = done && self_rounding_->read_rounded(
                       dtype, part, bytes.subspan((part.begin - range.begin) * row_bytes, part.size() * row_bytes),
                       all && measured ? std::span(*all).subspan(part.begin, part.size()) : std::span<RowSums>());
  });
  return done;
}

void ObservedMerge::measure(RowRange range, std::span<const double> values, Rows& sums) const {
  const std::size_t columns = info().columns();
  std::vector<double> weight(values.size()), rounded(columns);
  std::vector<std::byte> stored(*byte_size(rounded_to_, columns));
  if (weight_ == exact_) weight.assign(values.begin(), values.end());
  else weight_->read_f64(range, weight);
  for (std::uint64_t row = 0; row < range.size(); ++row) {
    const double* exact = values.data() + row * columns;  // exact[row, :]
    const double* w = weight.data() + row * columns;
    encode_f64(rounded_to_, {exact, columns}, stored);
    decode_f64(rounded_to_, stored, rounded);
    sums[range.begin + row] = {sum_of_squares(columns, [&](std::size_t c) { return exact[c] - w[c]; }),
                               sum_of_squares(columns, [&](std::size_t c) { return w[c]; }),
                               sum_of_squares(columns, [&](std::size_t c) { return rounded[c] - exact[c]; })};
  }
}

/// nullptr once the norms are settled.
std::shared_ptr<ObservedMerge::Rows> ObservedMerge::rows() const {
  const std::lock_guard lock(mutex_);
  if (!rows_ && !settled_) rows_ = std::make_shared<Rows>(info().rows());
  return rows_;
}

void ObservedMerge::release() const {
  exact_->release();
  const std::lock_guard lock(mutex_);
  if (rows_) settled_ = sum_up(*rows_);
  rows_.reset();
}

MergeNorms ObservedMerge::norms() const {
  const std::lock_guard lock(mutex_);
  if (settled_) return *settled_;
  return rows_ ? sum_up(*rows_) : MergeNorms{};
}

MergeNorms ObservedMerge::sum_up(const Rows& rows) {
  RowSums all;
  for (const RowSums& row : rows) all.delta += row.delta, all.weight += row.weight, all.rounding += row.rounding;
  const double delta = std::sqrt(all.delta), rounding = std::sqrt(all.rounding);
  return {delta, std::sqrt(all.weight), delta > 0 ? rounding / delta : 0, rounding};
}

}  // namespace ropewalk
