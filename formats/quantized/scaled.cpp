#include "formats/quantized/scaled.h"

#include <algorithm>
#include <cmath>

#include "lib/quantized/rounding.h"

namespace ropewalk::formats::quantized {
namespace {

class ScaledTensor final : public LazyTensor {
 public:
  ScaledTensor(TensorInfo info, const ScaledLayout& layout, TensorPtr place, RowCodes codes, RowZeros zeros,
               PackedBytes scales)
      : LazyTensor(std::move(info)),
        layout_(layout),
        place_(std::move(place)),
        codes_(std::move(codes)),
        zeros_(std::move(zeros)),
        scales_(std::move(scales)) {}

  std::string_view file() const noexcept override { return place_->file(); }

  void read_f32(RowRange range, std::span<float> values) const override {
    const std::uint64_t columns = info().columns();
    std::vector<float> scales(layout_.scale_columns), zeros(zeros_ ? layout_.scale_columns : 0);
    std::uint64_t scale_row = ~std::uint64_t{0};
    for (std::uint64_t row = range.begin; row < range.end; ++row) {
      const std::span<float> out = values.subspan((row - range.begin) * columns, columns);
      codes_(row, out);
      if (row / layout_.block_rows != scale_row) read_scales(scale_row = row / layout_.block_rows, scales);
      if (zeros_) zeros_(row, zeros);
      if (layout_.groups) {
        for (std::uint64_t column = 0; column < columns; ++column) {
          const std::uint32_t group = (*layout_.groups)[column];
          out[column] = (zeros_ ? out[column] - zeros[group] : out[column]) * scales[group];
        }
        continue;
      }
      for (std::uint64_t block = 0; block < layout_.scale_columns; ++block) {
        const std::uint64_t begin = block * layout_.block_columns,
                            end = std::min(columns, begin + layout_.block_columns);
        for (float& value : out.subspan(begin, end - begin))
          value = (zeros_ ? value - zeros[block] : value) * scales[block];
      }
    }
    round_through(dtype(), values);
  }

 private:
  void read_scales(std::uint64_t row, std::span<float> scales) const {
    scales_.read_f32(row * layout_.scale_columns, scales);
    if (layout_.exponents)
      for (float& scale : scales) scale = std::ldexp(1.0f, static_cast<int>(scale) - 127);
    if (layout_.divisor != 0)
      for (float& scale : scales) scale /= layout_.divisor;
  }

  ScaledLayout layout_;
  TensorPtr place_;
  RowCodes codes_;
  RowZeros zeros_;
  PackedBytes scales_;
};

}  // namespace

TensorPtr scaled_tensor(TensorInfo info, const ScaledLayout& layout, TensorPtr place, RowCodes codes, RowZeros zeros,
                        PackedBytes scales) {
  return std::make_shared<ScaledTensor>(std::move(info), layout, std::move(place), std::move(codes), std::move(zeros),
                                        std::move(scales));
}

}  // namespace ropewalk::formats::quantized
