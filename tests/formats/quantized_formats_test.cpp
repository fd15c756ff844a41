// Every format of quantized weights that is read is held against what its own library makes of the same bytes. The cases
// themselves are compared where they are opened: quantized_test.cpp, packed_formats_test.cpp, bitsandbytes_test.cpp.

#include <gtest/gtest.h>

#include <set>

#include "tests/formats/quantized_lies.h"

namespace ropewalk::formats {
namespace {

/// The methods that the refusal of an unknown one names.
std::set<std::string> methods_read() {
  const Json config = {{"quantization_config", {{"quant_method", "none"}}}};
  try {
    check_quantization_method({"config.json", config.dump(), config});
  } catch (const Error& error) {
    const std::string list = error.problem().substr(error.problem().find("read are ") + 9);
    std::set<std::string> out;
    for (std::size_t at = 0; at < list.size();) {
      const std::size_t end = std::min(list.find(", ", at), list.size());
      out.insert(list.substr(at, end - at));
      at = end + 2;
    }
    return out;
  }
  return {};
}

/// An index of goldens, and one of its cases with a hash of what the library dequantizes to.
struct HeldAgainst {
  fs::path index;
  std::string hash;
};
const fs::path kNumbers = ROPEWALK_TEST_DATA_DIR;
const std::map<std::string, HeldAgainst> kHeld = {
    {"gptq", {kGolden / "quantized/gptq/index.json", "/cases/gptq-4bit-g32-asym-act-v1/dequant"}},
    {"gptq-3bit", {kGolden / "quantized/gptq/index.json", "/cases/gptq-3bit-g-1-asym-v2/dequant"}},
    {"awq", {kGolden / "quantized/gptq/index.json", "/cases/awq-g32-asym/dequant"}},
    {"compressed-packed", {kGolden / "quantized/compressed/index.json", "/cases/pack-4bit-g32-asym-f16/dequant"}},
    {"compressed-int", {kGolden / "quantized/compressed/index.json", "/cases/int8-channel-asym/dequant"}},
    {"compressed-float", {kGolden / "quantized/compressed/index.json", "/cases/fp8-channel-f32/dequant"}},
    {"compressed-nvfp4", {kGolden / "quantized/compressed/index.json", "/cases/nvfp4/dequant"}},
    {"compressed-mxfp4", {kGolden / "quantized/compressed/index.json", "/cases/mxfp4/dequant"}},
    {"fp8", {kGolden / "quantized/fp8/index.json", "/cases/blocks/dequant/bfloat16"}},
    {"mxfp8", {kNumbers / "fp8_edges.json", "/cases/mxfp8/dequant/bfloat16"}},
    {"mxfp4", {kNumbers / "mxfp4.json", "/cases/experts/dequant/bfloat16"}},
    {"bitsandbytes-nf4", {kGolden / "bnb/index.json", "/checkpoints/hf-nf4-dq"}},
    {"bitsandbytes-int8", {kGolden / "bnb/index.json", "/checkpoints/hf-int8"}},
};

TEST(QuantizedFormats, EachIsHeldAgainstItsLibrary) {
  std::set<std::string> with_seed, seeds;
  for (const QuantizedSeed& seed : quantized_seeds::all()) {
    SCOPED_TRACE(seed.name);
    EXPECT_TRUE(seeds.insert(seed.name).second);
    with_seed.insert(Json::parse(seed.config)["quantization_config"]["quant_method"].get<std::string>());
    EXPECT_FALSE(weights_of(seed.config, seed.tensors).empty());
    const auto held = kHeld.find(seed.name);
    ASSERT_NE(held, kHeld.end()) << "no golden is named for it";
    EXPECT_TRUE(read_json(held->second.index).contains(Json::json_pointer(held->second.hash))) << held->second.hash;
  }
  EXPECT_EQ(with_seed, methods_read()) << "a method without a seed, or a seed without a method";
  EXPECT_EQ(seeds.size(), kHeld.size());
}

}  // namespace
}  // namespace ropewalk::formats
