// A GGUF written by convert_hf_to_gguf.py of llama.cpp 0.5 (golden archive gguf), with an adapter made for the Hugging
// Face checkpoint it came from.

#include <gtest/gtest.h>

#include "formats/hf_writer.h"
#include "formats/source.h"
#include "lib/recipes.h"
#include "tests/formats/hf_test_support.h"

namespace ropewalk::formats {
namespace {

const fs::path kModel = kGolden / "zoo/llama-gqa", kGguf = kGolden / "gguf/llama-gqa/llama-gqa.f16.gguf";

Source open(const std::string& text, const OpenOptions& options = {}) {
  return open_source(parse_source(text), options, {});
}

void write_adapter(const fs::path& folder, const ModelConfig& config) {
  write_bytes(folder / "adapter_config.json", Json({{"peft_type", "LORA"},
                                                    {"base_model_name_or_path", "llama-gqa"},
                                                    {"r", 2},
                                                    {"lora_alpha", 3},
                                                    {"target_modules", {"q_proj", "k_proj", "v_proj"}}})
                                                  .dump());
  std::vector<RawTensor> tensors;
  const std::uint64_t d = std::uint64_t(config.d_model), q = std::uint64_t(config.n_heads * config.head_dim),
                      kv = std::uint64_t(config.n_kv_heads * config.head_dim);
  for (const auto& [name, out] : std::vector<std::pair<std::string, std::uint64_t>>{{"k", kv}, {"q", q}, {"v", kv}}) {
    const std::string key = "base_model.model.model.layers.0.self_attn." + name + "_proj.lora_";
    tensors.push_back(f32_tensor(key + "A.weight", {2, d}));
    std::vector<float> b(out * 2);
    for (std::size_t i = 0; i < b.size(); ++i)
      b[i] = float(i) / 512;  // every row different: a wrong order of rows shows
    tensors.push_back({key + "B.weight", "F32", {out, 2}, f32_bytes(b)});
  }
  write_bytes(folder / "adapter_model.safetensors", safetensors_bytes(tensors));
}

/// The Hugging Face checkpoint with float16 weights, as the GGUF has them (norms stay float32 there).
Source half_precision(const fs::path& folder) {
  OpenOptions f16;
  f16.merge_dtype = DType::f16;
  const Source source = open(kModel.string(), f16);
  HfWriteOptions options;
  options.write.sync = false;
  write_hf_folder(source, source.hf->config, folder, options);
  return open(folder.string());
}

TEST(SourceGguf, AnAdapterReachesTheInterleavedRows) {
  TestFolder folder;
  half_precision(folder / "llama-gqa");
  const Source plain = open(kGguf.string());
  write_adapter(folder / "adapter", plain.checkpoint.config);
  const std::string adapter = "+" + (folder / "adapter").string();
  const Source hf = open((folder / "llama-gqa").string() + adapter), gguf = open(kGguf.string() + adapter);
  EXPECT_EQ(gguf.merged_modules.size(), 3u);
  const ModelConfig& config = gguf.checkpoint.config;
  for (const char* name : {"q", "k", "v"}) {
    const std::string weight = "model.layers.0.self_attn." + std::string(name) + "_proj.weight";
    SCOPED_TRACE(weight);
    TensorPtr tensor = gguf.checkpoint.find(weight);
    EXPECT_TRUE(raw_bytes(*tensor) != raw_bytes(*plain.checkpoint.find(weight)));
    if (*name != 'v') {
      EXPECT_EQ(tensor->info().pairs, RotaryPairs::interleaved);
      EXPECT_TRUE(raw_bytes(*tensor) != raw_bytes(*hf.checkpoint.find(weight)))
          << "the order of rows matters in this model";
      tensor =
          with_rotary_pairs(tensor, RotaryPairs::half_split, tensor->info().rows() / std::uint64_t(config.head_dim),
                            std::uint64_t(config.head_dim), std::uint64_t(config.head_dim));
    }
    EXPECT_EQ(raw_bytes(*tensor), raw_bytes(*hf.checkpoint.find(weight)));
  }
}

TEST(SourceGguf, WrittenAsAFolderItIsTheCheckpointItCameFrom) {
  TestFolder folder;
  const Source hf = half_precision(folder / "hf");
  OpenOptions f16;
  f16.merge_dtype = DType::f16;
  const Source gguf = open(kGguf.string(), f16);
  HfWriteOptions options;
  options.write.sync = false;
  write_hf_folder(gguf, hf.hf->config, folder / "out", options);
  const Source back = open((folder / "out").string());
  EXPECT_EQ(back.checkpoint.tensors.size(), hf.checkpoint.tensors.size());
  for (const TensorPtr& tensor : hf.checkpoint.tensors)
    EXPECT_TRUE(raw_bytes(*tensor) == raw_bytes(*back.checkpoint.find(tensor->name()))) << tensor->name();
  EXPECT_EQ(back.checkpoint.config.rope.theta, gguf.checkpoint.config.rope.theta);
}

TEST(SourceGguf, RopeIsReplaced) {
  const Source source = open(kGguf.string() + "+rope=linear,factor=4");
  EXPECT_STREQ(rope_method_name(source.checkpoint.config.rope), "linear");
  EXPECT_EQ(source.checkpoint.config.context, 4 * open(kGguf.string()).checkpoint.config.context);
}

}  // namespace
}  // namespace ropewalk::formats
