// Packed weights of the rarer kinds against the libraries that read them (tests/golden/make/make_mxfp4.py,
// make_compressed_g_idx.py, make_fp8_edges.py), what every kind of quantized base opens as, and how it is read.

#include <atomic>
#include <cmath>
#include <set>

#include "formats/base64.h"
#include "formats/quantized/packed_tensors.h"
#include "tests/formats/quantized_golden.h"

namespace ropewalk::formats {
namespace {

Json cases_of(const std::string& name) { return read_json(fs::path(ROPEWALK_TEST_DATA_DIR) / name)["cases"]; }

TensorPtr packed(const std::string& name, const std::vector<std::uint64_t>& shape, DType dtype, const Json& base64) {
  const std::string bytes = base64_bytes(base64.get<std::string>()).value();
  std::vector<std::byte> raw(bytes.size());
  std::memcpy(raw.data(), bytes.data(), bytes.size());
  return memory_tensor(TensorInfo{name, shape, dtype}, std::move(raw));
}

/// A tensor of a golden that says its type, shape and bytes.
TensorPtr described(const std::string& name, const Json& part) {
  const std::string dtype = part["dtype"];
  return packed(name, part["shape"].get<std::vector<std::uint64_t>>(),
                dtype == "float8_e4m3fn" ? DType::f8_e4m3
                : dtype == "uint8"       ? DType::u8
                : dtype == "int32"       ? DType::i32
                : dtype == "int64"       ? DType::i64
                                         : dtype_from_name(dtype).value(),
                part["bytes"]);
}

std::vector<TensorPtr> described_parts(const Json& entry) {
  std::vector<TensorPtr> out;
  for (const auto& [name, part] : entry.items())
    if (part.is_object() && part.contains("bytes")) out.push_back(described("m." + name, part));
  return out;
}

void expect_refused(const std::vector<TensorPtr>& tensors, const Json& config, const std::vector<std::string>& parts,
                    ErrorKind kind = ErrorKind::bad_input) {
  expect_error(kind, parts, [&] { dequantized(tensors, config); });
}

// --- MXFP4

Json mxfp4_config(const std::string& dtype = "bfloat16") {
  return {{"dtype", dtype}, {"quantization_config", {{"quant_method", "mxfp4"}}}};
}

std::vector<TensorPtr> experts(const Json& entry) {
  auto shape = entry["shape"].get<std::vector<std::uint64_t>>();
  const TensorPtr blocks = packed("m.gate_up_proj_blocks", shape, DType::u8, entry["blocks"]);
  shape.pop_back();
  return {blocks, packed("m.gate_up_proj_scales", shape, DType::u8, entry["scales"])};
}

/// sha256 of its values in its own type, each NaN the same one.
std::string hash_of_values(const LazyTensor& tensor) {
  std::vector<float> values = read_all<float>(tensor);
  for (float& value : values)
    if (std::isnan(value)) value = std::numeric_limits<float>::quiet_NaN();
  std::vector<std::byte> bytes(*byte_size(tensor.dtype(), values.size()));
  encode_f32(tensor.dtype(), values, bytes);
  return sha256_of({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

TEST(PackedFormats, Mxfp4IsTransformers) {
  const Json cases = cases_of("mxfp4.json");
  ASSERT_EQ(cases.size(), 3u);
  for (const auto& [name, entry] : cases.items())
    for (const auto& [dtype, hash] : entry["dequant"].items()) {
      SCOPED_TRACE(name + " " + dtype);
      const auto got = dequantized(experts(entry), mxfp4_config(dtype));
      ASSERT_EQ(got.size(), 1u);
      const TensorPtr weight = got.at("m.gate_up_proj");
      const auto& shape = entry["shape"];
      EXPECT_EQ(weight->info().shape,
                (std::vector<std::uint64_t>{shape[0], shape[2].get<std::uint64_t>() * 32, shape[1]}));
      EXPECT_EQ(hash_of_values(*weight), hash);
      if (name != "every_scale") expect_any_partition_agrees(*weight);  // NaN differs from itself
    }
}

TEST(PackedFormats, Mxfp4ThatDoesNotFitIsRefused) {
  const Json entry = cases_of("mxfp4.json")["experts"];
  std::vector<TensorPtr> alone = experts(entry);
  alone.pop_back();
  expect_refused(alone, mxfp4_config(), {"'m.gate_up_proj_blocks' has no 'm.gate_up_proj_scales' beside it"});
  expect_refused({packed("m.gate_up_proj_blocks", {3, 6, 8, 8}, DType::u8, entry["blocks"]), experts(entry)[1]},
                 mxfp4_config(), {"is u8 [3, 6, 8, 8], expected u8 [experts, rows, groups, 16]"});
  expect_refused({packed("m.x_blocks", {3, 24, 16}, DType::u8, entry["blocks"]), experts(entry)[1]}, mxfp4_config(),
                 {"is u8 [3, 24, 16]"});
  expect_refused({experts(entry)[0], packed("m.gate_up_proj_scales", {3, 4, 6}, DType::u8, entry["scales"])},
                 mxfp4_config(), {"'m.gate_up_proj_scales' has shape [3, 4, 6], expected [3, 6, 4]"});
  expect_refused({experts(entry)[0], packed("m.gate_up_proj_scales", {3, 6, 4}, DType::i8, entry["scales"])},
                 mxfp4_config(), {"holds i8, expected u8"});
}

// --- compressed-tensors in the order of activations

Json compressed_config(const Json& entry) {
  return {{"quantization_config",
           {{"quant_method", "compressed-tensors"},
            {"format", entry["format"]},
            {"config_groups", {{"group_0", {{"targets", {"Linear"}}, {"weights", entry["weights"]}}}}}}}};
}

TEST(PackedFormats, ActivationOrderIsCompressedTensors) {
  const Json cases = cases_of("compressed_g_idx.json");
  ASSERT_EQ(cases.size(), 3u);
  for (const auto& [name, entry] : cases.items()) {
    SCOPED_TRACE(name);
    const auto got = dequantized(described_parts(entry), compressed_config(entry));
    ASSERT_EQ(got.size(), 1u);
    EXPECT_EQ(tensor_sha256(got.at("m.weight")), entry["dequant"]);
    expect_any_partition_agrees(*got.at("m.weight"));
    Json in_order = entry;  // control: the order matters
    in_order.erase("weight_g_idx");
    EXPECT_NE(tensor_sha256(dequantized(described_parts(in_order), compressed_config(entry)).at("m.weight")),
              entry["dequant"]);
  }
  const Json entry = cases["4bit-sym"];
  const auto with_groups = [&](std::int32_t first) {
    std::vector<std::int32_t> groups(96);
    for (std::size_t i = 0; i < 96; ++i) groups[i] = static_cast<std::int32_t>(i / 32);
    groups[0] = first;
    std::vector<std::byte> raw(96 * 4);
    std::memcpy(raw.data(), groups.data(), raw.size());
    Json others = entry;
    others.erase("weight_g_idx");
    std::vector<TensorPtr> out = described_parts(others);
    out.push_back(memory_tensor(TensorInfo{"m.weight_g_idx", {96}, DType::i32}, std::move(raw)));
    return out;
  };
  expect_refused(with_groups(3), compressed_config(entry), {"gives input 0 to group 3, expected one of 3"});
  expect_refused(with_groups(1), compressed_config(entry), {"gives group 0 31 inputs, expected 32"});
  Json in_order = entry;
  in_order.erase("weight_g_idx");
  EXPECT_EQ(tensor_sha256(dequantized(with_groups(-1), compressed_config(entry)).at("m.weight")),
            tensor_sha256(dequantized(described_parts(in_order), compressed_config(entry)).at("m.weight")));
}

// --- fp8 at the edges

Json fp8_config(const Json& block, const std::string& dtype = "float32") {
  Json config = {{"dtype", dtype}, {"quantization_config", {{"quant_method", "fp8"}}}};
  if (!block.is_null()) config["quantization_config"]["weight_block_size"] = block;
  return config;
}

TEST(PackedFormats, Fp8EdgesAreTheirOwners) {
  const Json cases = cases_of("fp8_edges.json");
  ASSERT_EQ(cases.size(), 4u);
  for (const auto& [name, entry] : cases.items())
    for (const auto& [dtype, hash] : entry["dequant"].items()) {
      SCOPED_TRACE(name + " " + dtype);
      const auto got = dequantized(described_parts(entry), fp8_config(entry["weight_block_size"], dtype));
      ASSERT_EQ(got.size(), 1u);
      EXPECT_EQ(tensor_sha256(got.at("m.weight")), hash);
      expect_any_partition_agrees(*got.at("m.weight"));
    }
  const Json& entry = cases["edges"];
  expect_refused(described_parts(entry), fp8_config(Json::parse("[32, 16]")),
                 {"'m.weight_scale_inv' has shape [2, 4], expected [2, 7]"});
  // sizes whose rounding up would wrap
  expect_refused(described_parts(entry), fp8_config(Json::parse("[18446744073709551615, 32]")),
                 {"weight_block_size is [18446744073709551615,32], expected two sizes above 0, up to 16777216"});
}

// --- what opens, and as what

TEST(PackedFormats, EveryMethodOpensOrIsRefusedByName) {
  const std::vector<std::string> read = {"bitsandbytes", "gptq", "awq", "compressed-tensors", "fp8", "mxfp4"};
  for (const std::string& method : read) {
    Json config = {{"quantization_config", {{"quant_method", method}, {"bits", 4}}}};
    check_quantization_method({"config.json", config.dump(), config});
    std::vector<std::string> warnings;
    const std::vector<TensorPtr> plain = {memory_tensor("m.weight", {2, 2}, {1, 2, 3, 4})};
    EXPECT_EQ(dequantized(plain, config, &warnings).size(), 1u) << method;  // none is packed
    ASSERT_EQ(warnings.size(), 1u) << method;
    EXPECT_NE(warnings[0].find("quantized by " + method + ", but none is packed"), std::string::npos) << warnings[0];
  }
  for (const char* method : {"hqq", "eetq", "aqlm", "quanto", "fbgemm_fp8", "vptq", "torchao", "spqr", "higgs"}) {
    Json config = {{"quantization_config", {{"quant_method", method}}}};
    expect_error(ErrorKind::unsupported, {std::string("by method \"") + method + "\"", "mxfp4"}, [&] {
      check_quantization_method({"config.json", config.dump(), config});
    });
  }
}

// --- how packed matrices are read

/// Counts reads of a tensor's bytes.
class Counted final : public LazyTensor, public StoredBytes {
 public:
  explicit Counted(TensorPtr tensor) : LazyTensor(tensor->info()), tensor_(std::move(tensor)) {}
  void read_f32(RowRange range, std::span<float> values) const override { tensor_->read_f32(range, values); }
  void read_stored(std::uint64_t offset_bytes, std::span<std::byte> bytes) const override {
    ++reads;
    total += bytes.size();
    stored_bytes(*tensor_)->read_stored(offset_bytes, bytes);
  }
  mutable std::atomic<std::uint64_t> reads = 0, total = 0;

 private:
  TensorPtr tensor_;
};

TensorPtr zeros(const std::string& name, std::vector<std::uint64_t> shape, DType dtype) {
  TensorInfo info{name, std::move(shape), dtype};
  const std::uint64_t bytes = info.bytes();
  return memory_tensor(std::move(info), std::vector<std::byte>(bytes));
}

/// Matrices that are stored transposed are read in tiles: no byte twice, and no read of a few bytes.
void expect_long_reads(const std::string& method, const std::vector<TensorPtr>& parts, const Json& config,
                       std::uint64_t least) {
  const auto counted = std::make_shared<const Counted>(parts.front());
  std::vector<TensorPtr> tensors = parts;
  tensors.front() = counted;
  const TensorPtr weight = dequantized(tensors, config).begin()->second;
  counted->reads = counted->total = 0;
  const std::uint64_t rows = weight->info().rows(), unit = weight->row_unit();
  std::vector<float> values(unit * weight->info().columns());
  for (std::uint64_t row = 0; row < rows; row += unit)
    weight->read_f32({row, std::min(rows, row + unit)},
                     std::span(values).first((std::min(rows, row + unit) - row) * weight->info().columns()));
  EXPECT_EQ(counted->total, counted->info().bytes()) << method;
  EXPECT_GE(counted->total / counted->reads, least) << method;
}

TEST(PackedFormats, TransposedMatricesAreReadInLongPieces) {
  constexpr std::uint64_t kOut = 4096, kIn = 1024;
  expect_long_reads("gptq",
                    {zeros("m.qweight", {kIn / 8, kOut}, DType::i32), zeros("m.qzeros", {8, kOut / 8}, DType::i32),
                     zeros("m.scales", {8, kOut}, DType::f16)},
                    {{"quantization_config", {{"quant_method", "gptq"}, {"bits", 4}, {"sym", false}}}}, 4096);
  expect_long_reads("awq",
                    {zeros("m.qweight", {kIn, kOut / 8}, DType::i32), zeros("m.qzeros", {8, kOut / 8}, DType::i32),
                     zeros("m.scales", {8, kOut}, DType::f16)},
                    {{"quantization_config", {{"quant_method", "awq"}, {"bits", 4}}}}, 512);
  expect_long_reads("mxfp4",
                    {zeros("m.x_blocks", {2, 64, 32, 16}, DType::u8), zeros("m.x_scales", {2, 64, 32}, DType::u8)},
                    mxfp4_config(), 512);
}

}  // namespace
}  // namespace ropewalk::formats
