// adapter extract of classes that are not read: by the names of their tensors. What PEFT makes of it, peers.extract shows.
#include <cstring>
#include <set>

#include "formats/safetensors.h"
#include "tests/formats/hf_test_support.h"
#include "tests/tools/command.h"

namespace ropewalk::tools::test {
namespace {

using formats::f32_tensor;
using formats::RawTensor;

std::map<std::string, std::vector<double>> values_of(const fs::path& file) {
  std::map<std::string, std::vector<double>> all;
  for (const TensorPtr& tensor : formats::read_safetensors(file).tensors) {
    std::vector<double>& values = all[tensor->name()];
    values.resize(tensor->info().elements());
    tensor->read_f64({0, tensor->info().rows()}, values);
  }
  return all;
}

/// Folders "base" and "tuned" of one configuration.
struct Pair {
  Scratch scratch;
  Json config = {{"model_type", "gpt2"}, {"vocab_size", 16}, {"architectures", {"GPT2LMHeadModel"}}};
  std::vector<RawTensor> base = {f32_tensor("wte.weight", {16, 4}), f32_tensor("h.0.ln_1.weight", {4}),
                                 f32_tensor("h.0.ln_1.bias", {4}), f32_tensor("h.0.attn.c_attn.weight", {4, 12}),
                                 f32_tensor("h.0.attn.c_attn.bias", {12})};
  std::vector<RawTensor> tuned = base;
  Json tuned_config = nullptr;

  std::string at(const char* name) const { return (scratch / name).string(); }
  RawTensor& of_tuned(const std::string& name) {
    for (RawTensor& tensor : tuned)
      if (tensor.name == name) return tensor;
    throw std::runtime_error("no " + name);
  }
  Ran extract(const std::vector<std::string>& more = {}) {
    for (const char* name : {"base", "tuned"}) {
      fs::create_directories(scratch / name);
      const bool first = std::string(name) == "base";
      spill(scratch / name / "config.json", (first || tuned_config.is_null() ? config : tuned_config).dump());
      spill(scratch / name / "model.safetensors", formats::safetensors_bytes(first ? base : tuned));
    }
    std::vector<std::string> words = {"adapter", "extract",  at("tuned"),   at("base"),  "--rank", "2",
                                      "-o",      at("lora"), "--overwrite", "--no-sync", "--json"};
    words.insert(words.end(), more.begin(), more.end());
    return run(words);
  }
  Json adapter() const { return Json::parse(slurp(scratch / "lora/adapter_config.json")); }
  std::map<std::string, std::vector<double>> factors() const {
    return values_of(scratch / "lora/adapter_model.safetensors");
  }
};

/// Adds column times row to a matrix of float32.
void add_product(RawTensor& matrix, const std::vector<float>& column, const std::vector<float>& row) {
  std::vector<float> values(column.size() * row.size());
  std::memcpy(values.data(), matrix.bytes.data(), matrix.bytes.size());
  for (std::size_t i = 0; i < values.size(); ++i) values[i] += column[i / row.size()] * row[i % row.size()];
  matrix.bytes = formats::f32_bytes(values);
}

// GPT-2 as it is published, without the first part of its names and with a mask; tuned, as transformers saves it.
TEST(ExtractNamed, TurnedLayersBiasesAndNamesOfTheClass) {
  Pair pair;
  const std::vector<float> column = {1, -2, 0.5f, 0}, row = {1, 0, 2, -1, 0.25f, 3, 1, 1, -0.5f, 2, 0, 1};
  add_product(pair.of_tuned("h.0.attn.c_attn.weight"), column, row);
  pair.of_tuned("h.0.ln_1.weight") = f32_tensor("h.0.ln_1.weight", {4}, 2);
  pair.of_tuned("h.0.attn.c_attn.bias") = f32_tensor("h.0.attn.c_attn.bias", {12}, 3);
  for (RawTensor& tensor : pair.tuned) tensor.name = "transformer." + tensor.name;
  pair.base.push_back(f32_tensor("h.0.attn.bias", {1, 1, 4, 4}));
  const Ran ran = pair.extract();
  ASSERT_EQ(ran.exit, 0) << ran.err;
  ASSERT_EQ(ran.json()["notes"].size(), 1u);
  EXPECT_NE(ran.json()["notes"][0].get<std::string>().find("h.0.attn.bias"), std::string::npos);
  const Json adapter = pair.adapter();
  EXPECT_EQ(adapter["target_modules"], Json({"c_attn"}));
  EXPECT_EQ(adapter["modules_to_save"], Json({"transformer.h.0.ln_1"}));
  EXPECT_EQ(adapter["bias"], "all");
  EXPECT_EQ(adapter["fan_in_fan_out"], true);
  EXPECT_EQ(adapter["task_type"], "CAUSAL_LM");
  const auto factors = pair.factors();
  const std::string layer = "base_model.model.transformer.h.0.";
  std::set<std::string> keys;
  for (const auto& [key, values] : factors) keys.insert(key);
  EXPECT_EQ(keys,
            (std::set<std::string>{layer + "attn.c_attn.base_layer.bias", layer + "attn.c_attn.lora_A.weight",
                                   layer + "attn.c_attn.lora_B.weight", layer + "ln_1.bias", layer + "ln_1.weight"}));
  const auto &a = factors.at(layer + "attn.c_attn.lora_A.weight"), &b = factors.at(layer + "attn.c_attn.lora_B.weight");
  for (std::size_t in = 0; in < 4; ++in)  // A [rank, in], B [out, rank]
    for (std::size_t out = 0; out < 12; ++out)
      EXPECT_NEAR(b[out * 2] * a[in] + b[out * 2 + 1] * a[4 + in], column[in] * row[out], 2e-5) << in << " " << out;
  // and back on the base's own names
  const Ran merged = run({"merge", pair.at("base") + "+" + pair.at("lora"), "-o", pair.at("out"), "--no-sync"});
  ASSERT_EQ(merged.exit, 0) << merged.err;
  const auto got = values_of(pair.scratch / "out/model.safetensors"),
             want = values_of(pair.scratch / "tuned/model.safetensors");
  for (const auto& [name, values] : want) {
    const auto& ours = got.at(name.substr(std::string("transformer.").size()));
    for (std::size_t i = 0; i < values.size(); ++i) EXPECT_NEAR(ours[i], values[i], 2e-5) << name << " " << i;
  }
}

// The head of GPT-2 is its embedding: PEFT needs both saved, and the base's files have room for one.
TEST(ExtractNamed, AnEmbeddingThatIsTheHeadToo) {
  Pair pair;
  add_product(pair.of_tuned("h.0.attn.c_attn.weight"), {1, 2, 3, 4}, std::vector<float>(12, 1));
  pair.of_tuned("wte.weight") = f32_tensor("wte.weight", {16, 4}, 5);
  const Ran ran = pair.extract();
  ASSERT_EQ(ran.exit, 0) << ran.err;
  EXPECT_EQ(pair.adapter()["modules_to_save"], Json({"lm_head", "transformer.wte"}));
  const auto merge = [&] {
    return run({"merge", pair.at("base") + "+" + pair.at("lora"), "-o", pair.at("out"), "--overwrite", "--no-sync"});
  };
  ASSERT_EQ(merge().exit, 0);
  const auto got = values_of(pair.scratch / "out/model.safetensors"),
             want = values_of(pair.scratch / "tuned/model.safetensors");
  EXPECT_EQ(got.size(), want.size()) << "no head of its own";
  EXPECT_EQ(got.at("wte.weight"), want.at("wte.weight"));
  const fs::path weights = pair.scratch / "lora/adapter_model.safetensors";
  std::vector<RawTensor> factors;
  for (const TensorPtr& tensor : formats::read_safetensors(weights).tensors)
    factors.push_back({tensor->name(), "F32", tensor->info().shape, formats::raw_bytes(*tensor)});
  for (RawTensor& tensor : factors)
    if (tensor.name == "base_model.model.lm_head.weight") tensor.bytes.back() ^= 1;
  spill(weights, formats::safetensors_bytes(factors));
  const Ran apart = merge();
  EXPECT_EQ(apart.exit, 3);
  EXPECT_NE(apart.err.find("'lm_head.weight', which the base's files do not have"), std::string::npos) << apart.err;
}

TEST(ExtractNamed, NamesOfAClassThatWasNotComparedAreSaidToBe) {
  for (const auto& [type, notes] : {std::pair{"qwen2", 0u}, std::pair{"exaone4", 1u}}) {
    SCOPED_TRACE(type);
    const std::string up = "model.layers.0.mlp.up_proj.weight";
    Pair pair;
    pair.config = {{"model_type", type}, {"vocab_size", 16}};
    pair.base = {f32_tensor("model.embed_tokens.weight", {16, 4}), f32_tensor("lm_head.weight", {16, 4}, 1),
                 f32_tensor(up, {4, 4})};
    pair.tuned = pair.base;
    add_product(pair.tuned.back(), {1, 2, 3, 4}, {1, 0, 2, 1});
    const Ran ran = pair.extract();
    ASSERT_EQ(ran.exit, 0) << ran.err;
    ASSERT_EQ(ran.json()["notes"].size(), notes) << ran.out;
    if (notes > 0) {
      EXPECT_NE(ran.json()["notes"][0].get<std::string>().find("\"exaone4\" were not compared"), std::string::npos);
    }
  }
}

// A head of its own under a name that is not lm_head's is not the embedding; norms of heads have two axes and are whole.
TEST(ExtractNamed, WhatIsNeitherTiedNorLinear) {
  const std::string layer = "model.layers.0.self_attn.";
  Pair pair;
  pair.config = {{"model_type", "cohere"}, {"vocab_size", 16}, {"architectures", {"CohereForCausalLM"}}};
  pair.base = {f32_tensor("model.embed_tokens.weight", {16, 4}), f32_tensor("ff_out.weight", {16, 4}, 1),
               f32_tensor(layer + "q_proj.weight", {4, 4}), f32_tensor(layer + "q_norm.weight", {4, 4})};
  pair.tuned = pair.base;
  pair.of_tuned("model.embed_tokens.weight") = f32_tensor("model.embed_tokens.weight", {16, 4}, 5);
  add_product(pair.of_tuned(layer + "q_proj.weight"), {1, 2, 3, 4}, {1, 0, 2, 1});
  pair.of_tuned(layer + "q_norm.weight") = f32_tensor(layer + "q_norm.weight", {4, 4}, 6);
  const Ran ran = pair.extract();
  ASSERT_EQ(ran.exit, 0) << ran.err;
  EXPECT_EQ(pair.adapter()["target_modules"], Json({"q_proj"}));
  EXPECT_EQ(pair.adapter()["modules_to_save"], Json({"model.embed_tokens", layer + "q_norm"}));
}

TEST(ExtractNamed, WhatNoAdapterSays) {
  struct Case {
    std::string type;
    RawTensor changed;
    int exit;
    std::string says;
  };
  const std::string layer = "model.layers.0.";
  const std::vector<Case> cases = {
      {"qwen2", f32_tensor("shared.weight", {16, 4}), 4, "whether another tensor of the model is tied to it"},
      {"gpt_oss", f32_tensor(layer + "mlp.experts.down_proj", {2, 4, 4}), 4, "it is of many experts"},
      {"deepseek_v3", f32_tensor(layer + "mlp.experts.0.up_proj.weight", {4, 4}), 4, "it is of many experts"},
      {"gpt_oss", f32_tensor(layer + "self_attn.sinks", {4}), 4, "it is no weight of a module"},
      {"qwen2", {layer + "mlp.up_proj.weight", "I32", {2}, std::string(8, '\0')}, 4, "holds i32"},
      {"qwen2", f32_tensor(layer + "input_layernorm.weight", {4}), 4, "no linear layer"}};
  for (const Case& one : cases) {
    SCOPED_TRACE(one.changed.name);
    Pair pair;
    pair.config = {{"model_type", one.type}, {"vocab_size", 16}};
    pair.base = {f32_tensor("model.embed_tokens.weight", {16, 4}), f32_tensor("lm_head.weight", {16, 4}, 1),
                 one.changed};
    pair.tuned = pair.base;
    EXPECT_EQ(pair.extract().exit, 3) << "nothing differs";
    pair.tuned.back().bytes.back() ^= 1;
    const Ran ran = pair.extract();
    EXPECT_EQ(ran.exit, one.exit) << ran.out;
    EXPECT_NE(ran.err.find(one.says), std::string::npos) << ran.err;
    if (one.says != "no linear layer") {
      EXPECT_NE(ran.err.find(one.changed.name), std::string::npos) << ran.err;
    }
  }
  Pair pair;
  pair.tuned_config = {{"model_type", "gpt_neo"}, {"vocab_size", 16}};
  const Ran ran = pair.extract();
  EXPECT_EQ(ran.exit, 3);
  EXPECT_NE(ran.err.find("is of type \"gpt2\", expected \"gpt_neo\""), std::string::npos) << ran.err;
}

// A leaf shared with experts would be taken for one of them.
TEST(ExtractNamed, ExpertsBesideOthersOfTheName) {
  Pair pair;
  pair.config = {{"model_type", "qwen2_moe"}, {"vocab_size", 16}};
  const std::string mlp = "model.layers.0.mlp.";
  pair.base = {f32_tensor("model.embed_tokens.weight", {16, 4}), f32_tensor(mlp + "experts.0.up_proj.weight", {4, 4}),
               f32_tensor(mlp + "experts.1.up_proj.weight", {4, 4})};
  pair.tuned = pair.base;
  add_product(pair.tuned[2], {1, 2, 3, 4}, {1, 0, 0, 1});
  ASSERT_EQ(pair.extract().exit, 0);
  EXPECT_EQ(pair.adapter()["target_modules"], Json({"up_proj"}));
  EXPECT_EQ(pair.factors().size(), 4u) << "both, though one is as it was";
  for (auto* side : {&pair.base, &pair.tuned})
    side->push_back(f32_tensor(mlp + "shared_expert.up_proj.weight", {4, 4}));
  const Ran ran = pair.extract();
  EXPECT_EQ(ran.exit, 4);
  EXPECT_NE(ran.err.find("modules beside the experts end in 'up_proj' too"), std::string::npos) << ran.err;
}

}  // namespace
}  // namespace ropewalk::tools::test
