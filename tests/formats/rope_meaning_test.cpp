#include "formats/rope_meaning.h"

#include <gtest/gtest.h>

#include <cmath>

#include "lib/error.h"

// What a file means, whoever asks: the linter and `rope`.

namespace ropewalk::formats {
namespace {

Json base(const std::string& members, const std::string& type = "llama") {
  return Json::parse(R"({"model_type":")" + type +
                     R"(","hidden_size":4096,"num_attention_heads":32,"max_position_embeddings":32768)" +
                     (members.empty() ? "" : "," + members) + "}");
}

RopeMeaning meaning(const Json& config) { return read_rope_meaning("config.json", config.dump(1), config); }

std::string refusal(const Json& config) {
  try {
    meaning(config);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_input);
    return error.what();
  }
  return "not refused";
}

TEST(RopeMeaning, IsTransformersOrTheKnownCodes) {
  const RopeMeaning plain = meaning(base(R"("rope_theta":1e6)", "qwen2"));
  EXPECT_EQ(plain.by, "transformers 5.23.0");
  EXPECT_EQ(plain.rope.layers.at(0).spec.theta, 1e6);
  EXPECT_EQ(plain.rope.layers.at(0).spec.attention_factor, 1.0);
  const RopeMeaning code = meaning(base(R"("rope_theta":10000.0,
    "rope_scaling":{"type":"yarn","factor":16.0,"original_max_position_embeddings":8192,"finetuned":true},
    "auto_map":{"AutoModelForCausalLM":"modeling_mistral_yarn.MistralForCausalLM"})",
                                        "mistral"));
  EXPECT_EQ(code.remote_code, "modeling_mistral_yarn");
  EXPECT_DOUBLE_EQ(*code.rope.layers.at(0).spec.attention_factor, 0.07 * std::log(16) + 1);
  EXPECT_EQ(code.rope.context, 131072);
}

// A rope_scaling added to a file of version 5 resets theta to 10000 in transformers 5 (unsloth#7028): nobody means that.
TEST(RopeMeaning, ABaseThatIsNotFoundIsMeant) {
  const std::string lost =
      R"("rope_scaling":{"rope_type":"yarn","factor":4.0,"original_max_position_embeddings":32768},
         "rope_parameters":{"rope_type":"default","rope_theta":1000000.0})";
  for (const std::string type : {"llama", "qwen3"}) {
    const RopeMeaning found = meaning(base(lost, type));
    const RopeSpec& spec = found.rope.layers.at(0).spec;
    EXPECT_EQ(spec.theta, 1e6) << type;
    EXPECT_EQ(found.warnings.back(),
              "rope_parameters/rope_theta is 1000000, where transformers 5.23.0 does not find it and takes 10000: "
              "1000000 is meant");
    for (const RopeProvenance& from : spec.provenance)
      if (from.field == "theta") {
        EXPECT_EQ(from.pointer, "/rope_parameters/rope_theta");
      }
  }
  // where it is found, what stands elsewhere is another matter (R07)
  EXPECT_EQ(meaning(base(lost + R"(,"rope_theta":5e5)", "qwen3")).rope.layers.at(0).spec.theta, 5e5);
  EXPECT_EQ(meaning(base("")).rope.layers.at(0).spec.theta, 1e4) << "nothing is said";
}

TEST(RopeMeaning, TheContextIsWhatTheMethodServes) {
  const auto context = [](const std::string& members) { return meaning(base(members)).rope.context; };
  EXPECT_EQ(context(""), 32768);
  EXPECT_EQ(context(R"("rope_scaling":{"rope_type":"yarn","factor":4.0,"original_max_position_embeddings":32768})"),
            131072);
  EXPECT_EQ(context(R"("rope_scaling":{"rope_type":"yarn","factor":4.0,"original_max_position_embeddings":4096})"),
            32768);
  EXPECT_EQ(context(R"("rope_scaling":{"rope_type":"linear","factor":4.0})"), 32768) << "extended already";
  EXPECT_EQ(context(R"("rope_scaling":{"rope_type":"dynamic","factor":2.0})"), 65536);
  EXPECT_EQ(context(R"("rope_scaling":{"rope_type":"dynamic","factor":2.0,"original_max_position_embeddings":4096})"),
            32768);
}

TEST(RopeMeaning, NobodyExtendsByMoreThanASpecMay) {
  for (const char* model_type : {"llama", "qwen2"}) {
    const auto of = [&](const std::string& factor) {
      return base(
          R"("rope_scaling":{"rope_type":"yarn","original_max_position_embeddings":4096,"factor":)" + factor + "}",
          model_type);
    };
    EXPECT_NE(refusal(of("1e308")).find("the rope factor is 1e+308, which no context has been extended by"),
              std::string::npos)
        << refusal(of("1e308"));
    EXPECT_EQ(refusal(of("65536.0")), "not refused");
  }
}

TEST(RopeMeaning, TrueIsNoNumber) {
  EXPECT_EQ(refusal(base(R"("rope_theta":true)", "qwen3")),
            "config.json:6:16: rope_theta is true, a number was expected; write it as a number");
  EXPECT_EQ(refusal(base(R"("head_dim":true)")).find("config.json:6:14: head_dim is true"), 0u);
  for (const char* key : {"factor", "beta_fast", "attention_factor", "original_max_position_embeddings"}) {
    Json config = base(R"("rope_theta":1e4,"rope_scaling":{"rope_type":"yarn","factor":4.0})", "qwen2");
    config["rope_scaling"][key] = true;
    EXPECT_NE(refusal(config).find(std::string(key) + " is true"), std::string::npos);
    EXPECT_TRUE(lenient_rope_meaning(config)) << "Python takes it for 1, and so do engines: " << key;
  }
  Json nested = base(R"("layer_types":["full_attention"],"rope_parameters":{"full_attention":{"rope_theta":true}})",
                     "gemma3_text");
  EXPECT_NE(refusal(nested).find("rope_theta is true"), std::string::npos);
}

TEST(RopeMeaning, WhatNobodyReads) {
  const Json config = base(R"("rope_theta":1e4,"rope_scaling":{"rope_type":"yern"})", "qwen2");
  EXPECT_EQ(
      refusal(config),
      "config.json:8:16: transformers 5.23.0 raises KeyError: 'yern'; correct the file; --engine shows what others "
      "make of it");
  EXPECT_FALSE(lenient_rope_meaning(config));
}

}  // namespace
}  // namespace ropewalk::formats
