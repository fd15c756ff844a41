// GGUF models as llama.cpp 0.5 reads them: shapes, defaults, inventory, layout, vocabulary; and what its loader
// refuses.

#include "formats/gguf_model.h"

#include <gtest/gtest.h>

#include <limits>

#include "formats/gguf_rewrite.h"
#include "formats/safetensors.h"
#include "formats/tokenizers/tokenizer.h"
#include "gguf_bytes.h"
#include "lib/error.h"
#include "lib/recipes.h"

using namespace ropewalk;
using namespace ropewalk::formats;
namespace fs = std::filesystem;

namespace {

const fs::path kGolden = ROPEWALK_GOLDEN_DIR;
const fs::path kGqa = kGolden / "gguf" / "llama-gqa" / "llama-gqa.f16.gguf";

Checkpoint read(const fs::path& path) { return read_gguf_model(read_gguf(path), path.string()); }

/// A changed copy of the golden file's contents, as read_gguf_model takes it.
struct Bent {
  GgufFile file = read_gguf(kGqa);

  Bent& set(const std::string& key, GgufValue value) {
    for (GgufKey& existing : file.keys)
      if (existing.name == key) {
        existing.value = std::move(value);
        return *this;
      }
    file.keys.push_back({key, std::move(value)});
    return *this;
  }
  Bent& drop_key(const std::string& key) {
    std::erase_if(file.keys, [&](const GgufKey& k) { return k.name == key; });
    return *this;
  }
  Bent& drop_tensor(const std::string& name) {
    std::erase_if(file.tensors, [&](const TensorPtr& t) { return t->name() == name; });
    return *this;
  }
  Bent& add_tensor(const std::string& name, std::vector<std::uint64_t> shape) {
    std::uint64_t n = 1;
    for (std::uint64_t d : shape) n *= d;
    file.tensors.push_back(memory_tensor(name, std::move(shape), std::vector<float>(n, 1.0f)));
    return *this;
  }
  Checkpoint read() const { return read_gguf_model(file, "bent.gguf"); }
  std::string refusal(ErrorKind kind = ErrorKind::bad_input) const {
    try {
      read();
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), kind) << error.what();
      return error.what();
    }
    ADD_FAILURE() << "accepted";
    return {};
  }
};

#define EXPECT_SAYS(message, words) EXPECT_NE((message).find(words), std::string::npos) << (message)

std::vector<float> values(const TensorPtr& tensor) {
  tensor->prepare();
  std::vector<float> out(tensor->info().elements());
  tensor->read_f32({0, tensor->info().rows()}, out);
  return out;
}

}  // namespace

TEST(GgufModel, ShapeOfTheGoldenFile) {
  const Checkpoint model = read(kGqa);
  const ModelConfig& config = model.config;
  EXPECT_EQ(config.model_type, "llama");
  EXPECT_EQ(config.n_layers, 2);
  EXPECT_EQ(config.d_model, 64);
  EXPECT_EQ(config.n_heads, 4);
  EXPECT_EQ(config.n_kv_heads, 2);
  EXPECT_EQ(config.head_dim, 16);
  EXPECT_EQ(config.d_ff, 96);
  EXPECT_EQ(config.n_vocab, 512);
  EXPECT_EQ(config.context, 256);
  EXPECT_EQ(config.rms_eps, double{1e-5f});
  EXPECT_FALSE(config.tied_head);
  EXPECT_FALSE(config.attention_bias);
  EXPECT_EQ(config.rotary_pairs, RotaryPairs::interleaved);
  EXPECT_EQ(config.rope.theta, 10000.0);
  EXPECT_EQ(model.read_as, "llama.cpp 0.5");
  EXPECT_EQ(model.tensors.size(), 21u);
  EXPECT_EQ(model.find("model.layers.1.self_attn.k_proj.weight")->info().pairs, RotaryPairs::interleaved);
  EXPECT_EQ(model.find("model.layers.1.self_attn.v_proj.weight")->info().pairs, RotaryPairs::none);
  EXPECT_TRUE(model.warnings.empty());
}

// The same weights under the converter's permutation: un-permuting gives the safetensors' rows, rounded to f16.
TEST(GgufModel, ValuesAreTheSourceRoundedAndPermuted) {
  const Checkpoint model = read(kGqa);
  for (const TensorPtr& original : read_safetensors(kGolden / "zoo" / "llama-gqa" / "model.safetensors").tensors) {
    TensorPtr stored = model.find(original->name());
    ASSERT_TRUE(stored) << original->name();
    ASSERT_EQ(stored->info().shape, original->info().shape);
    if (stored->info().pairs == RotaryPairs::interleaved)
      stored = with_rotary_pairs(stored, RotaryPairs::half_split, stored->info().rows() / 16, 16, 16);
    const std::vector<float> got = values(stored), want = values(cast(original, stored->dtype()));
    EXPECT_TRUE(got == want) << original->name();
  }
}

TEST(GgufModel, DefaultsOfTheLoader) {
  const Checkpoint model = Bent()
                               .drop_key("llama.attention.key_length")
                               .drop_key("llama.attention.value_length")
                               .drop_key("llama.rope.dimension_count")
                               .drop_key("llama.rope.freq_base")
                               .read();
  EXPECT_EQ(model.config.head_dim, 16);  // d_model / heads
  EXPECT_EQ(model.config.rope.theta, 10000.0);
  EXPECT_TRUE(Bent().drop_tensor("output.weight").read().config.tied_head);
  EXPECT_TRUE(Bent().add_tensor("blk.0.attn_q.bias", {64}).read().config.attention_bias);
  EXPECT_TRUE(Bent().add_tensor("blk.1.ffn_down.bias", {64}).read().config.mlp_bias);
  EXPECT_EQ(Bent().set("llama.attention.head_count", gguf_i32s({4, 4})).read().config.n_heads, 4);
  EXPECT_EQ(Bent().set("llama.attention.sliding_window", gguf_u32(8)).read().config.sliding_window,
            std::nullopt);  // not read for this architecture
  // head_count_kv absent: as many as heads, so K and V have other shapes
  EXPECT_SAYS(Bent().drop_key("llama.attention.head_count_kv").refusal(),
              "'blk.0.attn_k.weight' has shape [32, 64], expected [64, 64]");
}

TEST(GgufModel, WhatTheLoaderRefuses) {
  for (const char* key :
       {"llama.block_count", "llama.context_length", "llama.embedding_length", "llama.feed_forward_length",
        "llama.attention.head_count", "llama.attention.layer_norm_rms_epsilon"})
    EXPECT_SAYS(Bent().drop_key(key).refusal(), "'" + std::string(key) + "' is missing");
  EXPECT_SAYS(Bent().drop_key("general.architecture").refusal(), "has no general.architecture");
  EXPECT_SAYS(Bent().set("general.architecture", gguf_string("qwen2")).refusal(ErrorKind::unsupported),
              "architecture 'qwen2' is not read yet");
  EXPECT_SAYS(Bent().set("llama.expert_count", gguf_u32(8)).refusal(ErrorKind::unsupported), "mixtures of experts");
  EXPECT_SAYS(Bent().set("llama.attention.causal", gguf_bool(false)).refusal(ErrorKind::unsupported), "not causal");
  EXPECT_SAYS(Bent().set("llama.block_count", gguf_string("2")).refusal(),
              "'llama.block_count' has type string, expected an integer");
  EXPECT_SAYS(Bent().set("llama.block_count", gguf_u32(0)).refusal(), "is 0, expected 1 to");
  EXPECT_SAYS(Bent().set("llama.block_count", gguf_u32(3)).refusal(),
              "llama.block_count is 3, which needs at least 29 tensors, the file has 21");
  EXPECT_SAYS(Bent().set("llama.block_count", gguf_u32(1)).refusal(),
              "'blk.1.attn_norm.weight' is none of architecture llama with 1 layers");
  EXPECT_SAYS(Bent().set("llama.block_count", gguf_u32(1u << 31)).refusal(), "expected 1 to 2147483647");
  EXPECT_SAYS(Bent().set("llama.attention.value_length", gguf_u32(8)).refusal(), "value_length is 8, expected 16");
  EXPECT_SAYS(Bent().set("llama.attention.head_count_kv", gguf_u32(3)).refusal(), "4 heads cannot share 3");
  EXPECT_SAYS(Bent().set("llama.attention.head_count", gguf_i32s({4, 2})).refusal(ErrorKind::unsupported),
              "differs from layer to layer");
  EXPECT_SAYS(Bent().set("llama.attention.head_count", gguf_i32s({4})).refusal(),
              "has 1 elements, expected one per layer, 2");
  EXPECT_SAYS(Bent().set("llama.attention.layer_norm_rms_epsilon", gguf_f32(-1)).refusal(), "expected 0 to 1");
  EXPECT_SAYS(Bent().drop_tensor("blk.1.ffn_up.weight").add_tensor("blk.1.ffn_up.bias", {96}).refusal(),
              "'blk.1.ffn_up.weight' is missing");
  EXPECT_SAYS(Bent().drop_tensor("token_embd.weight").refusal(), "'token_embd.weight' is missing");
  EXPECT_SAYS(Bent().add_tensor("blk.0.attn_q_norm.weight", {16}).refusal(),
              "'blk.0.attn_q_norm.weight' is none of architecture llama");
  EXPECT_SAYS(Bent().add_tensor("blk.00.attn_q.bias", {64}).refusal(), "is none of architecture llama");
  EXPECT_SAYS(Bent().add_tensor("blk.0.attn_qkv.weight", {128, 64}).refusal(ErrorKind::unsupported), "fused");
  EXPECT_SAYS(Bent().drop_tensor("output_norm.weight").add_tensor("output_norm.weight", {63}).refusal(),
              "'output_norm.weight' has shape [63], expected [64]");
  EXPECT_SAYS(Bent().drop_tensor("token_embd.weight").add_tensor("token_embd.weight", {500, 64}).refusal(),
              "has 500 rows, the tokenizer has 512 tokens");
}

TEST(GgufModel, TensorsOfUnreadTypesCanBeInspectedButNotRead) {
  Bent bent;
  const std::uint64_t rows = 64, columns = 64;
  bent.drop_tensor("blk.0.attn_output.weight");
  const TensorInfo info{.name = "blk.0.attn_output.weight", .shape = {rows, columns}, .dtype = DType::q8_1};
  bent.file.tensors.push_back(memory_tensor(info, std::vector<std::byte>(info.bytes())));
  const Checkpoint model = bent.read();
  const TensorPtr tensor = model.find("model.layers.0.self_attn.o_proj.weight");
  EXPECT_EQ(tensor->dtype(), DType::q8_1);
  try {
    values(tensor);
    ADD_FAILURE() << "read";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::unsupported);
    EXPECT_SAYS(std::string(error.what()), "tensor 'blk.0.attn_output.weight' is q8_1, which cannot be decoded");
  }
}

TEST(GgufModel, NamesTranslateBothWays) {
  for (const TensorPtr& tensor : read_gguf(kGqa).tensors) {
    const auto canonical = canonical_tensor_name(tensor->name());
    ASSERT_TRUE(canonical) << tensor->name();
    EXPECT_EQ(gguf_tensor_name(*canonical), tensor->name());
  }
  EXPECT_EQ(gguf_tensor_name("model.layers.12.self_attn.o_proj.bias"), "blk.12.attn_output.bias");
  for (const char* odd : {"blk.0.attn_norm.bias", "blk.x.attn_q.weight", "blk.0.attn_q", "blk.0.", "blk.",
                          "rope_freqs.weight", "blk.01.attn_q.weight", "blk.99999999999.attn_q.weight", ""})
    EXPECT_EQ(canonical_tensor_name(odd), std::nullopt) << odd;
  EXPECT_EQ(gguf_tensor_name("model.layers.0.self_attn.rotary_emb.inv_freq"), std::nullopt);
}

TEST(GgufVocabulary, OfTheGoldenFile) {
  const GgufFile file = read_gguf(kGolden / "gguf" / "stories260K" / "stories260K.f16.gguf");
  const auto vocabulary = read_gguf_vocabulary(file, "f");
  ASSERT_TRUE(vocabulary);
  EXPECT_EQ(vocabulary->rules, TokenizerRules::llama_cpp);
  const auto model = read_sentencepiece_model(kGolden / "fixtures" / "models" / "stories260K" / "tokenizer.model");
  ASSERT_EQ(vocabulary->pieces.size(), model.pieces.size());
  for (std::size_t id = 0; id < model.pieces.size(); ++id) {
    EXPECT_EQ(vocabulary->pieces[id].text, model.pieces[id].text);
    EXPECT_EQ(vocabulary->pieces[id].score, model.pieces[id].score);
    EXPECT_EQ(vocabulary->pieces[id].type, model.pieces[id].type);
  }
  EXPECT_EQ(vocabulary->bos, 1);
  EXPECT_EQ(vocabulary->eos, 2);
  EXPECT_EQ(vocabulary->unk, 0);
  EXPECT_EQ(vocabulary->add_bos, true);
  EXPECT_EQ(vocabulary->add_eos, false);
  EXPECT_TRUE(vocabulary->add_dummy_prefix);
}

TEST(GgufVocabulary, DefaultsAndRefusals) {
  const auto tiny = [] {
    GgufFile file;
    file.keys = {{"tokenizer.ggml.model", gguf_string("llama")},
                 {"tokenizer.ggml.tokens", gguf_strings({"<unk>", "<s>", ""})}};
    return file;
  };
  const auto plain = read_gguf_vocabulary(tiny(), "f");
  EXPECT_EQ(plain->pieces[2].text, "[EMPTY_2]");
  EXPECT_EQ(plain->pieces[1].type, PieceType::normal);
  EXPECT_EQ(plain->pieces[1].score, 0.0f);
  EXPECT_EQ(plain->bos, 1);
  EXPECT_EQ(plain->eos, 2);
  EXPECT_EQ(plain->pad, std::nullopt);
  EXPECT_EQ(plain->add_bos, true);
  EXPECT_EQ(plain->add_eos, false);

  GgufFile said = tiny();
  said.keys.push_back({"tokenizer.ggml.bos_token_id", gguf_u32(0)});
  said.keys.push_back({"tokenizer.ggml.eos_token_id", gguf_u32(77)});  // past the vocabulary: the default stays
  said.keys.push_back({"tokenizer.ggml.add_bos_token", gguf_bool(false)});
  said.keys.push_back({"tokenizer.ggml.add_space_prefix", gguf_bool(false)});
  said.keys.push_back({"tokenizer.ggml.token_type", gguf_i32s({2, 3, 99, 1})});
  said.keys.push_back({"tokenizer.chat_template", gguf_string("{{ x }}")});
  said.keys.push_back({"tokenizer.chat_template.rag", gguf_string("{{ y }}")});
  const auto other = read_gguf_vocabulary(said, "f");
  EXPECT_EQ(other->bos, 0);
  EXPECT_EQ(other->eos, 2);
  EXPECT_EQ(other->add_bos, false);
  EXPECT_FALSE(other->add_dummy_prefix);
  EXPECT_EQ(other->pieces[2].type, PieceType::unused);
  EXPECT_EQ(other->chat_template, "{{ x }}");
  ASSERT_EQ(other->chat_templates.size(), 2u);
  EXPECT_EQ(other->chat_templates[1].name, "rag");

  const auto refused = [&](const char* key, GgufValue value) {
    GgufFile bent = tiny();
    std::erase_if(bent.keys, [&](const GgufKey& k) { return k.name == key; });
    bent.keys.push_back({key, std::move(value)});
    EXPECT_THROW(read_gguf_vocabulary(bent, "f"), Error) << key;
  };
  refused("tokenizer.ggml.tokens", gguf_strings({"same", "same"}));
  refused("tokenizer.ggml.tokens", gguf_i32s({1}));
  refused("tokenizer.ggml.scores", gguf_f32s({1, 2}));
  refused("tokenizer.ggml.scores", gguf_f32s({1, 2, std::numeric_limits<float>::quiet_NaN()}));
  refused("tokenizer.ggml.scores", gguf_strings({"1", "2", "3"}));
  refused("tokenizer.ggml.token_type", gguf_i32s({1, 1}));
  refused("tokenizer.ggml.model", gguf_string("gpt2"));
  GgufFile none = tiny();
  none.keys[0].value = gguf_string("no_vocab");
  EXPECT_FALSE(read_gguf_vocabulary(none, "f"));
  none.keys.erase(none.keys.begin());
  EXPECT_FALSE(read_gguf_vocabulary(none, "f"));
}
