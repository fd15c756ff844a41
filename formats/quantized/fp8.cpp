#include <algorithm>

#include "formats/quantized/methods.h"
#include "formats/quantized/scaled.h"

namespace ropewalk::formats::quantized {

/// DeepSeek's and Qwen's: weight f8_e4m3 [out, in], weight_scale_inv f32 or bf16 [out / block, in / block rounded up],
/// which multiplies whatever its name says, or u8, exponents (MXFP8); one rounding to the model's type. Blocks at the
/// edges are cut off, as DeepSeek's kernel has them; transformers 5.23.0 divides the weight evenly among the scales, and
/// refuses or misreads one that is not.
Quantization read_fp8(PackedTensors& tensors, const Method& method) {
  const auto size = method.quantization.find("weight_block_size");
  std::pair<std::uint64_t, std::uint64_t> block{0, 0};
  if (size != method.quantization.end() && !size->is_null()) {
    const JsonFields fields = method.fields();
    const auto side = [&](std::size_t i) -> std::uint64_t {
      if (!size->is_array() || size->size() != 2 || !(*size)[i].is_number_unsigned() || (*size)[i] == 0u ||
          (*size)[i].get<std::uint64_t>() > kMostWidth)
        fields.fail(ErrorKind::bad_input, "weight_block_size",
                    "weight_block_size is " + shown(*size) + ", expected two sizes above 0, up to " +
                        std::to_string(kMostWidth),
                    "correct the file");
      return (*size)[i].get<std::uint64_t>();
    };
    block = {side(0), side(1)};
  }
  if (const auto format = method.fields().optional_string("fmt"); format && *format != "e4m3")
    method.fields().fail(ErrorKind::unsupported, "fmt", "'fmt' is \"" + *format + "\", read is e4m3",
                         "use the unquantized checkpoint");
  for (const std::string& module : tensors.ending_in(".input_scale")) tensors.drop(module + ".input_scale");
  Quantization found;
  for (const char* suffix : {".weight_scale_inv", ".weight_scale"})
    for (const std::string& module : tensors.ending_in(suffix)) {
      const TensorPtr scale = tensors.find(module + suffix);
      const TensorPtr codes = tensors.take(module + ".weight", {DType::f8_e4m3}, *scale);
      const auto& shape = codes->info().shape;
      require_matrix(*codes);
      tensors.take(scale->name(), {DType::f32, DType::bf16, DType::f16, DType::u8}, *codes);
      const bool whole = scale->info().elements() == 1;
      const std::uint64_t rows = whole ? shape[0] : block.first, columns = whole ? shape[1] : block.second;
      const std::vector<std::uint64_t> expected =
          rows == 0 || columns == 0 ? std::vector<std::uint64_t>{1}
                                    : std::vector{(shape[0] + rows - 1) / rows, (shape[1] + columns - 1) / columns};
      if (!whole && scale->info().shape != expected)
        fail_packed(*scale, "has shape " + shape_text(scale->info().shape) + ", expected " + shape_text(expected));
      const ScaledLayout layout{std::max<std::uint64_t>(rows, 1), std::max<std::uint64_t>(columns, 1),
                                whole ? 1 : expected[1], 0, scale->dtype() == DType::u8};
      tensors.replace(codes->name(), scaled_tensor(
                                         TensorInfo{module + ".weight", shape, method.dtype()}, layout, codes,
                                         [codes](std::uint64_t row, std::span<float> values) {
                                           codes->read_f32({row, row + 1}, values);
                                         },
                                         {}, PackedBytes(scale)));
      ++found.weights;
    }
  found.method = "fp8";
  if (block.first > 0)
    found.method += " in blocks of " + std::to_string(block.first) + " x " + std::to_string(block.second);
  return found;
}

}  // namespace ropewalk::formats::quantized
