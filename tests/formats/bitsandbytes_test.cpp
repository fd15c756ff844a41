// bitsandbytes 0.50.2 (tests/golden/bnb.tar.zst, make_bnb.py, make_qlora.py, pack_bnb.py).

#include "formats/adapters/peft.h"
#include "formats/source.h"
#include "lib/quantized/four_bit_quantize.h"
#include "tests/formats/quantized_golden.h"

namespace ropewalk::formats {
namespace {

const fs::path kBnb = kGolden / "bnb";

const Json& golden() {
  static const Json index = read_json(kBnb / "index.json");
  return index;
}
const std::map<std::string, TensorPtr>& golden_tensors() {
  static const auto tensors = tensors_by_name(read_safetensors(kBnb / "tensors.safetensors").tensors);
  return tensors;
}

const char* config_dtype(const std::string& torch) {
  return torch == "torch.float32" ? "float32" : torch == "torch.float16" ? "float16" : "bfloat16";
}

Json four_bit_config() { return {{"quantization_config", {{"quant_method", "bitsandbytes"}, {"load_in_4bit", true}}}}; }

TensorPtr bytes_tensor(const std::string& name, DType dtype, std::string_view bytes) {
  std::vector<std::byte> raw(bytes.size());
  std::memcpy(raw.data(), bytes.data(), bytes.size());
  const auto item = static_cast<std::uint64_t>(info(dtype).block_bytes);
  return memory_tensor(TensorInfo{name, {bytes.size() / item}, dtype}, std::move(raw));
}

/// The golden's bytes under another name.
TensorPtr stored_as(const TensorPtr& tensor, const std::string& name) {
  const std::string bytes = raw_bytes(*tensor);
  std::vector<std::byte> raw(bytes.size());
  std::memcpy(raw.data(), bytes.data(), bytes.size());
  return memory_tensor(TensorInfo{name, tensor->info().shape, tensor->dtype()}, std::move(raw));
}

/// The tensors that a checkpoint would hold for a case of the golden's index; `edit`: of its quant_state.
std::vector<TensorPtr> stored_case(const Json& entry, const std::function<void(Json&)>& edit = {}) {
  const auto& all = golden_tensors();
  const auto part = [&](const char* key, const std::string& name) {
    return bytes_tensor(name, all.at(entry[key])->dtype(), raw_bytes(*all.at(entry[key])));
  };
  const std::string type = entry["quant_type"];
  Json state = {{"quant_type", type},
                {"blocksize", entry["blocksize"]},
                {"dtype", config_dtype(entry["dtype"])},
                {"shape", entry["shape"]}};
  std::vector<TensorPtr> tensors = {
      part("packed", "w.weight"), part("absmax", "w.weight.absmax"),
      bytes_tensor("w.weight.quant_map", DType::f32, raw_bytes(*all.at("quant_map_" + type)))};
  if (entry["double_quant"]) {
    tensors.push_back(part("nested_absmax", "w.weight.nested_absmax"));
    tensors.push_back(bytes_tensor("w.weight.nested_quant_map", DType::f32, raw_bytes(*all.at("nested_quant_map"))));
    std::array<float, 1> offset;
    all.at(entry["nested_offset"])->read_f32({0, 1}, offset);
    state["nested_blocksize"] = entry["nested_blocksize"];
    state["nested_dtype"] = "float32";
    state["nested_offset"] = offset[0];
  }
  if (edit) edit(state);
  tensors.push_back(bytes_tensor("w.weight.quant_state.bitsandbytes__" + type, DType::u8, state.dump()));
  return tensors;
}

// Every case of the library's quantizer whose bytes the archive holds, in the type it returns and in f32.
TEST(Bitsandbytes, FourBitTensorsAreTheLibrarys) {
  std::size_t compared = 0, not_held = 0;
  for (const auto& [name, entry] : golden()["cases"].items()) {
    if (!entry.contains("packed")) {
      ++not_held;
      continue;
    }
    SCOPED_TRACE(name);
    const auto got = dequantized(stored_case(entry), four_bit_config());
    ASSERT_EQ(got.size(), 1u);
    const TensorPtr weight = got.at("w.weight");
    EXPECT_EQ(Json(weight->info().shape), entry["shape"]);
    EXPECT_EQ(info(weight->dtype()).torch, config_dtype(entry["dtype"]));
    EXPECT_EQ(tensor_sha256(weight), entry["dequant_sha256"]);
    expect_any_partition_agrees(*weight);
    const auto wide =
        dequantized(stored_case(entry, [](Json& state) { state["dtype"] = "float32"; }), four_bit_config());
    EXPECT_EQ(tensor_sha256(wide.at("w.weight")), entry["dequant_f32_sha256"]);
    ++compared;
  }
  EXPECT_GE(compared, 140u);
  EXPECT_EQ(compared + not_held, golden()["cases"].size());
}

TEST(Bitsandbytes, Int8RowsAreTheLibrarys) {
  const Json config = {{"dtype", "float32"},
                       {"quantization_config", {{"quant_method", "bitsandbytes"}, {"load_in_8bit", true}}}};
  for (const auto& [name, entry] : golden()["int8"].items()) {
    SCOPED_TRACE(name);
    const TensorPtr codes = golden_tensors().at(entry["q"]), rows = golden_tensors().at(entry["row_absmax"]);
    const auto got = dequantized({stored_as(codes, "m.weight"), stored_as(rows, "m.SCB")}, config);
    ASSERT_EQ(got.size(), 1u);
    EXPECT_EQ(tensor_sha256(got.at("m.weight")), entry["dequant_sha256"]);
    expect_any_partition_agrees(*got.at("m.weight"));
  }
}

// Checkpoints as transformers 5.23.0 saves them, whole: every tensor, then merged with an adapter.
TEST(Bitsandbytes, CheckpointsOfTransformersAndMergesIntoThem) {
  const std::map<std::string, std::string> methods = {
      {"hf-fp4", "bitsandbytes fp4"},
      {"hf-int8", "bitsandbytes int8"},
      {"hf-nf4", "bitsandbytes nf4"},
      {"hf-nf4-dq", "bitsandbytes nf4, double quantization"},
      {"hf-nf4-dq-bf16storage", "bitsandbytes nf4, double quantization"},
      {"hf-nf4-skip", "bitsandbytes nf4, double quantization"}};
  EXPECT_EQ(golden()["checkpoints"].size(), methods.size());
  for (const auto& [name, tensors] : golden()["checkpoints"].items()) {
    SCOPED_TRACE(name);
    const fs::path folder = kBnb / name;
    const Source source = open_source(parse_source(folder.string()), {}, {});
    ASSERT_TRUE(source.quantization);
    EXPECT_EQ(source.quantization->method, methods.at(name));
    EXPECT_EQ(source.quantization->weights, tensors.size());
    const auto stored = tensors_by_name(read_safetensors(folder / "model.safetensors").tensors);
    std::size_t packed = 0;
    for (const TensorPtr& tensor : source.checkpoint.tensors) {
      if (!tensors.contains(tensor->name())) {
        EXPECT_EQ(raw_bytes(*tensor), raw_bytes(*stored.at(tensor->name()))) << tensor->name();
        continue;
      }
      ++packed;
      EXPECT_EQ(tensor_sha256(tensor), tensors[tensor->name()]["dequant"]) << tensor->name();
      expect_any_partition_agrees(*tensor);
    }
    EXPECT_EQ(packed, tensors.size());

    OpenOptions wide;
    wide.merge_dtype = DType::f32;
    const std::string adapter = (kGolden / "peft/dtype-f32-on-f16").string();
    const Source merged = open_source(parse_source(folder.string() + "+" + adapter), wide, {});
    std::size_t changed = 0;
    for (const TensorPtr& tensor : merged.checkpoint.tensors)
      if (tensors.contains(tensor->name())) {
        ++changed;
        EXPECT_EQ(tensor_sha256(tensor), tensors[tensor->name()]["merged_stored"]) << tensor->name();
      }
    EXPECT_EQ(changed, tensors.size());
  }
}

std::string sha256_of_floats(std::span<const float> values) {
  return sha256_of({reinterpret_cast<const char*>(values.data()), values.size_bytes()});
}

// The quantizer, part by part, and the round trip of it, on every case: also those whose bytes the archive has as hashes
// alone.
TEST(Bitsandbytes, QuantizesAsTheLibraryDoes) {
  const std::string map = raw_bytes(*golden_tensors().at("nested_quant_map"));
  EXPECT_EQ(sha256_of_floats(nested_levels()), sha256_of(map));
  std::size_t compared = 0;
  for (const auto& [name, entry] : golden()["cases"].items()) {
    SCOPED_TRACE(name);
    const TensorPtr weight = golden_tensors().at(entry["w"]);
    const FourBitType type = *four_bit_type(entry["quant_type"].get<std::string>());
    const std::uint64_t block = entry["blocksize"], elements = weight->info().elements();
    const std::vector<float> values = read_all<float>(*weight);
    std::vector<std::uint8_t> codes(elements + 1);
    std::vector<float> scales;
    for (std::uint64_t first = 0; first < elements; first += block) {
      const bool whole = elements - first >= block;
      const std::span<const float> part = std::span(values).subspan(first, std::min(block, elements - first));
      scales.push_back(four_bit_scale(part, whole));
      encode_four_bit(type, part, scales.back(), whole, std::span(codes).subspan(first));
    }
    if (elements % 2 != 0) {  // the library packs a zero after the last of an odd number
      const float zero = 0;
      encode_four_bit(type, {&zero, 1}, 1, true, std::span(codes).subspan(elements));
    }
    std::string packed;
    for (std::uint64_t i = 0; i < elements; i += 2) packed += static_cast<char>(codes[i] << 4 | codes[i + 1]);
    EXPECT_EQ(sha256_of(packed), entry["packed_sha256"]);
    if (entry["double_quant"]) {
      const NestedScales nested = quantize_scales(scales);
      EXPECT_EQ(sha256_of_floats({&nested.offset, 1}), entry["nested_offset_sha256"]);
      EXPECT_EQ(sha256_of_floats(nested.absmax), entry["nested_absmax_sha256"]);
      EXPECT_EQ(sha256_of({reinterpret_cast<const char*>(nested.codes.data()), nested.codes.size()}),
                entry["absmax_sha256"]);
    } else {
      EXPECT_EQ(sha256_of_floats(scales), entry["absmax_sha256"]);
    }
    const TensorPtr again = four_bit_round_trip(weight, type, block, entry["double_quant"]);
    EXPECT_EQ(tensor_sha256(again), entry["dequant_sha256"]);
    expect_any_partition_agrees(*again);
    ++compared;
  }
  EXPECT_EQ(compared, golden()["cases"].size());
  EXPECT_GE(compared, 150u);
}

// float16 of the trained model, through NF4 and back, is what bitsandbytes dequantizes of the fixture's 4-bit model; with
// the adapter on top, merged in float64 and rounded once, what the adapter was trained as (merged.json: sha256).
TEST(Bitsandbytes, TheTrainedModelThroughNf4) {
  const fs::path fixtures = kGolden / "fixtures";
  const Json wanted = read_json(fixtures / "adapters/qlora-shakespeare-merged/merged.json")["tensors"];
  OpenOptions options;
  options.nf4_base = true;
  const Source source = open_source(parse_source((fixtures / "models/tolstoy-4m-yarn-2k").string() + "+" +
                                                 (fixtures / "adapters/qlora-shakespeare").string()),
                                    options, {});
  std::size_t compared = 0;
  for (std::size_t i = 0; i < source.base_tensors.size(); ++i) {
    const std::string& name = source.base_tensors[i]->name();
    if (!wanted.contains(name)) {
      EXPECT_FALSE(source.nf4_base.contains(name)) << name;
      continue;
    }
    EXPECT_TRUE(source.nf4_base.contains(name)) << name;
    EXPECT_EQ(tensor_sha256(source.base_tensors[i]), wanted[name]["nf4_base"]) << name;
    EXPECT_EQ(tensor_sha256(source.checkpoint.tensors[i]), wanted[name]["nf4"]) << name;
    ++compared;
  }
  EXPECT_EQ(compared, wanted.size());
}

std::vector<TensorPtr> without(std::vector<TensorPtr> tensors, const std::string& name) {
  std::erase_if(tensors, [&](const TensorPtr& tensor) { return tensor->name() == name; });
  return tensors;
}
std::vector<TensorPtr> with(std::vector<TensorPtr> tensors, TensorPtr other) {
  for (TensorPtr& tensor : tensors)
    if (tensor->name() == other->name()) tensor = other;
  return tensors;
}

// Every part that is missing, every number that lies: one line that says which, before anything is allocated.
TEST(Bitsandbytes, WhatDoesNotFitIsRefused) {
  const Json& entry = golden()["cases"]["plain-7x33-f16/nf4-b64-dq"];
  const auto refused = [&](const std::vector<TensorPtr>& tensors, const std::vector<std::string>& parts,
                           ErrorKind kind = ErrorKind::bad_input) {
    expect_error(kind, parts, [&] { dequantized(tensors, four_bit_config()); });
  };
  const auto state = [&](const char* key, const Json& value) {
    return stored_case(entry, [&](Json& json) { value.is_null() ? void(json.erase(key)) : void(json[key] = value); });
  };
  const std::vector<TensorPtr> whole = stored_case(entry);
  EXPECT_NO_THROW(dequantized(whole, four_bit_config()));
  for (const char* part : {"", ".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map"})
    refused(without(whole, std::string("w.weight") + part), {std::string("has no 'w.weight") + part + "'"});
  for (const char* key : {"quant_type", "blocksize", "dtype", "shape", "nested_dtype", "nested_blocksize"})
    refused(state(key, nullptr), {"w.weight.quant_state.bitsandbytes__nf4'", std::string("'") + key + "' is nothing"});
  refused(state("quant_type", "fp4"), {"quant_type is fp4, its name says nf4"});
  refused(state("quant_type", "af4"), {"\"af4\"", "expected nf4 or fp4"});
  refused(state("blocksize", 48), {"'blocksize' is 48, expected a power of two"});
  refused(state("blocksize", 0), {"'blocksize' is 0"});
  refused(state("blocksize", std::uint64_t{1} << 63), {"'blocksize' is 9223372036854775808"});
  refused(state("blocksize", 128), {"'w.weight.absmax' has shape [4], expected [2]"});
  refused(state("dtype", "float64"), {"'dtype' is \"float64\""});
  refused(state("shape", {7, 34}), {"'w.weight' has 116 bytes, expected two elements a byte of shape [7, 34]"});
  refused(state("shape", {std::uint64_t{1} << 32, std::uint64_t{1} << 32}), {"expected two elements a byte"});
  refused(state("shape", {-7, 33}), {"'shape' is [-7,33]"});
  refused(state("nested_offset", "0.1"), {"'nested_offset' is \"0.1\""});
  refused(state("nested_offset", 1e300), {"'nested_offset' is 1e+300"});
  refused(with(whole, bytes_tensor("w.weight.quant_state.bitsandbytes__nf4", DType::u8, "[1]")),
          {"holds [1], expected a JSON object"});
  refused(with(whole, bytes_tensor("w.weight.quant_state.bitsandbytes__nf4", DType::u8, "{\"shape\"")), {"__nf4'"});
  refused(with(whole, bytes_tensor("w.weight.quant_state.bitsandbytes__nf4", DType::u8, std::string(70000, ' '))),
          {"70000 bytes of JSON"});
  refused(with(whole, bytes_tensor("w.weight.absmax", DType::f32, std::string(16, ' '))),
          {"'w.weight.absmax' holds f32, expected u8"});
  refused(with(whole, bytes_tensor("w.weight.quant_map", DType::f32, std::string(64, '\0'))),
          {"has 0 for code 0, expected -1"}, ErrorKind::unsupported);
  for (const auto& [name, one] : golden()["int8"].items()) {
    const TensorPtr q = stored_as(golden_tensors().at(one["q"]), "m.weight");
    const TensorPtr rows = stored_as(golden_tensors().at(one["row_absmax"]), "m.SCB");
    refused({rows}, {"'m.SCB' has no 'm.weight' beside it"});
    refused({q, bytes_tensor("m.SCB", DType::f32, std::string(12, '\0'))}, {"'m.SCB' has shape [3]"});
    refused({q, rows, bytes_tensor("m.weight_format", DType::u8, "\1")}, {"'m.weight_format' is 1, expected 0"},
            ErrorKind::unsupported);
    break;
  }
  std::vector<std::string> warnings;
  EXPECT_EQ(dequantized({memory_tensor("a.weight", {1, 2}, {1, 2})}, four_bit_config(), &warnings).size(), 1u);
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_NE(warnings[0].find("none is packed: read as they are"), std::string::npos);
}

}  // namespace
}  // namespace ropewalk::formats
