#include "formats/rope_base.h"

#include <gtest/gtest.h>

#include "lib/error.h"

// What a SPEC is written over, of small files that say a thing twice, or nothing that can be read.

namespace ropewalk::formats {
namespace {

Json llama(const std::string& patch) {
  Json config = Json::parse(R"({"model_type": "llama", "hidden_size": 4096, "num_attention_heads": 32,
    "max_position_embeddings": 16384, "rope_theta": 10000.0})");
  config.merge_patch(Json::parse(patch));
  return config;
}

/// "" if `spec` can be written over it, else what is said.
std::string refusal(const Json& config, const std::string& spec) {
  try {
    rope_base("config.json", config.dump(2), config, spec);
    return "";
  } catch (const Error& error) {
    EXPECT_NE(error.kind(), ErrorKind::usage) << error.what();
    return error.what();
  }
}

const char* const kYarn = R"("factor": 4.0, "original_max_position_embeddings": 4096)";

TEST(RopeBase, WhatIsSaidTwiceIsAskedFor) {
  struct Case {
    std::string patch, said;
    std::vector<std::string> open, settled;
  };
  const std::string yarn = std::string(R"("rope_scaling": {"rope_type": "yarn", )") + kYarn + "}";
  const std::vector<Case> all = {
      {R"({"rope_parameters": {"rope_type": "default", "rope_theta": 500000.0}})",
       "rope_theta is 10000.0 at the top level and 500000.0 in rope_parameters",
       {"native", "yarn,factor=4", "none", "ntk,alpha=2", R"({"rope_type": "yarn", "factor": 4.0})"},
       {"yarn,factor=4,rope_theta=500000", R"({"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0})"}},
      {R"({"original_max_position_embeddings": 8192, )" + yarn + "}",
       "original_max_position_embeddings is 8192 at the top level and 4096 in rope_scaling",
       {"native", "native,to=64k", "yarn,factor=8"},
       {"yarn,factor=8,original=4096", "yarn,factor=8,original_max_position_embeddings=4096",
        "yarn,to=256k,like=qwen"}},
      {R"({"rope_scaling": {"rope_type": "yarn", "type": "linear", )" + std::string(kYarn) + "}}",
       R"(type is "linear" and rope_type "yarn")",
       {"native", "yarn,factor=8"},
       {"yarn,factor=8,original=4096", "none,original=4096"}},
      {"{" + yarn + R"(, "rope_parameters": {"rope_type": "linear", "factor": 4.0}})",
       "rope_scaling and rope_parameters say different ropes",
       {"native", "linear,factor=2"},
       {"linear,factor=2,original=4096"}},
  };
  for (const Case& one : all) {
    const Json config = llama(one.patch);
    for (const std::string& spec : one.open) {
      const std::string said = refusal(config, spec);
      EXPECT_NE(said.find(one.said + ": which is meant is not said; "), std::string::npos) << spec << "\n" << said;
    }
    for (const std::string& spec : one.settled) EXPECT_EQ(refusal(config, spec), "") << spec;
  }
  // both at once are asked for together, and the place is in the file
  const std::string both = refusal(
      llama(R"({"original_max_position_embeddings": 8192, "rope_scaling": {"rope_type": "yarn", "rope_theta": 5e5, )" +
            std::string(kYarn) + "}}"),
      "yarn,factor=8");
  EXPECT_NE(both.find("config.json:10:19: "), std::string::npos) << both;
  EXPECT_NE(both.find("add to the new rope rope_theta=10000.0 or rope_theta=500000.0, and original=8192 or "
                      "original=4096, or correct the file"),
            std::string::npos)
      << both;
}

TEST(RopeBase, WhatIsSaidAlikeIsNoContradiction) {
  for (const std::string& patch :
       {std::string("{}"),
        "{\"rope_scaling\": {\"rope_type\": \"yarn\", \"type\": \"yarn\", " + std::string(kYarn) + "}}",
        // another order, another spelling, the base inside: what extend itself writes
        "{\"rope_scaling\": {\"type\": \"yarn\", " + std::string(kYarn) +
            "}, \"rope_parameters\": {\"original_max_position_embeddings\": 4096, \"rope_theta\": 10000, "
            "\"rope_type\": \"yarn\", \"factor\": 4.0}}",
        std::string(R"({"rope_scaling": {"type": "su", "rope_type": "longrope"}})"),
        // of a kind of layer each: no dictionary for all
        std::string(R"({"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 5e5}}})"),
        // the repository's code reads rope_scaling and the top level
        std::string(R"({"auto_map": {"AutoModelForCausalLM": "modeling_llama_yarn.LlamaForCausalLM"},
                        "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}})")})
    EXPECT_TRUE(rope_contradictions(llama(patch)).empty()) << patch;
}

// type ntk of some forks, ntk-by-parts of the YaRN repository's patches, Hunyuan's alpha in a llama: transformers 5.23.0
// raises KeyError of all.
TEST(RopeBase, ARopeThatNobodyReadsIsReplaced) {
  for (const char* dictionary :
       {R"({"type": "ntk", "factor": 4.0})", R"({"type": "ntk-by-parts", "factor": 4.0, "rope_theta": 20000.0})",
        R"({"type": "dynamic", "alpha": 8.0})", R"({"type": "yarn", "factor": "4"})", R"([1])"}) {
    Json config = llama("{}");
    config.erase("rope_theta");
    config["rope_scaling"] = Json::parse(dictionary);
    for (const char* spec : {"native", "yarn,factor=4", "none"}) {
      const std::string said = refusal(config, spec);
      if (config["rope_scaling"].is_object())
        EXPECT_NE(said.find("a rope that names its method and the context before scaling replaces it"),
                  std::string::npos)
            << dictionary << " " << spec << said;
      else EXPECT_NE(said, "");
    }
    const RopeBase base = rope_base("config.json", config.dump(2), config, "yarn,factor=4,original=4096");
    ASSERT_TRUE(base.warning) << dictionary;
    EXPECT_NE(base.warning->find("the new one replaces it"), std::string::npos);
    EXPECT_FALSE(base.config.contains("rope_scaling"));
    EXPECT_EQ(base.config.value("rope_theta", 0.0),
              std::string(dictionary).find("20000") != std::string::npos ? 20000 : 0);
  }
  // not the dictionary's fault
  Json config = llama(R"({"rope_scaling": {"type": "ntk", "factor": 4.0}})");
  config["max_position_embeddings"] = "many";
  EXPECT_EQ(refusal(config, "yarn,factor=4,original=4096").find("replaces it"), std::string::npos);
  EXPECT_NE(refusal(config, "yarn,factor=4,original=4096"), "");
}

TEST(RopeBase, SuIsLongrope) {
  const Json config = llama(R"({"rope_scaling": {"type": "su", "short_factor": [1.0], "long_factor": [2.0]}})");
  const std::optional<Json> renamed = with_longrope_for_su(config);
  ASSERT_TRUE(renamed);
  EXPECT_EQ((*renamed)["rope_scaling"]["type"], "longrope");
  EXPECT_FALSE(with_longrope_for_su(*renamed));
  Json phi3 = config;
  phi3["model_type"] = "phi3";  // its class renames it by itself
  EXPECT_FALSE(with_longrope_for_su(phi3));
}

}  // namespace
}  // namespace ropewalk::formats
