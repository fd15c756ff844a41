// Quantized checkpoints: a safetensors file whose metadata has the config.json beside it.

#include <cstring>
#include <map>

#include "formats/quantized/quantized.h"
#include "formats/safetensors.h"
#include "lib/error.h"
#include "lib/quantized/four_bit.h"
#include "lib/recipes.h"
#include "tests/fuzz/fuzz.h"

using namespace ropewalk;
using namespace ropewalk::formats;

namespace {

constexpr const char* kConfig = "config";
constexpr std::uint64_t kMostElements = 1 << 18;  // values that are looked at

std::vector<float> rows_of(const LazyTensor& tensor, RowRange range) {
  std::vector<float> values(range.size() * tensor.info().columns());
  tensor.read_f32(range, values);
  return values;
}

void check_values(const LazyTensor& tensor) {
  const std::uint64_t rows = tensor.info().rows(), middle = rows / 3;
  const auto elements = element_count(tensor.info().shape);
  require(elements.has_value(), "a weight has as many elements as can be counted");
  if (*elements > kMostElements || *elements == 0) return;
  std::vector<float> whole = rows_of(tensor, {0, rows}), parts = rows_of(tensor, {0, middle});
  for (const float value : rows_of(tensor, {middle, rows})) parts.push_back(value);
  require(std::memcmp(whole.data(), parts.data(), whole.size() * sizeof(float)) == 0, "rows are the same in any part");
}

std::string with_config(const std::string& config, const std::vector<TensorPtr>& tensors) {
  const SafetensorsLayout layout = plan_safetensors(tensors, {{kConfig, config}});
  std::string out = layout.header;
  out.resize(layout.file_bytes);
  for (const auto& [tensor, offset] : layout.places)
    tensor->read_raw({0, tensor->info().rows()},
                     std::as_writable_bytes(std::span(out)).subspan(offset, tensor->info().bytes()));
  return out;
}

TensorPtr filled(std::string name, std::vector<std::uint64_t> shape, DType dtype, int byte = 0x3c) {
  TensorInfo tensor{.name = std::move(name), .shape = std::move(shape), .dtype = dtype};
  std::vector<std::byte> bytes(tensor.bytes(), std::byte(byte));
  return memory_tensor(std::move(tensor), std::move(bytes));
}

TensorPtr levels(std::string name) {
  const std::span<const float, 16> nf4 = four_bit_levels(FourBitType::nf4);
  return memory_tensor(std::move(name), {16}, std::vector<float>(nf4.begin(), nf4.end()));
}

TensorPtr text(std::string name, const std::string& value) {
  std::vector<std::byte> bytes(value.size());
  std::memcpy(bytes.data(), value.data(), value.size());
  return memory_tensor(TensorInfo{std::move(name), {value.size()}, DType::u8}, std::move(bytes));
}

TensorPtr sizes(std::string name, std::int64_t out, std::int64_t in) {
  std::vector<std::byte> bytes(16);
  std::memcpy(bytes.data(), &out, 8);
  std::memcpy(bytes.data() + 8, &in, 8);
  return memory_tensor(TensorInfo{std::move(name), {2}, DType::i64}, std::move(bytes));
}

std::string method(const std::string& name, const std::string& more = "") {
  return R"({"dtype":"bfloat16","quantization_config":{"quant_method":")" + name + "\"" + more + "}}";
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const MemoryFile input(data, size);
  try {
    SafetensorsFile file = read_safetensors(input.path());
    const auto found = file.metadata.find(kConfig);
    if (found == file.metadata.end()) return 0;
    const Json config = parse_json("config.json", found->second);
    std::vector<std::string> warnings;
    const auto quantization = dequantize(file.tensors, {"config.json", found->second, config}, warnings);
    if (!quantization) return 0;
    require(quantization->weights > 0 && quantization->bytes <= size, "what is packed lies inside the file");
    for (const TensorPtr& tensor : file.tensors) check_values(*tensor);
  } catch (const Error& error) {
    require(error.kind() == ErrorKind::bad_input || error.kind() == ErrorKind::unsupported,
            "a refusal is about the input");
    require(!error.where().path.empty() && !error.problem().empty() && !error.fix().empty(),
            "a refusal names the file, the problem and what to do");
  }
  return 0;
}

std::vector<std::string> fuzz_seeds() {
  const std::string state =
      R"({"quant_type":"nf4","blocksize":64,"dtype":"bfloat16","shape":[4,32],"nested_blocksize":256,"nested_dtype":"float32","nested_offset":0.5})";
  const std::string group = R"(,"config_groups":{"g":{"weights":{"num_bits":4,"block_structure":[2,16]}}})";
  return {
      with_config(method("gptq", R"(,"bits":4,"sym":false)"),
                  {filled("m.qweight", {4, 32}, DType::i32), filled("m.qzeros", {2, 4}, DType::i32),
                   filled("m.scales", {2, 32}, DType::f16), filled("m.g_idx", {32}, DType::i32, 0)}),
      with_config(method("gptq", R"(,"bits":3,"checkpoint_format":"gptq_v2")"),
                  {filled("m.qweight", {3, 32}, DType::i32), filled("m.qzeros", {1, 3}, DType::i32),
                   filled("m.scales", {1, 32}, DType::bf16)}),
      with_config(method("awq"), {filled("m.qweight", {8, 2}, DType::i32), filled("m.qzeros", {2, 2}, DType::i32),
                                  filled("m.scales", {2, 16}, DType::f16)}),
      with_config(method("compressed-tensors", group),
                  {filled("m.weight_packed", {4, 4}, DType::i32), filled("m.weight_scale", {4, 2}, DType::f16),
                   sizes("m.weight_shape", 4, 32), filled("m.weight_zero_point", {1, 2}, DType::i32),
                   filled("m.weight_g_idx", {32}, DType::i32, 0xff)}),
      with_config(method("compressed-tensors", group),
                  {filled("a.weight", {4, 32}, DType::i8), filled("a.weight_scale", {2, 2}, DType::f16),
                   filled("b.weight_packed", {2, 16}, DType::u8), filled("b.weight_scale", {2, 2}, DType::f8_e4m3),
                   filled("b.weight_global_scale", {1}, DType::f32), filled("c.weight_packed", {2, 16}, DType::u8),
                   filled("c.weight_scale", {2, 1}, DType::u8)}),
      with_config(method("fp8", R"(,"weight_block_size":[2,16])"),
                  {filled("m.weight", {5, 20}, DType::f8_e4m3), filled("m.weight_scale_inv", {3, 2}, DType::f32)}),
      with_config(method("mxfp4"),
                  {filled("m.x_blocks", {2, 3, 2, 16}, DType::u8), filled("m.x_scales", {2, 3, 2}, DType::u8, 0x7f)}),
      with_config(method("bitsandbytes", R"(,"load_in_4bit":true)"),
                  {filled("m.weight", {64, 1}, DType::u8), filled("m.weight.absmax", {2}, DType::u8),
                   levels("m.weight.quant_map"), filled("m.weight.nested_absmax", {1}, DType::f32),
                   filled("m.weight.nested_quant_map", {256}, DType::f32),
                   text("m.weight.quant_state.bitsandbytes__nf4", state)}),
      with_config(method("bitsandbytes"), {filled("m.weight", {2, 8}, DType::i8), filled("m.SCB", {2}, DType::f32)}),
  };
}
