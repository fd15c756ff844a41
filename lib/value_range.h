#pragma once

#include <cstdint>
#include <span>

#include "lib/dtype.h"
#include "lib/lazy_tensor.h"

namespace ropewalk {

/// What becomes of values that an encoding cannot hold.
enum class OutOfRange : std::uint8_t {
  ieee,    // past the largest finite value comes infinity; blocks with infinities or NaN come out as ggml's do
  refuse,  // Error(bad_input) naming file, tensor, row, column and value
  // a finite value becomes the largest finite one, and is counted; infinities and NaN are refused where they would
  // spoil a block
  clamp,
};

/// Whether every value of a set whose largest magnitude is `largest` (convert.h) can be encoded as `dtype`.
bool in_range(DType dtype, double largest);

/// Refuses or clamps, in place. `values` are rows of `tensor` from `first_row` on, about to become `dtype`. Infinities
/// and NaN of the source pass on into plain types;
/// a block type's scale would carry them to all its elements, so there they are an error whatever `policy`. Returns the
/// number of values clamped. policy is not ieee.
template <class Float>
std::uint64_t enforce_range(const LazyTensor& tensor, std::uint64_t first_row, DType dtype, OutOfRange policy,
                            std::span<Float> values);

/// The finite ones among `values` that would not stay finite as `dtype`.
template <class Float>
std::uint64_t count_out_of_range(DType dtype, std::span<const Float> values);

}  // namespace ropewalk
