#pragma once

#include "lib/quantized/four_bit.h"
#include "tests/fuzz/seed_files.h"

/// A valid checkpoint of one layer or a few: config.json with every field that is read, and its tensors.
struct QuantizedSeed {
  std::string name, config;
  std::vector<ropewalk::TensorPtr> tensors;
};

namespace quantized_seeds {
using namespace ropewalk;

/// No two bytes near each other are the same.
inline TensorPtr varied(std::string name, std::vector<std::uint64_t> shape, DType dtype) {
  TensorInfo tensor{.name = std::move(name), .shape = std::move(shape), .dtype = dtype};
  std::vector<std::byte> bytes(tensor.bytes());
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = std::byte((i * 37 + i / 7 + 11) & 0x7b);
  return memory_tensor(std::move(tensor), std::move(bytes));
}

inline TensorPtr levels(std::string name) {
  const std::span<const float, 16> nf4 = four_bit_levels(FourBitType::nf4);
  return memory_tensor(std::move(name), {16}, std::vector<float>(nf4.begin(), nf4.end()));
}

inline TensorPtr text(std::string name, const std::string& value) {
  const std::span<const std::byte> bytes = std::as_bytes(std::span(value));
  return memory_tensor(TensorInfo{std::move(name), {value.size()}, DType::u8}, {bytes.begin(), bytes.end()});
}

inline TensorPtr sizes(std::string name, std::int64_t out, std::int64_t in) {
  std::vector<std::byte> bytes(16);
  std::memcpy(bytes.data(), &out, 8);
  std::memcpy(bytes.data() + 8, &in, 8);
  return memory_tensor(TensorInfo{std::move(name), {2}, DType::i64}, std::move(bytes));
}

inline std::string method(const std::string& name, const std::string& more = "") {
  return R"({"dtype":"bfloat16","quantization_config":{"quant_method":")" + name + "\"" + more + "}}";
}

inline std::vector<QuantizedSeed> all() {
  const std::string state =
      R"({"quant_type":"nf4","blocksize":64,"dtype":"bfloat16","shape":[4,32],"nested_blocksize":256,"nested_dtype":"float32","nested_offset":0.5})";
  const auto weights = [](const std::string& more) {
    return R"(,"config_groups":{"g":{"targets":["Linear"],"weights":{)" + more + "}}}";
  };
  return {
      {"gptq",
       method("gptq", R"(,"bits":4,"group_size":16,"desc_act":true,"sym":false,"checkpoint_format":"gptq")"),
       {varied("m.qweight", {4, 32}, DType::i32), varied("m.qzeros", {2, 4}, DType::i32),
        varied("m.scales", {2, 32}, DType::f16), filled("m.g_idx", {32}, DType::i32, 0)}},
      {"gptq-3bit",
       method("gptq", R"(,"bits":3,"group_size":-1,"sym":false,"checkpoint_format":"gptq_v2")"),
       {varied("m.qweight", {3, 32}, DType::i32), varied("m.qzeros", {1, 3}, DType::i32),
        varied("m.scales", {1, 32}, DType::bf16)}},
      {"awq",
       method("awq", R"(,"bits":4,"group_size":4,"zero_point":true,"version":"gemm")"),
       {varied("m.qweight", {8, 2}, DType::i32), varied("m.qzeros", {2, 2}, DType::i32),
        varied("m.scales", {2, 16}, DType::f16)}},
      {"compressed-packed",
       method("compressed-tensors", weights(R"("num_bits":4,"type":"int","symmetric":false,"group_size":16)")),
       {varied("m.weight_packed", {4, 4}, DType::i32), varied("m.weight_scale", {4, 2}, DType::f16),
        sizes("m.weight_shape", 4, 32), varied("m.weight_zero_point", {1, 2}, DType::i32),
        filled("m.weight_g_idx", {32}, DType::i32, 0xff)}},
      {"compressed-int",
       method("compressed-tensors", weights(R"("num_bits":8,"type":"int","symmetric":false,"block_structure":[2,16])")),
       {varied("a.weight", {4, 32}, DType::i8), varied("a.weight_scale", {2, 2}, DType::f16),
        varied("a.weight_zero_point", {2, 2}, DType::i8)}},
      {"compressed-float",
       method("compressed-tensors", weights(R"("num_bits":8,"type":"float","symmetric":true)")),
       {varied("a.weight", {4, 32}, DType::f8_e4m3), varied("a.weight_scale", {4, 1}, DType::f32)}},
      {"compressed-nvfp4",
       method("compressed-tensors", weights(R"("num_bits":4,"type":"float","symmetric":true)")),
       {varied("b.weight_packed", {2, 16}, DType::u8), varied("b.weight_scale", {2, 2}, DType::f8_e4m3),
        filled("b.weight_global_scale", {1}, DType::f32)}},
      {"compressed-mxfp4",
       method("compressed-tensors", weights(R"("num_bits":4,"type":"float","symmetric":true)")),
       {varied("c.weight_packed", {2, 16}, DType::u8), varied("c.weight_scale", {2, 1}, DType::u8)}},
      {"fp8",
       method("fp8", R"(,"activation_scheme":"dynamic","fmt":"e4m3","weight_block_size":[2,16])"),
       {varied("m.weight", {5, 20}, DType::f8_e4m3), varied("m.weight_scale_inv", {3, 2}, DType::f32)}},
      {"mxfp8",
       method("fp8", R"(,"fmt":"e4m3","weight_block_size":[1,32])"),
       {varied("m.weight", {5, 64}, DType::f8_e4m3), varied("m.weight_scale_inv", {5, 2}, DType::u8)}},
      {"mxfp4",
       method("mxfp4"),
       {varied("m.x_blocks", {2, 3, 2, 16}, DType::u8), varied("m.x_scales", {2, 3, 2}, DType::u8)}},
      {"bitsandbytes-nf4",
       method("bitsandbytes", R"(,"load_in_4bit":true,"bnb_4bit_quant_type":"nf4")"),
       {varied("m.weight", {64, 1}, DType::u8), varied("m.weight.absmax", {2}, DType::u8), levels("m.weight.quant_map"),
        filled("m.weight.nested_absmax", {1}, DType::f32), varied("m.weight.nested_quant_map", {256}, DType::f32),
        text("m.weight.quant_state.bitsandbytes__nf4", state)}},
      {"bitsandbytes-int8",
       method("bitsandbytes", R"(,"load_in_8bit":true)"),
       {varied("m.weight", {2, 8}, DType::i8), varied("m.SCB", {2}, DType::f32),
        filled("m.weight_format", {1}, DType::u8, 0)}},
  };
}
}  // namespace quantized_seeds
