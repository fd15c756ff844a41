#include "lib/lazy_tensor.h"

#include <algorithm>
#include <cassert>

namespace ropewalk {

std::string shape_text(std::span<const std::uint64_t> shape) {
  constexpr std::size_t kMostAxes = 8;  // a header may claim thousands, and the text stands in an error's one line
  std::string text = "[";
  for (std::size_t axis = 0; axis < std::min(shape.size(), kMostAxes); ++axis)
    text += (axis ? ", " : "") + std::to_string(shape[axis]);
  return text + (shape.size() > kMostAxes ? ", ... " + std::to_string(shape.size()) + " axes]" : "]");
}

std::uint64_t TensorInfo::rows() const noexcept {
  std::uint64_t n = 1;
  for (std::size_t axis = 0; axis + 1 < shape.size(); ++axis) n *= shape[axis];
  return n;
}

std::uint64_t TensorInfo::columns() const noexcept { return shape.empty() ? 1 : shape.back(); }

std::uint64_t TensorInfo::row_bytes() const noexcept { return byte_size(dtype, columns()).value_or(0); }

void LazyTensor::read_raw(RowRange, std::span<std::byte>) const { assert(!"read_raw needs has_raw"); }

void LazyTensor::read_f64(RowRange range, std::span<double> values) const {
  std::vector<float> narrow(values.size());
  read_f32(range, narrow);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = narrow[i];
}

std::string element_place(const TensorInfo& info, std::uint64_t first_row, std::uint64_t offset) {
  const std::uint64_t columns = info.columns();
  return "row " + std::to_string(first_row + offset / columns) + ", column " + std::to_string(offset % columns);
}

}  // namespace ropewalk
