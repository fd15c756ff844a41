// An adapter inside a GGUF, byte by byte: what llama.cpp 0.5 reads, and every field of it that may lie. The real converter's
// files are held against ours in tests/tools/adapter_test.cpp.

#include "formats/adapters/gguf_adapter.h"

#include <gtest/gtest.h>

#include <limits>

#include "lib/error.h"
#include "lib/recipes.h"
#include "tests/formats/gguf_bytes.h"

namespace ropewalk::formats {
namespace {

namespace fs = std::filesystem;

struct Lying {
  std::string type = "adapter", arch = "llama", kind = "lora";
  float alpha = 6;
  std::string a = "blk.0.attn_v.weight.lora_a", b = "blk.0.attn_v.weight.lora_b";
  std::int64_t a_rank = 2, b_rank = 2;
  float first = 1;
  bool tokens = false;
};
/// A pair [rank, 4] and [3, rank]: B is 0, 1, ... in f32.
std::string bytes_of(const Lying& lie) {
  GgufBytes out;
  out.head(2, lie.tokens ? 5 : 4);
  const auto key_text = [&](std::string_view name, std::string_view value) {
    out.text(name).put<std::uint32_t>(8).text(value);
  };
  key_text("general.architecture", lie.arch);
  key_text("general.type", lie.type);
  key_text("adapter.type", lie.kind);
  out.text("adapter.lora.alpha").put<std::uint32_t>(6).put(lie.alpha);
  if (lie.tokens)
    out.text("adapter.alora.invocation_tokens").put<std::uint32_t>(9).put<std::uint32_t>(4).put<std::uint64_t>(0);
  const auto n_a = std::size_t(4 * lie.a_rank), n_b = std::size_t(3 * lie.b_rank);
  out.tensor(lie.a, {4, lie.a_rank}, 0, 0).tensor(lie.b, {lie.b_rank, 3}, 0, (n_a * 4 + 31) / 32 * 32).pad();
  for (std::size_t i = 0; i < n_a; ++i) out.put(i == 0 ? lie.first : float(i));
  out.pad();
  for (std::size_t i = 0; i < n_b; ++i) out.put(float(i));
  return out.pad().bytes();
}

class GgufAdapter : public testing::Test {
 protected:
  fs::path write(const std::string& bytes) const {
    const fs::path path = folder_.path() / "a.gguf";
    std::ofstream(path, std::ios::binary) << bytes;
    return path;
  }
  std::string refusal(const std::string& bytes) const {
    try {
      (void)read_adapter(write(bytes));
    } catch (const Error& error) {
      EXPECT_FALSE(error.fix().empty());
      return error.what();
    }
    return "";
  }
  TestFolder folder_{"gguf-adapter"};
};

TEST_F(GgufAdapter, APair) {
  const PeftAdapter adapter = read_adapter(write(bytes_of({})));
  ASSERT_EQ(adapter.modules.size(), 1u);
  const AdapterModule& module = adapter.modules.front();
  EXPECT_EQ(module.target, "model.layers.0.self_attn.v_proj.weight");
  EXPECT_EQ(module.rank, 2u);
  EXPECT_EQ(module.scale, 3);  // alpha over rank, as llama-adapter.h divides
  const auto& change = std::get<LowRankChange>(module.change);
  EXPECT_EQ(change.a->info().shape, (std::vector<std::uint64_t>{2, 4}));
  EXPECT_EQ(change.b->info().shape, (std::vector<std::uint64_t>{3, 2}));
  EXPECT_EQ(change.b->info().pairs, RotaryPairs::none);
  // alpha 0 is none: the product counts as it is
  EXPECT_EQ(read_adapter(write(bytes_of({.alpha = 0}))).modules.front().scale, 1);
  const PeftAdapter rotary =
      read_adapter(write(bytes_of({.a = "blk.0.attn_q.weight.lora_a", .b = "blk.0.attn_q.weight.lora_b"})));
  EXPECT_EQ(std::get<LowRankChange>(rotary.modules.front().change).b->info().pairs, RotaryPairs::interleaved);
}

TEST_F(GgufAdapter, FieldsThatLie) {
  const float nan = std::numeric_limits<float>::quiet_NaN(), infinity = std::numeric_limits<float>::infinity();
  const std::vector<std::pair<Lying, std::string>> cases = {
      {{.arch = "qwen2"}, "architecture 'qwen2'"},
      {{.kind = "control"}, "adapter.type is 'control'"},
      {{.alpha = nan}, "adapter.lora.alpha is not finite"},
      {{.alpha = infinity}, "adapter.lora.alpha is not finite"},
      {{.a = "blk.0.attn_k.weight.lora_a"}, "has no partner"},
      {{.b = "blk.0.attn_v.weight"}, "neither a lora_a nor a lora_b"},
      {{.b = "blk.0.attn_norm.weight"}, "whole norm"},
      {{.a = "blk.0.ssm.weight.lora_a"}, "architecture llama does not have"},
      {{.a_rank = 3}, "do not have one rank"},
      {{.first = nan}, "holds NaN in row 0"},
      {{.tokens = true}, "aLoRA"}};
  for (const auto& [lie, says] : cases)
    EXPECT_NE(refusal(bytes_of(lie)).find(says), std::string::npos) << says << refusal(bytes_of(lie));
  // a model is no adapter, and no folder either
  EXPECT_NE(refusal(bytes_of({.type = "model"})).find("adapter_config.json"), std::string::npos);
}

TEST_F(GgufAdapter, EveryPrefix) {
  const std::string whole = bytes_of({});
  const std::size_t data = whole.size() - 8;  // padding after the last tensor may be missing
  for (std::size_t n = 0; n < data; ++n) EXPECT_NE(refusal(whole.substr(0, n)), "") << n;
  EXPECT_EQ(refusal(whole), "");
}

}  // namespace
}  // namespace ropewalk::formats
