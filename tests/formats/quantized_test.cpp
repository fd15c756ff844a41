// Quantized checkpoints other than bitsandbytes' (tests/golden/quantized.tar.zst): each case written and dequantized by its
// own library (make_gptq_awq.py, make_compressed.py, make_fp8.py); sha256 of what that gives.

#include "lib/adapters/changed_tensor.h"
#include "tests/formats/quantized_golden.h"

namespace ropewalk::formats {
namespace {

struct Golden {
  Json cases;
  std::map<std::string, TensorPtr> tensors;
};
Golden golden(const std::string& name) {
  const fs::path folder = kGolden / "quantized" / name;
  return {read_json(folder / "index.json")["cases"],
          tensors_by_name(read_safetensors(folder / "tensors.safetensors").tensors)};
}

/// The golden's bytes under another name.
TensorPtr stored_as(const TensorPtr& tensor, const std::string& name) {
  const std::string bytes = raw_bytes(*tensor);
  std::vector<std::byte> raw(bytes.size());
  std::memcpy(raw.data(), bytes.data(), bytes.size());
  return memory_tensor(TensorInfo{name, tensor->info().shape, tensor->dtype()}, std::move(raw));
}

/// The tensors of a case, as those of a module "m".
std::vector<TensorPtr> stored(const Golden& from, const Json& entry, const std::vector<std::string>& parts) {
  std::vector<TensorPtr> out;
  for (const std::string& part : parts)
    if (entry.contains(part)) out.push_back(stored_as(from.tensors.at(entry[part]), "m." + part));
  return out;
}

void expect_case(const std::vector<TensorPtr>& tensors, const Json& config, const Json& entry) {
  const auto got = dequantized(tensors, config);
  ASSERT_EQ(got.size(), 1u);
  const TensorPtr weight = got.at("m.weight");
  EXPECT_EQ(tensor_sha256(weight), entry["dequant"]);
  expect_any_partition_agrees(*weight);
}

void expect_refused(const std::vector<TensorPtr>& tensors, const Json& config, const std::vector<std::string>& parts,
                    ErrorKind kind = ErrorKind::bad_input) {
  expect_error(kind, parts, [&] { dequantized(tensors, config); });
}

const std::vector<std::string> kGptqParts = {"qweight", "qzeros", "scales", "g_idx"};

Json gptq_config(const Json& entry) {
  return {{"quantization_config",
           {{"quant_method", "gptq"},
            {"bits", entry["bits"]},
            {"group_size", entry["group_size"]},
            {"desc_act", entry["desc_act"]},
            {"sym", entry["sym"]},
            {"checkpoint_format", entry["checkpoint_format"]}}}};
}

TEST(Quantized, GptqIsGptqModels) {
  const Golden from = golden("gptq");
  std::size_t compared = 0;
  for (const auto& [name, entry] : from.cases.items()) {
    if (!name.starts_with("gptq")) continue;
    SCOPED_TRACE(name);
    expect_case(stored(from, entry, kGptqParts), gptq_config(entry), entry);
    if (!entry["desc_act"])  // what AutoGPTQ left out where inputs are in order
      expect_case(stored(from, entry, {"qweight", "qzeros", "scales"}), gptq_config(entry), entry);
    Json relabelled = entry;  // a wrong label shows in symmetric zero points, and asymmetric ones say nothing
    relabelled["checkpoint_format"] = entry["checkpoint_format"] == "gptq" ? "gptq_v2" : "gptq";
    std::vector<std::string> warnings;
    const auto got = dequantized(stored(from, entry, kGptqParts), gptq_config(relabelled), &warnings);
    EXPECT_EQ(tensor_sha256(got.at("m.weight")) == entry["dequant"].get<std::string>(), entry["sym"].get<bool>());
    EXPECT_EQ(warnings.size(), entry["sym"].get<bool>() ? 1u : 0u);
    ++compared;
  }
  EXPECT_EQ(compared, 48u);
}

// A GPT-2's Conv1D is packed as the linear layer it becomes (AutoGPTQ and GPTQModel turn its weight first), and read as its
// class stores it: turned again. AutoAWQ packs none.
TEST(Quantized, PackedConvolutionsAreTurnedBack) {
  const Golden from = golden("gptq");
  const auto stored_conv = [&](const Json& entry) {
    std::vector<TensorPtr> out;
    for (const TensorPtr& tensor : stored(from, entry, kGptqParts))
      out.push_back(stored_as(tensor, "h.0.attn.c_attn" + tensor->name().substr(1)));
    return out;
  };
  const auto first = [&](const char* method) {
    for (const auto& [name, entry] : from.cases.items())
      if (name.starts_with(method)) return Json(entry);
    return Json();
  };
  const Json gptq = first("gptq"), awq = first("awq");
  Json config = gptq_config(gptq);
  const TensorPtr linear = dequantized(stored(from, gptq, kGptqParts), config).at("m.weight");
  for (const char* type : {"gpt_bigcode", "qwen"}) {  // linear layers of the same names
    config["model_type"] = type;
    EXPECT_EQ(tensor_sha256(dequantized(stored_conv(gptq), config).at("h.0.attn.c_attn.weight")), gptq["dequant"]);
  }
  config["model_type"] = "gpt2";
  const TensorPtr turned = dequantized(stored_conv(gptq), config).at("h.0.attn.c_attn.weight");
  const std::uint64_t out = linear->info().shape[0], in = linear->info().shape[1];
  ASSERT_EQ(turned->info().shape, (std::vector<std::uint64_t>{in, out}));
  EXPECT_EQ(turned->dtype(), linear->dtype());
  const std::vector<double> a = read_whole(*linear), b = read_whole(*turned);
  for (std::uint64_t row = 0; row < in; ++row)
    for (std::uint64_t column = 0; column < out; ++column) ASSERT_EQ(b[row * out + column], a[column * in + row]);
  expect_any_partition_agrees(*turned);

  config["model_type"] = "vision-encoder-decoder";
  config["decoder"] = {{"model_type", "gpt2"}};
  expect_refused(stored_conv(gptq), config, {"c_attn.weight", "only the class says"}, ErrorKind::unsupported);
  config.erase("decoder");
  config["model_type"] = "own_class";
  expect_refused(stored_conv(gptq), config, {"c_attn.weight", "only the class says"}, ErrorKind::unsupported);
  const Json of_awq = {{"model_type", "gpt2"},
                       {"quantization_config", {{"quant_method", "awq"}, {"bits", 4}, {"version", "gemm"}}}};
  expect_refused(stored_conv(awq), of_awq, {"packed by awq, and that packs no Conv1D"}, ErrorKind::unsupported);
}

TEST(Quantized, AwqIsAutoAwqs) {
  const Golden from = golden("gptq");
  const Json config = {{"quantization_config", {{"quant_method", "awq"}, {"bits", 4}, {"version", "gemm"}}}};
  std::size_t compared = 0;
  for (const auto& [name, entry] : from.cases.items()) {
    if (!name.starts_with("awq")) continue;
    SCOPED_TRACE(name);
    expect_case(stored(from, entry, {"qweight", "qzeros", "scales"}), config, entry);
    ++compared;
  }
  EXPECT_EQ(compared, 4u);
}

Json compressed_config(const Json& entry) {
  return {{"quantization_config",
           {{"quant_method", "compressed-tensors"},
            {"format", entry["format"]},
            {"config_groups", {{"group_0", {{"targets", {"Linear"}}, {"weights", entry["weights"]}}}}}}}};
}
const std::vector<std::string> kCompressedParts = {"weight",       "weight_packed",     "weight_scale",
                                                   "weight_shape", "weight_zero_point", "weight_global_scale"};

TEST(Quantized, CompressedTensorsAreItsLibrarys) {
  const Golden from = golden("compressed");
  std::size_t compared = 0;
  for (const auto& [name, entry] : from.cases.items()) {
    SCOPED_TRACE(name);
    std::vector<TensorPtr> tensors = stored(from, entry, kCompressedParts);
    tensors.push_back(memory_tensor("m.input_scale", {1}, {0.5f}));  // of activations: no part of the weight
    expect_case(tensors, compressed_config(entry), entry);
    ++compared;
  }
  EXPECT_EQ(compared, 34u);
}

TEST(Quantized, Fp8BlocksAreTransformers) {
  const Golden from = golden("fp8");
  for (const auto& [name, entry] : from.cases.items())
    for (const auto& [dtype, hash] : entry["dequant"].items()) {
      SCOPED_TRACE(name + " " + dtype);
      const Json config = {
          {"dtype", dtype},
          {"quantization_config", {{"quant_method", "fp8"}, {"weight_block_size", entry["weight_block_size"]}}}};
      const auto got = dequantized(stored(from, entry, {"weight", "weight_scale_inv"}), config);
      ASSERT_EQ(got.size(), 1u);
      EXPECT_EQ(tensor_sha256(got.at("m.weight")), hash);
      expect_any_partition_agrees(*got.at("m.weight"));
    }
  EXPECT_EQ(from.cases.size(), 3u);
}

TEST(Quantized, ScaledLayersThatDoNotFitAreRefused) {
  const Golden from = golden("compressed");
  const auto whole = [&](const char* name) { return stored(from, from.cases[name], kCompressedParts); };
  const auto config = [&](const char* name) { return compressed_config(from.cases[name]); };
  const auto without = [&](const char* name, const std::string& part) {
    std::vector<TensorPtr> out = whole(name);
    std::erase_if(out, [&](const TensorPtr& tensor) { return tensor->name() == "m." + part; });
    return out;
  };
  const auto with = [&](const char* name, const std::string& part, TensorPtr other) {
    std::vector<TensorPtr> out = without(name, part);
    out.push_back(std::move(other));
    return out;
  };
  for (const char* part : {"weight_shape", "weight_scale"})
    expect_refused(without("pack-4bit-g32-sym-f16", part), config("pack-4bit-g32-sym-f16"),
                   {std::string("has no 'm.") + part + "' beside it"});
  expect_refused(whole("pack-4bit-g32-sym-f16"), config("pack-8bit-g32-sym-f16"),
                 {"'m.weight_packed' has shape [64, 12] for a weight of [64, 96]"});
  expect_refused(with("pack-4bit-g32-sym-f16", "weight_scale",
                      stored_as(from.tensors.at(from.cases["int8-channel-sym"]["weight_scale"]), "m.weight_scalf")),
                 config("pack-4bit-g32-sym-f16"), {"has no 'm.weight_scale'"});
  expect_refused(with("fp8-block", "weight_scale", memory_tensor("m.weight_scale", {3, 3}, std::vector<float>(9))),
                 config("fp8-block"), {"'m.weight_scale' has shape [3, 3] for a weight of [64, 96]"});
  expect_refused(without("nvfp4", "weight_global_scale"), config("nvfp4"), {"has no 'm.weight_global_scale'"});
  expect_refused(with("nvfp4", "weight_global_scale", memory_tensor("m.weight_global_scale", {1}, {0.0f})),
                 config("nvfp4"), {"is not above zero"});
  expect_refused(without("int8-tensor", "weight"), config("int8-tensor"), {"has no 'm.weight' beside it"});
  std::vector<TensorPtr> ordered = whole("pack-4bit-g32-sym-f16");
  ordered.push_back(memory_tensor("m.weight_g_idx", {96}, std::vector<float>(96)));
  expect_refused(ordered, config("pack-4bit-g32-sym-f16"), {"'m.weight_g_idx' holds f32, expected i32"});
  Json fp8 = {{"quantization_config", {{"quant_method", "fp8"}, {"weight_block_size", {0, 128}}}}};
  expect_refused(whole("fp8-channel"), fp8, {"weight_block_size is [0,128]"});
  fp8["quantization_config"]["weight_block_size"] = Json::parse("[128, 128]");
  expect_refused(whole("fp8-channel"), fp8, {"'m.weight_scale' has shape [64, 1], expected [1, 1]"});
}

// What a configuration says beside the groups makes other weights of the same tensors, or another place of their scales.
TEST(Quantized, WhatElseCompressedTensorsSay) {
  const Golden from = golden("compressed");
  const std::vector<TensorPtr> whole = stored(from, from.cases["int8-channel-sym"], kCompressedParts);
  const Json plain = compressed_config(from.cases["int8-channel-sym"]);
  const auto with = [&](const char* key, const Json& value) {
    Json config = plain;
    config["quantization_config"][key] = value;
    return config;
  };
  for (const char* format : {"marlin-24", "sparse-24-bitmask", "mxfp8-quantized", "new"})
    expect_refused(whole, with("format", format), {"'format' of compressed-tensors is \"" + std::string(format) + "\""},
                   ErrorKind::unsupported);
  const Json rotation = Json::parse(R"({"config_groups": {"R4": {"type": "hadamard", "apply": []}}})");
  expect_refused(whole, with("transform_config", rotation), {"'transform_config' rotates"}, ErrorKind::unsupported);
  expect_refused(whole, with("sparsity_config", {{"format", "sparse-24-bitmask"}}), {"'sparsity_config' is"},
                 ErrorKind::unsupported);
  Json groups = plain;
  groups["quantization_config"]["config_groups"]["group_0"]["weights"] = {
      {"num_bits", 4}, {"type", "int"}, {"symmetric", true}, {"strategy", "group"}, {"group_size", 16}};
  expect_refused(whole, groups,
                 {"'m.weight_scale' has shape [64, 1] for a weight of [64, 96], and config_groups says strategy "
                  "\"group\" with group_size 16"});
  for (const Json& config :
       {with("format", nullptr), with("transform_config", Json::object()), with("transform_config", nullptr),
        with("sparsity_config", {{"format", "dense"}, {"targets", Json::array()}})})
    EXPECT_EQ(dequantized(whole, config).size(), 1u) << config;
}

TEST(Quantized, PackedLayersThatDoNotFitAreRefused) {
  const Golden from = golden("gptq");
  const Json& entry = from.cases["gptq-4bit-g32-sym-act-v1"];
  const Json config = gptq_config(entry);
  const std::vector<TensorPtr> whole = stored(from, entry, kGptqParts);
  const auto ints = [](const std::string& name, std::vector<std::uint64_t> shape, std::int32_t value = 0) {
    std::vector<std::byte> bytes;
    for (std::uint64_t i = 0; i < shape[0] * (shape.size() > 1 ? shape[1] : 1); ++i)
      for (const std::byte byte : std::as_bytes(std::span(&value, 1))) bytes.push_back(byte);
    return memory_tensor(TensorInfo{name, std::move(shape), DType::i32}, std::move(bytes));
  };
  const auto with = [&](TensorPtr other) {
    std::vector<TensorPtr> out = whole;
    for (TensorPtr& tensor : out)
      if (tensor->name() == other->name()) tensor = other;
    return out;
  };
  for (const char* part : {"qzeros", "scales"}) {
    std::vector<TensorPtr> less = whole;
    std::erase_if(less, [&](const TensorPtr& tensor) { return tensor->name() == std::string("m.") + part; });
    expect_refused(less, config, {std::string("has no 'm.") + part + "' beside it"});
  }
  expect_refused(with(ints("m.g_idx", {96}, 3)), config, {"gives input 0 to group 3, expected one of 3"});
  expect_refused(with(ints("m.g_idx", {96}, -1)), config, {"to group -1"});
  expect_refused(with(ints("m.g_idx", {100})), config, {"'m.qweight' has shape [12, 64] for 100 inputs"});
  expect_refused(with(ints("m.qzeros", {3, 9})), config, {"'m.qzeros' has shape [3, 9], expected [3, 8]"});
  expect_refused(with(memory_tensor("m.scales", {3, 32}, std::vector<float>(96))), config, {"expected [groups, 64]"});
  expect_refused(with(memory_tensor("m.qweight", {12, 64}, std::vector<float>(768))), config, {"is f32 [12, 64]"});
  Json other = config;
  other["quantization_config"]["checkpoint_format"] = "marlin";
  expect_refused(whole, other, {"'marlin', read are gptq and gptq_v2"}, ErrorKind::unsupported);
  other["quantization_config"] = {{"quant_method", "awq"}, {"bits", 4}, {"version", "gemv"}};
  expect_refused(whole, other, {"'gemv', read is gemm"}, ErrorKind::unsupported);
  other["quantization_config"]["version"] = "gemm";
  expect_refused(whole, other, {"'m.scales' has shape [3, 64]"});
  // zeros that AutoGPTQ left as biases of a model without any go, others stay for the inventory to refuse
  std::vector<TensorPtr> biased = whole;
  biased.push_back(memory_tensor("m.bias", {64}, std::vector<float>(64)));
  EXPECT_EQ(dequantized(biased, config).size(), 1u);
  biased.back() = memory_tensor("m.bias", {64}, std::vector<float>(64, 1));
  EXPECT_EQ(dequantized(biased, config).size(), 2u);
}

}  // namespace
}  // namespace ropewalk::formats
