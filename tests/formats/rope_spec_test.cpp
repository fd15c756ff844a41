#include <gtest/gtest.h>

#include <fstream>

#include "formats/rope_config.h"
#include "lib/error.h"

namespace ropewalk::formats {
namespace {

ModelConfig model(RopeScaling scaling = RopeUnscaled{}, int context = 4096) {
  ModelConfig config;
  config.model_type = "llama";
  config.head_dim = 32;
  config.context = context;
  config.rope.theta = 10000;
  config.rope.rotary_dim = 32;
  config.rope.context = context;
  config.rope.scaling = std::move(scaling);
  return config;
}

std::string parsed(std::string_view spec, const ModelConfig& base = model()) {
  const RopeRequest request = parse_rope_spec(spec, base);
  return request.rope_parameters.dump() + " " + std::to_string(request.context);
}

std::string refused(std::string_view spec, const ModelConfig& base = model()) {
  try {
    return "not refused: " + parsed(spec, base);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::usage) << error.what();
    return error.what();
  }
}

TEST(RopeSpecText, Contexts) {
  EXPECT_EQ(parse_context("4096"), 4096);
  EXPECT_EQ(parse_context("64k"), 65536);
  EXPECT_EQ(parse_context("1M"), 1048576);
  EXPECT_EQ(parse_context("2147483647"), 2147483647);
  for (const char* bad :
       {"", "0", "-1", "k", "4096 ", " 4096", "1.5k", "64kb", "2097152k", "2147483648", "99999999999999999999", "1e3"})
    EXPECT_EQ(parse_context(bad), std::nullopt) << bad;
}

TEST(RopeSpecText, Methods) {
  EXPECT_EQ(parsed("yarn,factor=16,original_max_position_embeddings=4096"),
            R"({"rope_type":"yarn","factor":16.0,"original_max_position_embeddings":4096} 65536)");
  EXPECT_EQ(parsed("yarn,to=64k"),
            R"({"rope_type":"yarn","factor":16.0,"original_max_position_embeddings":4096} 65536)");
  EXPECT_EQ(
      parsed("yarn,to=64k,original=8k,beta_fast=128,truncate=false"),
      R"({"rope_type":"yarn","factor":8.0,"original_max_position_embeddings":8192,"beta_fast":128.0,"truncate":false} 65536)");
  EXPECT_EQ(parsed("linear,factor=4"), R"({"rope_type":"linear","factor":4.0} 16384)");
  EXPECT_EQ(parsed("dynamic,factor=4"),
            R"({"rope_type":"dynamic","factor":4.0} 4096)");  // its original context is max_position_embeddings
  EXPECT_EQ(
      parsed("llama3,factor=8"),
      R"({"rope_type":"llama3","factor":8.0,"original_max_position_embeddings":4096,"low_freq_factor":1.0,"high_freq_factor":4.0} 32768)");
  EXPECT_EQ(parsed("none"), R"({"rope_type":"default"} 4096)");
  EXPECT_EQ(parsed("none,rope_theta=1e6,to=32k"), R"({"rope_type":"default","rope_theta":1000000.0} 32768)");
  EXPECT_EQ(parsed(R"({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096, "finetuned": true})"),
            R"({"rope_type":"yarn","factor":4.0,"original_max_position_embeddings":4096,"finetuned":true} 16384)");

  const RopeRequest ntk = parse_rope_spec("ntk,alpha=8", model());
  EXPECT_EQ(ntk.rope_parameters["rope_type"], "default");
  EXPECT_NEAR(ntk.rope_parameters["rope_theta"].get<double>(), 10000 * std::pow(8.0, 32.0 / 30), 1e-9);
  EXPECT_EQ(ntk.context, 32768);
}

TEST(RopeSpecText, ComposingCountsFromTheOriginalContext) {
  RopeYarn yarn{8, 256};
  yarn.beta_fast = 16;
  EXPECT_EQ(parsed("yarn,factor=16", model(yarn, 2048)),
            R"({"rope_type":"yarn","factor":16.0,"original_max_position_embeddings":256,"beta_fast":16.0} 4096)");
  EXPECT_EQ(parsed("yarn,to=4k", model(yarn, 2048)),
            R"({"rope_type":"yarn","factor":16.0,"original_max_position_embeddings":256,"beta_fast":16.0} 4096)");
  EXPECT_EQ(parsed("none", model(yarn, 2048)), R"({"rope_type":"default"} 256)");
  EXPECT_EQ(refused("yarn,factor=4", model(RopeLlama3{8, 1, 4, 8192}, 131072)),
            "rope 'yarn,factor=4': the model is already scaled (llama3 x8 of 8192 (theta 10000, low and high frequency "
            "factors 1 and 4)); "
            "to replace that scaling say the context before it, such as original=8192");
  EXPECT_EQ(parsed("yarn,factor=4,original=8192", model(RopeLlama3{8, 1, 4, 8192}, 131072)),
            R"({"rope_type":"yarn","factor":4.0,"original_max_position_embeddings":8192} 32768)");
  EXPECT_NE(refused("yarn,factor=4", model(RopeLinear{4}, 16384)).find("nothing says what its context was before"),
            std::string::npos);
  ModelConfig baked = model();  // a GGUF whose scaling stands in rope_freqs.weight
  baked.rope.frequency_divisors.assign(16, 2.0);
  EXPECT_NE(refused("yarn,factor=4", baked).find("already scaled"), std::string::npos);
  baked.rope.scaling = RopeYarn{8, 256};  // the method agrees, but nothing could carry the divisors over
  EXPECT_NE(refused("yarn,factor=4", baked).find("rope_freqs.weight"), std::string::npos);
  EXPECT_NE(refused("none", baked).find("rope_freqs.weight"), std::string::npos);
  EXPECT_EQ(parsed("none,original=256", baked), R"({"rope_type":"default"} 256)");
}

TEST(RopeSpecText, NativeIsTheRopeAsItIs) {
  RopeYarn yarn{16, 8192};
  yarn.beta_fast = 128, yarn.beta_slow = 2;
  ModelConfig mistral = model(yarn, 32768);
  mistral.rope.attention_factor = 1.25;
  EXPECT_EQ(parsed("native", mistral),
            R"({"rope_type":"yarn","rope_theta":10000.0,"factor":16.0,"original_max_position_embeddings":8192,)"
            R"("beta_fast":128.0,"beta_slow":2.0,"attention_factor":1.25} 131072)");
  EXPECT_EQ(parsed("native,to=64k", mistral).substr(parsed("native,to=64k", mistral).size() - 6), " 65536");
  EXPECT_EQ(parsed("native", model(RopeLinear{4}, 16384)),
            R"({"rope_type":"linear","rope_theta":10000.0,"factor":4.0} 16384)");
  EXPECT_NE(refused("native", model(RopeDynamicYarn{4096}, 16384)).find("no config.json that transformers"),
            std::string::npos);
  ModelConfig baked = model();  // divisors of a GGUF become lists
  baked.rope.frequency_divisors.assign(16, 2.0);
  EXPECT_NE(parsed("native", baked).find(R"("rope_type":"longrope")"), std::string::npos);
}

TEST(RopeSpecText, YarnMistralsRuleGoesOn) {
  ModelConfig mistral = model(RopeYarn{8, 8192}, 65536);
  mistral.rope.attention_factor = 0.07 * std::log(8.0) + 1;
  EXPECT_NEAR(parse_rope_spec("yarn,factor=16", mistral).rope_parameters["attention_factor"].get<double>(), 1.1940812,
              1e-7);
  mistral.rope.attention_factor = 1.2;  // some other value belongs to the old factor
  EXPECT_FALSE(parse_rope_spec("yarn,factor=16", mistral).rope_parameters.contains("attention_factor"));
}

TEST(RopeSpecText, Refusals) {
  EXPECT_EQ(refused("yern,factor=4"),
            "rope 'yern,factor=4': there is no method 'yern' (did you mean 'yarn'?); known are none, linear, ntk, "
            "dynamic, ntk-by-parts, yarn, llama3, longrope, proportional, native");
  EXPECT_EQ(refused("linear,fcator=4"),
            "rope 'linear,fcator=4': linear has no key 'fcator' (did you mean 'factor'?); it takes factor, rope_theta, "
            "to, original_max_position_embeddings, original, like");
  EXPECT_EQ(refused("yarn"), "rope 'yarn': neither factor nor to says how far to extend; add factor=4 or to=64k");
  EXPECT_EQ(refused("yarn,to=2k"),
            "rope 'yarn,to=2k': to is below the original context of 4096; it is relative to the original context, 4096 "
            "tokens");
  EXPECT_EQ(
      refused("yarn,to=2147483647"),
      "rope 'yarn,to=2147483647': to is more than 65536 times the original context of 4096; it is relative to the "
      "original context, 4096 tokens");
  EXPECT_EQ(refused("native,factor=2"), "rope 'native,factor=2': native has no key 'factor'; it takes to");
  for (const char* bad : {"",
                          " ",
                          ",",
                          "yarn,",
                          "yarn,factor",
                          "yarn,factor=",
                          "yarn,factor=x",
                          "yarn,factor=nan",
                          "yarn,factor=inf",
                          "yarn,factor=0",
                          "yarn,factor=-4",
                          "yarn,factor=1e9",
                          "yarn,to=64q",
                          "yarn,factor=4,factor=8",
                          "yarn,factor=4,original=4k,original_max_position_embeddings=4k",
                          "yarn,factor=4,truncate=maybe",
                          "yarn,factor=4,beta_fast=-1",
                          "yarn,factor=4,rope_theta=0",
                          "yarn,factor=4,rope_theta=1e308",
                          "longrope,factor=2",
                          "longrope,factor=2,short_factor=1",
                          "dynamic-yarn,factor=2",
                          "llama3,factor=2,low_freq_factor=4,high_freq_factor=1",
                          "{",
                          "{}",
                          "[]",
                          "yarn,factor=8,attention_factor=-1",
                          "yarn,factor=8,attention_factor=0",
                          "yarn,factor=8,mscale=-10,mscale_all_dim=1",
                          "yarn,factor=8,mscale=1,mscale_all_dim=-10",
                          R"({"rope_type":"yarn","factor":8,"attention_factor":-1})",
                          R"({"rope_type":"yarn","type":"linear","factor":8})",
                          R"({"rope_type":7})",
                          R"({"rope_type":"yarn","factor":"4"})",
                          R"({"rope_type":"yarn","factr":4})",
                          R"({"rope_type":"ntk","factor":4})",
                          R"({"rope_type":"yarn","factor":4,"original_max_position_embeddings":-4})",
                          R"({"rope_type":"yarn","factor":4,"original_max_position_embeddings":1e99})",
                          R"({"rope_type":"yarn","to":{},"factor":4})",
                          R"({"rope_type":"none","to":1e300})",
                          R"({"rope_type":"none","to":-1e300})",
                          R"({"rope_type":"proportional","to":2147483648})",
                          R"({"rope_type":"yarn","factor":4,"original":1e300})",
                          R"({"rope_type":"yarn","factor":1e300})",
                          "none,factor=4"})
    EXPECT_EQ(refused(bad).rfind("rope '", 0), 0u) << refused(bad);
}

// Writing -------------------------------------------------------------------------------------------------------------

Json written(const std::string& config, std::string_view spec, const ModelConfig& base = model()) {
  return config_with_rope(Json::parse(config), parse_rope_spec(spec, base), base);
}

TEST(RopeWrite, Version4KeepsItsOrder) {
  EXPECT_EQ(
      written(
          R"({"hidden_size":64,"max_position_embeddings":4096,"rms_norm_eps":1e-5,"rope_scaling":null,"rope_theta":10000.0,"vocab_size":512})",
          "yarn,factor=4")
          .dump(),
      R"({"hidden_size":64,"max_position_embeddings":16384,"rms_norm_eps":1e-05,"rope_scaling":{"rope_type":"yarn","type":"yarn","factor":4.0,)"
      R"("original_max_position_embeddings":4096},"rope_theta":10000.0,"vocab_size":512})");
  // a file that says nothing of rope
  EXPECT_EQ(
      written(R"({"hidden_size":64,"max_position_embeddings":4096,"vocab_size":512})", "linear,factor=2").dump(),
      R"({"hidden_size":64,"max_position_embeddings":8192,"rope_scaling":{"rope_type":"linear","type":"linear","factor":2.0},"rope_theta":10000.0,"vocab_size":512})");
  EXPECT_EQ(written(R"({"max_position_embeddings":4096,"rope_scaling":{"type":"linear","factor":2.0}})",
                    "none,original=2048", model(RopeLinear{2}))
                .dump(),
            R"({"max_position_embeddings":2048,"rope_scaling":null,"rope_theta":10000.0})");
}

TEST(RopeWrite, Version5IsReadableByBoth) {
  EXPECT_EQ(
      written(R"({"max_position_embeddings":4096,"rope_parameters":{"rope_theta":10000.0,"rope_type":"default"}})",
              "yarn,factor=4")
          .dump(),
      R"({"max_position_embeddings":16384,"rope_parameters":{"rope_type":"yarn","factor":4.0,"original_max_position_embeddings":4096,"rope_theta":10000.0},)"
      R"("rope_scaling":{"rope_type":"yarn","type":"yarn","factor":4.0,"original_max_position_embeddings":4096},"rope_theta":10000.0})");
}

TEST(RopeWrite, NothingStaleStays) {
  const Json out = written(
      R"({"auto_map":{"AutoModelForCausalLM":"modeling_mistral_yarn.MistralForCausalLM"},"max_position_embeddings":4096,"max_sequence_length":999,
    "original_max_position_embeddings":77,"rope_theta":10000.0})",
      "yarn,factor=4");
  EXPECT_FALSE(out.contains("auto_map"));
  EXPECT_EQ(out["max_sequence_length"], 16384);
  EXPECT_EQ(out["original_max_position_embeddings"], 4096);
  EXPECT_FALSE(written(R"({"max_position_embeddings":4096,"original_max_position_embeddings":77})", "linear,factor=4")
                   .contains("original_max_position_embeddings"));
  EXPECT_TRUE(written(R"({"auto_map":{"AutoModelForCausalLM":"modeling_other.X"},"max_position_embeddings":4096})",
                      "linear,factor=4")
                  .contains("auto_map"));
}

TEST(RopeWrite, AttentionFactorForBothKindsOfEngine) {
  const Json out = written(R"({"max_position_embeddings":4096})", "yarn,factor=16,attention_factor=1.194081");
  EXPECT_EQ(out["rope_scaling"]["attention_factor"], 1.194081);
  EXPECT_NEAR(out["rope_scaling"]["attn_factor"].get<double>(), 1.194081 / 1.2772588722239782, 1e-15);
}

/// Whatever is asked for is what the reader then computes.
TEST(RopeWrite, ReadsBackAsAsked) {
  const std::vector<std::pair<const char*, RopeScaling>> asked = {{"yarn,factor=8", RopeYarn{8, 4096}},
                                                                  {"linear,factor=4", RopeLinear{4}},
                                                                  {"dynamic,factor=4", RopeDynamic{4, 4096}},
                                                                  {"llama3,factor=8", RopeLlama3{8, 1, 4, 4096}},
                                                                  {"ntk,alpha=8", RopeNtk{8}},
                                                                  {"none", RopeUnscaled{}}};
  for (const char* config :
       {R"({"max_position_embeddings":4096,"rope_theta":10000.0})",
        R"({"max_position_embeddings":4096,"rope_parameters":{"rope_theta":10000.0,"rope_type":"default"}})"})
    for (const auto& [spec, scaling] : asked) {
      const Json out = written(config, spec);
      std::vector<std::string> warnings;
      const RopeSpec got =
          read_hf_rope("config.json", out.dump(), out, {32, out["max_position_embeddings"].get<int>()}, warnings);
      RopeSpec want = model(scaling).rope;
      for (int length : {1, 4096, 10000}) {
        const RopeTable a = rope_table(got, length), b = rope_table(want, length);
        EXPECT_EQ(a.attention_factor, b.attention_factor) << spec;
        for (std::size_t pair = 0; pair < b.inv_freq.size(); ++pair)
          EXPECT_NEAR(a.inv_freq[pair] / b.inv_freq[pair], 1, 1e-14) << spec;
      }
      EXPECT_TRUE(warnings.empty()) << spec << ": " << warnings[0];
    }
}

}  // namespace
}  // namespace ropewalk::formats
