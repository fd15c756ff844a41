#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "lib/lazy_tensor.h"

namespace ropewalk {

/// Reads a whole tensor in f32 a block of rows at a time, at most 64 Ki values (or one row) of memory:
/// `go_on(first row, values)` until it returns false. False if it did.
template <class GoOn>
bool for_row_blocks(const LazyTensor& tensor, GoOn&& go_on) {
  const std::uint64_t columns = std::max<std::uint64_t>(tensor.info().columns(), 1);
  const std::uint64_t step = std::max<std::uint64_t>(1, (std::uint64_t{1} << 16) / columns);
  std::vector<float> block;
  for (std::uint64_t row = 0; row < tensor.info().rows(); row += step) {
    const RowRange range{row, std::min(row + step, tensor.info().rows())};
    block.resize(range.size() * tensor.info().columns());
    tensor.read_f32(range, block);
    if (!go_on(row, std::span<const float>(block))) return false;
  }
  return true;
}

}  // namespace ropewalk
