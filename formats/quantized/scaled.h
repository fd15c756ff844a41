#pragma once

#include <array>
#include <functional>
#include <memory>
#include <vector>

#include "formats/quantized/packed_tensors.h"

namespace ropewalk::formats::quantized {

/// A matrix of codes in row-major order with scales on a grid: element [row, column] has scale
/// [row / block_rows, column / block_columns]. Rows are computed one after the other:
///   value = round(f32(code - zero) * f32(scale)), scale = stored / divisor where there is one
struct ScaledLayout {
  std::uint64_t block_rows, block_columns, scale_columns;
  float divisor = 0;       // 0: none
  bool exponents = false;  // scales are bytes e that mean 2^(e - 127)
  /// The column of scales of each column of codes, where they are in no order; nullptr: block_columns apart.
  std::shared_ptr<const std::vector<std::uint32_t>> groups = nullptr;
};
/// Of one row, before zero points and scales; `values` has the row's length.
using RowCodes = std::function<void(std::uint64_t row, std::span<float> values)>;
/// Zero points of `row`, one for each of its columns of scales; may be empty: none.
using RowZeros = std::function<void(std::uint64_t row, std::span<float> zeros)>;

/// What the 16 codes of E2M1 mean: the four bits of MXFP4 and NVFP4.
inline constexpr std::array<float, 16> kFp4Values = {0,     0.5f,  1,  1.5f,  2,  3,  4,  6,
                                                     -0.0f, -0.5f, -1, -1.5f, -2, -3, -4, -6};

/// `place`: the tensor whose file is named in messages.
TensorPtr scaled_tensor(TensorInfo info, const ScaledLayout& layout, TensorPtr place, RowCodes codes, RowZeros zeros,
                        PackedBytes scales);

}  // namespace ropewalk::formats::quantized
