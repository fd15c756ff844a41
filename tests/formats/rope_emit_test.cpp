#include "formats/rope_emit.h"

#include <gtest/gtest.h>

#include <random>

#include "formats/hf_config.h"
#include "formats/rope_config.h"
#include "formats/rope_dictionary.h"
#include "formats/rope_presets.h"
#include "lib/error.h"

// What is written for an engine, read by that engine's rule (which tests/formats/engines_test.cpp holds against the
// engines themselves), is the rope that was wanted. The wanted numbers come from lib/rope.h, whose tables have goldens
// of their own, and from the published constants of each recipe.

namespace ropewalk::formats {
namespace {

/// Llama-2-13b (the shape only counts by its head of 128 channels).
Json llama2(int context = 4096) {
  return {{"model_type", "llama"},   {"hidden_size", 5120},         {"num_attention_heads", 40},
          {"num_hidden_layers", 40}, {"num_key_value_heads", 40},   {"intermediate_size", 13824},
          {"vocab_size", 32000},     {"rms_norm_eps", 1e-5},        {"max_position_embeddings", context},
          {"rope_theta", 10000.0},   {"tie_word_embeddings", false}};
}
Json mistral(int context = 8192) {
  Json config = llama2(context);
  config.update({{"model_type", "mistral"},
                 {"hidden_size", 4096},
                 {"num_attention_heads", 32},
                 {"num_key_value_heads", 8},
                 {"sliding_window", nullptr}});
  return config;
}

ModelConfig model_of(const Json& config) {
  std::vector<std::string> warnings;
  return read_hf_config("config.json", config.dump(2), config, warnings);
}

struct Wanted {
  Json preferred;
  ModelConfig model;
  RopeTarget target;
};
Wanted wanted(const Json& config, const std::string& spec) {
  const ModelConfig before = model_of(config);
  const RopeRequest request = parse_rope_spec(spec, before);
  Wanted out{config_with_rope(config, request, before), {}, {}};
  out.model = model_of(out.preferred);
  out.target = {request.meant.value_or(out.model.rope), out.model.context};
  if (const auto* dynamic = std::get_if<RopeDynamic>(&out.target.spec.scaling))
    out.target.context = int(dynamic->factor * dynamic->original_context);
  return out;
}

EmittedRope emitted(const Wanted& want, const std::vector<std::string>& engines) {
  std::vector<EngineVersion> versions;
  for (const std::string& engine : engines) versions.push_back(parse_engine(engine));
  return emit_rope(want.preferred, want.model, want.target, versions);
}

std::string refused(const Wanted& want, const std::vector<std::string>& engines) {
  try {
    return "written: " + emitted(want, engines).config.dump();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::unsupported);
    return error.what();
  }
}

TEST(RopeEmit, TheDefaultStaysWhereItIsRight) {
  for (const char* spec : {"yarn,factor=16", "linear,factor=4", "ntk,alpha=8", "llama3,factor=8", "none",
                           "yarn,factor=16,beta_fast=128,beta_slow=2,attention_factor=1.194"}) {
    const Wanted want = wanted(llama2(), spec);
    EXPECT_EQ(emitted(want, {}).config, want.preferred) << spec;
    EXPECT_EQ(emitted(want, {"transformers"}).config, want.preferred) << spec;
  }
}

TEST(RopeEmit, EachEngineGetsWhatItReads) {
  // vLLM and SGLang multiply max_position_embeddings by a linear factor
  const Json linear = emitted(wanted(llama2(), "linear,factor=4"), {"vllm", "sglang"}).config;
  EXPECT_EQ(linear["max_position_embeddings"], 4096);
  EXPECT_EQ(linear["rope_scaling"]["rope_type"], "linear");
  // transformers up to 4.42: exactly type and factor
  EXPECT_EQ(emitted(wanted(llama2(), "linear,factor=4"), {"transformers@4.37"}).config["rope_scaling"],
            Json({{"type", "linear"}, {"factor", 4.0}}));
  // 4.45 takes YaRN's original context from max_position_embeddings: only lists say this one at 64k
  const Json old = emitted(wanted(llama2(), "yarn,factor=16"), {"transformers@4.45"}).config;
  EXPECT_EQ(old["rope_scaling"]["rope_type"], "longrope");
  EXPECT_EQ(old["max_position_embeddings"], 65536);
  // mistral of transformers 4.52 to 4.57 needs head_dim
  EXPECT_EQ(emitted(wanted(mistral(), "yarn,factor=8"), {"transformers@4.57"}).config["head_dim"], 128);
  EXPECT_FALSE(emitted(wanted(mistral(), "yarn,factor=8"), {"transformers"}).config.contains("head_dim"));
  // ExLlamaV2 refuses both spellings of the type
  const Json ex = emitted(wanted(llama2(), "linear,factor=4"), {"exllamav2"}).config["rope_scaling"];
  EXPECT_FALSE(ex.contains("type") && ex.contains("rope_type")) << ex;
}

TEST(RopeEmit, AttentionFactorForBothSidesOfVllmsChange) {
  const Wanted want = wanted(mistral(), "yarn,to=128k,like=yarn-mistral");
  const Json config = emitted(want, {"vllm@0.24", "vllm@0.33", "sglang", "transformers@4.57"}).config;
  EXPECT_NEAR(config["rope_scaling"]["attention_factor"].get<double>(), 1.1940812, 1e-7);  // 0.07 ln 16 + 1
  EXPECT_NEAR(config["rope_scaling"]["attn_factor"].get<double>(), 1.1940812 / 1.2772589, 1e-7);
  EXPECT_EQ(config["rope_scaling"]["beta_fast"], 128.0);
}

TEST(RopeEmit, WhatNoEngineReadsIsRefusedAndSaysWhoCould) {
  EXPECT_NE(refused(wanted(llama2(), "dynamic,factor=4"), {"vllm"}).find("transformers 5.23.0 could"),
            std::string::npos);
  const std::string bake = refused(wanted(mistral(), "yarn,to=128k,like=yarn-mistral"), {"llama.cpp"});
  EXPECT_NE(bake.find("no config.json makes llama.cpp 0.5.0 run YaRN x16"), std::string::npos) << bake;
  EXPECT_NE(bake.find("ropewalk convert"), std::string::npos) << bake;
  EXPECT_NE(bake.find("transformers 5.23.0, vllm 0.33.0, sglang 0.5.23"), std::string::npos) << bake;
  // 4.37 takes two keys, exllamav3 by M / L: each can be told alone
  EXPECT_NE(refused(wanted(llama2(), "linear,factor=4"), {"transformers@4.37", "vllm"}).find("write a folder for each"),
            std::string::npos);
}

TEST(RopeEmit, DifferencesAreNamed) {
  const Json qwen_way = [] {  // Qwen's recipe leaves max_position_embeddings alone
    Json config = llama2();
    config["rope_scaling"] = {{"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 4096}};
    return config;
  }();
  const RopeTarget target = wanted(llama2(), "yarn,factor=4").target;
  const auto difference = [&](const char* engine) {
    return first_difference(target, read_as(parse_engine(engine), qwen_way));
  };
  EXPECT_EQ(difference("vllm@0.24"), "");
  EXPECT_EQ(difference("vllm@0.33"), "serves 4096 tokens, 16384 are wanted");
  EXPECT_EQ(difference("transformers@4.53").substr(0, 28), "43 of 64 frequencies differ,") << "control";
}

}  // namespace
}  // namespace ropewalk::formats
