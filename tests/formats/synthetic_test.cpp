// synthetic:CONFIG.json as a SOURCE: shapes, repeatable bytes, layers that alias, and that it is said.
#include "formats/synthetic.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "formats/source.h"
#include "lib/error.h"

namespace ropewalk::formats {
namespace {

namespace fs = std::filesystem;

class Synthetic : public testing::Test {
 protected:
  void SetUp() override {
    folder = fs::path(testing::TempDir()) /
             ("synthetic+" + std::to_string(::getpid()));  // a plus sign, as in SOURCE+ADAPTER
    fs::create_directories(folder);
  }
  void TearDown() override { fs::remove_all(folder); }

  Source open(const std::string& more, const std::string& suffix = "", const std::string& name = "config.json") {
    std::ofstream(folder / name)
        << R"({"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 128, "intermediate_size": 320, "num_hidden_layers": 6, "num_attention_heads": 4,)"
        << R"( "num_key_value_heads": 2, "vocab_size": 50000, "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "hidden_act": "silu")"
        << more << "}";
    return open_source(parse_source("synthetic:" + (folder / name).string() + suffix), {}, {});
  }

  fs::path folder;
};

std::vector<float> values(const Source& source, const std::string& name, std::uint64_t begin = 0,
                          std::uint64_t end = 64) {
  const TensorPtr tensor = source.checkpoint.find(name);
  std::vector<float> out((end - begin) * tensor->info().columns());
  tensor->read_f32({begin, end}, out);
  return out;
}

TEST_F(Synthetic, HasTheShapesAndSaysSo) {
  const Source source = open(R"(, "torch_dtype": "float16")", "+rope=yarn,factor=4");
  EXPECT_EQ(source.checkpoint.tensors.size(), 2u + 6 * 9 + 1);
  EXPECT_EQ(source.checkpoint.find("model.layers.5.mlp.down_proj.weight")->info().shape,
            (std::vector<std::uint64_t>{128, 320}));
  EXPECT_EQ(source.checkpoint.find("lm_head.weight")->dtype(), DType::f16);
  EXPECT_EQ(source.checkpoint.find("model.layers.5.self_attn.q_proj.weight")->info().pairs, RotaryPairs::half_split);
  EXPECT_TRUE(std::holds_alternative<RopeYarn>(source.checkpoint.config.rope.scaling));
  ASSERT_FALSE(source.checkpoint.warnings.empty());
  bool said = false;
  for (const std::string& warning : source.checkpoint.warnings) said = said || warning.starts_with("synthetic: ");
  EXPECT_TRUE(said);
  EXPECT_EQ(source.checkpoint.label.substr(0, 10), "synthetic:");
  EXPECT_EQ(open("").checkpoint.find("lm_head.weight")->dtype(), DType::bf16);
}

TEST_F(Synthetic, SameBytesInAnyPartition) {
  const Source source = open("");
  const TensorPtr head = source.checkpoint.find("lm_head.weight");  // 6.4 million elements: more than a pool
  std::vector<std::byte> whole(head->info().bytes()), parts(whole.size());
  head->read_raw({0, 50000}, whole);
  for (std::uint64_t row = 0; row < 50000; row += 777) {
    const RowRange range{row, std::min<std::uint64_t>(50000, row + 777)};
    head->read_raw(range, std::span(parts).subspan(row * 256, range.size() * 256));
  }
  EXPECT_EQ(whole, parts);
  EXPECT_EQ(values(source, "model.layers.1.mlp.up_proj.weight"), values(open(""), "model.layers.1.mlp.up_proj.weight"));
}

TEST_F(Synthetic, LayersAliasEveryFourthAndAreNormal) {
  const Source source = open("");
  EXPECT_EQ(values(source, "model.layers.1.mlp.up_proj.weight"), values(source, "model.layers.5.mlp.up_proj.weight"));
  EXPECT_NE(values(source, "model.layers.1.mlp.up_proj.weight"), values(source, "model.layers.2.mlp.up_proj.weight"));
  EXPECT_NE(values(source, "model.layers.1.mlp.up_proj.weight"), values(source, "model.layers.1.mlp.gate_proj.weight"));
  for (const float x : values(source, "model.layers.3.input_layernorm.weight", 0, 1)) EXPECT_EQ(x, 1);
  double sum = 0, square = 0;
  const std::vector<float> x = values(source, "model.layers.0.mlp.down_proj.weight", 0, 128);  // 40,960 values
  for (const float v : x) sum += v, square += double(v) * v;
  EXPECT_NEAR(sum / double(x.size()), 0, 5 / std::sqrt(320.0 * double(x.size())));  // 5 standard errors
  EXPECT_NEAR(square / double(x.size()) * 320, 1, 5 * std::sqrt(2.0 / double(x.size())));
}

TEST_F(Synthetic, RefusesWhatItCannotMake) {
  EXPECT_THROW(open(R"(, "torch_dtype": "float8_e4m3fn")"), Error);
  EXPECT_THROW(open_source(parse_source("synthetic:" + (folder / "none.json").string()), {}, {}), Error);
}

}  // namespace
}  // namespace ropewalk::formats
