#include <algorithm>
#include <cmath>

#include "formats/quantized/methods.h"
#include "formats/quantized/scaled.h"
#include "lib/quantized/rounding.h"

// Expert matrices N of gpt-oss, as transformers 5.23.0 reads them (convert_moe_packed_tensors):
//   N_blocks  u8 [experts, out, groups, 16]  32 inputs to the group, two E2M1 codes to the byte, the even one in the low half
//   N_scales  u8 [experts, out, groups]      exponents e that mean 2^(e - 127)
// N is [experts, groups * 32, out]: inputs are its rows. ldexp(code, e - 127), one rounding to the model's type.
namespace ropewalk::formats::quantized {
namespace {

constexpr std::uint64_t kGroup = 32, kGroupBytes = kGroup / 2;
constexpr std::string_view kBlocks = "_blocks";

class ExpertsTensor final : public LazyTensor {
 public:
  ExpertsTensor(TensorInfo info, PackedBytes blocks, PackedBytes scales)
      : LazyTensor(std::move(info)), blocks_(std::move(blocks)), scales_(std::move(scales)) {}

  std::uint64_t row_unit() const noexcept override { return tile_rows(info()); }
  std::string_view file() const noexcept override { return blocks_.file(); }

  void read_f32(RowRange range, std::span<float> values) const override {
    const std::uint64_t in = info().shape[1], out = info().columns();
    for (std::uint64_t row = range.begin; row < range.end;) {
      const std::uint64_t expert = row / in, end = std::min({range.end, row + row_unit(), (expert + 1) * in});
      read_tile(expert, {row - expert * in, end - expert * in},
                values.subspan((row - range.begin) * out, (end - row) * out));
      row = end;
    }
    round_through(dtype(), values);
  }

 private:
  /// Inputs `rows` of one expert.
  void read_tile(std::uint64_t expert, RowRange rows, std::span<float> values) const {
    const std::uint64_t groups = info().shape[1] / kGroup, out = info().columns();
    const std::uint64_t from = rows.begin / kGroup, to = (rows.end + kGroup - 1) / kGroup, n = to - from;
    std::vector<std::uint8_t> codes(out * n * kGroupBytes), exponents(out * n);
    blocks_.read({expert * out, out, groups * kGroupBytes, from * kGroupBytes, to * kGroupBytes},
                 std::as_writable_bytes(std::span(codes)));
    scales_.read({expert * out, out, groups, from, to}, std::as_writable_bytes(std::span(exponents)));
    for (std::uint64_t column = 0; column < out; ++column)
      for (std::uint64_t group = from; group < to; ++group) {
        const std::uint64_t at = column * n + group - from;
        std::array<float, 16> level;  // not a product with 2^(e - 127), which is infinite for e = 255
        for (std::size_t code = 0; code < 16; ++code) level[code] = std::ldexp(kFp4Values[code], exponents[at] - 127);
        const std::uint64_t begin = std::max(rows.begin, group * kGroup),
                            end = std::min(rows.end, (group + 1) * kGroup);
        for (std::uint64_t row = begin; row < end; ++row) {
          const unsigned pair = codes[at * kGroupBytes + row % kGroup / 2], code = row % 2 == 0 ? pair & 15 : pair >> 4;
          values[(row - rows.begin) * out + column] = level[code];
        }
      }
  }

  PackedBytes blocks_, scales_;
};

}  // namespace

Quantization read_mxfp4(PackedTensors& tensors, const Method& method) {
  Quantization found;
  for (const std::string& name : tensors.ending_in(kBlocks)) {
    const TensorPtr blocks = tensors.find(name + std::string(kBlocks));
    const auto& shape = blocks->info().shape;
    if (blocks->dtype() != DType::u8 || shape.size() != 4 || shape[3] != kGroupBytes || shape[2] > kMostWidth)
      fail_packed(*blocks, "is " + std::string(info(blocks->dtype()).name) + " " + shape_text(shape) +
                               ", expected u8 [experts, rows, groups, 16]");
    const PackedBytes scales(tensors.take(name + "_scales", {DType::u8}, *blocks, {shape[0], shape[1], shape[2]}));
    tensors.replace(blocks->name(), std::make_shared<ExpertsTensor>(
                                        TensorInfo{name, {shape[0], shape[2] * kGroup, shape[1]}, method.dtype()},
                                        PackedBytes(blocks), scales));
    ++found.weights;
  }
  found.method = "MXFP4";
  return found;
}

}  // namespace ropewalk::formats::quantized
