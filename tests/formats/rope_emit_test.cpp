#include "formats/rope_emit.h"

#include <gtest/gtest.h>

#include <map>

#include "formats/hf_config.h"
#include "formats/rope_config.h"
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
  out.target = {request.spec, out.model.context};
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

/// A pair that stands still is not one that turns the other way.
TEST(RopeEmit, NegativeFrequenciesDiffer) {
  const auto rope = [](double divisor) {
    RopeLongrope lists{std::vector<double>(64, 1), std::vector<double>(64, 1), 4096};
    lists.short_factor[3] = lists.long_factor[3] = divisor;
    RopeSpec spec{10000, 128, lists, 1.0};
    spec.context = 4096;
    return spec;
  };
  EngineReading reading;
  reading.engine = parse_engine("transformers@5.23.0");
  reading.context = 4096;
  reading.ropes.emplace_back();
  const RopeTarget still{rope(1e40), 4096};
  reading.ropes[0].spec = rope(1e35);
  EXPECT_EQ(first_difference(still, reading), "");
  reading.ropes[0].spec = rope(-1);
  EXPECT_EQ(first_difference(still, reading).substr(0, 27), "1 of 64 frequencies differ ");
}

// Round trips ---------------------------------------------------------------------------------------------------------

std::vector<RopeTarget> sayable() {
  const auto spec = [](RopeScaling scaling, std::optional<double> attention = std::nullopt) {
    RopeSpec out{10000, 128, std::move(scaling), attention};
    out.context = 65536;
    return RopeTarget{out, 65536};
  };
  RopeYarn mistral{16, 4096};
  mistral.beta_fast = 128, mistral.beta_slow = 2;
  RopeYarn exact{16, 4096};
  exact.truncate = false;
  RopeLongrope lists;
  lists.original_context = 4096;
  for (int pair = 0; pair < 64; ++pair) {
    lists.short_factor.push_back(1 + 0.001 * pair);
    lists.long_factor.push_back(1 + 0.25 * pair);
  }
  return {spec(RopeUnscaled{}),
          spec(RopeLinear{16}),
          spec(RopeYarn{16, 4096}),
          spec(mistral, 1.194),
          spec(exact),
          spec(RopeNtk{16}),
          spec(lists, 1.25),
          spec(RopeLlama3{16, 1, 4, 4096}),
          spec(RopeNtkByParts{16, 4096}),
          spec(RopeDynamic{16, 4096})};
}

// From any engine's dialect to any other's: what both can say survives, what the second cannot is refused.
TEST(RopeEmit, RoundTripsOverEveryPairOfDialects) {
  const std::vector<const char*> engines = {"transformers@4.37",
                                            "transformers@4.45",
                                            "transformers@4.51",
                                            "transformers@4.57",
                                            "transformers",
                                            "vllm@0.6",
                                            "vllm@0.12",
                                            "vllm@0.24",
                                            "vllm",
                                            "sglang@0.5.3",
                                            "sglang",
                                            "llama.cpp@2025-02",
                                            "llama.cpp",
                                            "exllamav2",
                                            "exllamav3"};
  const Json base = llama2();
  const ModelConfig model = model_of(base);
  const auto write = [&](const RopeTarget& target, const char* name) -> std::optional<Json> {
    const EngineVersion engine = parse_engine(name);
    try {
      return emit_rope(base, model, target, std::span(&engine, 1)).config;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::unsupported) << error.what();
      return std::nullopt;
    }
  };
  int kept = 0, refused = 0;
  for (const RopeTarget& target : sayable()) {
    std::map<std::string, bool> direct;
    for (const char* engine : engines) direct[engine] = write(target, engine).has_value();
    EXPECT_TRUE(direct["transformers"]) << describe(target.spec);
    for (const char* from : engines) {
      const std::optional<Json> first = write(target, from);
      if (!first) continue;
      const EngineReading read = read_as(parse_engine(from), *first);
      ASSERT_EQ(first_difference(target, read), "") << describe(target.spec) << " for " << from;
      const RopeTarget again{read.ropes.front().spec, target.context};
      for (const char* to : engines) {
        const std::string what = describe(target.spec) + ": " + from + " -> " + to;
        // lists keep the numbers and lose the method's name, without which some engines cannot be told
        const bool named = again.spec.scaling.index() == target.spec.scaling.index();
        if (!direct[to]) {  // seen above, where it was refused
          ++refused;
          continue;
        }
        const std::optional<Json> second = write(again, to);
        EXPECT_TRUE(second || !named) << what;
        if (!second) {
          ++refused;
          continue;
        }
        const EngineReading last = read_as(parse_engine(to), *second);
        EXPECT_EQ(first_difference(named ? target : again, last), "") << what;
        const RopeTable a = rope_table(last.ropes.front().spec, 65536), b = rope_table(target.spec, 65536);
        // two files, 3 units in the last place each; torch's float32 blend of f / s and f rounds the share of f, which
        // counts s times
        for (std::size_t pair = 0; pair < a.inv_freq.size(); ++pair)
          EXPECT_NEAR(a.inv_freq[pair] / b.inv_freq[pair], 1, (12 + 16) * 0x1p-24) << what << " pair " << pair;
        ++kept;
      }
    }
  }
  EXPECT_GT(kept, 500);
  EXPECT_GT(refused, 50);
  RecordProperty("kept", kept);
  RecordProperty("refused", refused);
}

TEST(RopePresets, EachIsASpecAndCitesItsSource) {
  const ModelConfig base = model_of(llama2());
  ModelConfig long_base = base;
  long_base.context = 32768;
  for (const RopePreset& preset : rope_presets()) {
    EXPECT_FALSE(preset.origin.empty());
    const RopeRequest request =
        parse_rope_spec(std::string(preset.method) + ",to=256k,like=" + std::string(preset.name), long_base);
    EXPECT_EQ(request.context, 262144) << preset.name;
  }
  EXPECT_THROW(parse_rope_spec("yarn,to=256k,like=qwen", base), Error) << "a recipe for models of 32768 tokens";
  const Json mistral = parse_rope_spec("yarn,factor=8,like=yarn-mistral", base).rope_parameters;
  EXPECT_NEAR(mistral["attention_factor"].get<double>(), 1.145561, 5e-7);  // 0.07 ln 8 + 1
  EXPECT_EQ(
      parse_rope_spec("yarn,factor=8,attention_factor=1,like=yarn-mistral", base).rope_parameters["attention_factor"],
      1.0);
  EXPECT_EQ(parse_rope_spec("yarn,factor=4,like=gpt-oss", base).rope_parameters["truncate"], false);
  EXPECT_THROW(parse_rope_spec("linear,factor=4,like=yarn-mistral", base), Error);
  EXPECT_THROW(parse_rope_spec("yarn,factor=4,like=nobody", base), Error);
  EXPECT_THROW(parse_rope_spec("yarn,factor=4,to=64k", base), Error) << "they contradict each other";
}

}  // namespace
}  // namespace ropewalk::formats
