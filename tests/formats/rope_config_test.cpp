#include "formats/rope_config.h"

#include <gtest/gtest.h>

#include "formats/engines/engine.h"
#include "lib/error.h"
#include "tests/formats/rope_golden.h"

namespace ropewalk::formats {
namespace {

using golden::engines;
using golden::read;

/// The reader of folders refuses more politely, and means the same rope: the engine's rule, which engines_test compares
/// with the engine row by row.
TEST(RopeConfig, AgreesWithTheEngineRule) {
  const EngineVersion engine = newest(Engine::transformers);
  int cases = 0, refused = 0;
  for (const Json& one : engines()["cases"]) {
    if (!golden::ours(one)) continue;
    ++cases;
    const EngineReading reading = read_as(engine, one["config"]);
    if (reading.error) {
      EXPECT_THROW(read(one["config"]), Error) << one["id"] << ": " << reading.error->text;
      ++refused;
      continue;
    }
    const RopeSpec spec = read(one["config"]);
    EXPECT_EQ(reading.context, spec.context) << one["id"];
    for (const Json& length : one["seq_lens"]) {
      const RopeTable got = rope_table(spec, length.get<int>()),
                      want = rope_table(reading.ropes.at(0).spec, length.get<int>());
      EXPECT_EQ(got.inv_freq, want.inv_freq) << one["id"] << ": " << describe(spec);
      EXPECT_EQ(got.attention_factor, want.attention_factor) << one["id"];
    }
  }
  EXPECT_EQ(cases, 85);
  EXPECT_EQ(refused, 8);
}

// ---------------------------------------------------------------------------------------------------------------------

Json llama(const std::string& members) {
  return Json::parse(
      R"({"model_type":"llama","hidden_size":512,"num_attention_heads":16,"max_position_embeddings":8192,"rope_theta":10000.0)" +
      (members.empty() ? "" : "," + members) + "}");
}

std::string refusal(const Json& config, ErrorKind kind) {
  try {
    read(config);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "not refused: " << config.dump();
  return "";
}

TEST(RopeConfig, ErrorsNameThePlace) {
  EXPECT_EQ(refusal(llama(R"("rope_scaling":{"rope_type":"yern","factor":2.0})"), ErrorKind::unsupported),
            "config.json:8:18: rope type 'yern' is unknown to transformers 5.23.0 (did you mean 'yarn'?); "
            "known are default, linear, dynamic, yarn, longrope, llama3, proportional");
  EXPECT_EQ(
      refusal(llama(R"("rope_scaling":{"rope_type":"linear","factor":"4"})"), ErrorKind::bad_input),
      "config.json:9:15: rope_scaling/factor is \"4\", a number was expected; write it as a number, without quotes");
  EXPECT_NE(refusal(llama(R"("rope_scaling":{"rope_type":"yarn","factor":null,"original_max_position_embeddings":0})"),
                    ErrorKind::bad_input)
                .find("above 0"),
            std::string::npos);
  refusal(llama(R"("rope_scaling":{"rope_type":"linear","factor":-1})"), ErrorKind::bad_input);
  EXPECT_EQ(refusal(llama(R"("rope_scaling":{"rope_type":"linear","factor":true})"), ErrorKind::bad_input),
            "config.json:9:15: rope_scaling/factor is true, a number was expected; write it as a number");
  for (const char* truth :
       {R"("rope_parameters":{"rope_type":"default","rope_theta":true})",
        R"("rope_scaling":{"rope_type":"yarn","factor":4.0,"original_max_position_embeddings":true})",
        R"("rope_scaling":{"rope_type":"yarn","factor":4.0,"beta_fast":true,"original_max_position_embeddings":4096})",
        R"("rope_scaling":{"rope_type":"linear","factor":4.0},"partial_rotary_factor":true)"})
    EXPECT_NE(refusal(llama(truth), ErrorKind::bad_input).find("is true, a"), std::string::npos) << truth;
  refusal(llama(R"("rope_scaling":[1])"), ErrorKind::bad_input);
  refusal(llama(R"("rope_scaling":{"rope_type":7})"), ErrorKind::bad_input);
  refusal(llama(R"("rope_scaling":{"rope_type":"longrope","factor":2,"short_factor":[1],"long_factor":[1]})"),
          ErrorKind::bad_input);
  refusal(llama(R"("rope_scaling":{"rope_type":"yarn","factor":2.0,"original_max_position_embeddings":1e300})"),
          ErrorKind::bad_input);
  refusal(llama(R"("rope_scaling":{"rope_type":"linear","factor":2.0},"partial_rotary_factor":7)"),
          ErrorKind::bad_input);
  refusal(llama(R"("layer_types":["full_attention"],"rope_parameters":{"full_attention":{"rope_type":"default"}})"),
          ErrorKind::unsupported);
  refusal(llama(R"("layer_types":["~2/"],"rope_parameters":{"~2/":{"rope_type":"default"}})"), ErrorKind::unsupported);
  Json config = llama("");
  config["rope_theta"] = -5;
  refusal(config, ErrorKind::bad_input);
  config["rope_theta"] = nullptr;
  refusal(config, ErrorKind::bad_input);
}

TEST(RopeConfig, EveryFieldSaysWhereItCameFrom) {
  const RopeSpec spec = read(
      llama(R"("original_max_position_embeddings":1024,"rope_scaling":{"type":"yarn","factor":8,"beta_fast":16})"));
  const auto from = [&](const std::string& field) -> std::string {
    for (const RopeProvenance& one : spec.provenance)
      if (one.field == field) return one.source + one.pointer;
    return "nowhere";
  };
  EXPECT_EQ(from("method"), "config.json/rope_scaling/type");
  EXPECT_EQ(from("theta"), "config.json/rope_theta");
  EXPECT_EQ(from("factor"), "config.json/rope_scaling/factor");
  EXPECT_EQ(from("original_context"), "config.json/original_max_position_embeddings");
  EXPECT_EQ(from("beta_fast"), "config.json/rope_scaling/beta_fast");
  EXPECT_EQ(from("beta_slow"), "default of transformers 5.23.0");
}

// Remote code ---------------------------------------------------------------------------------------------------------

Json yarn_mistral() {
  return Json::parse(
      R"({"model_type":"mistral","hidden_size":512,"num_attention_heads":16,"max_position_embeddings":32768,"rope_theta":10000.0,
    "auto_map":{"AutoConfig":"configuration_mistral.MistralConfig","AutoModelForCausalLM":"modeling_mistral_yarn.MistralForCausalLM"},
    "rope_scaling":{"factor":8.0,"finetuned":true,"original_max_position_embeddings":8192,"type":"yarn"}})");
}

// Llama 4 ships both as 1; transformers 5.23.0 loads it. Nothing is blended then: kept or divided.
TEST(RopeConfig, Llama3WithoutAStretchBetween) {
  const auto of = [](double low, double high) {
    Json config = llama(R"("rope_scaling":null)");
    config["rope_scaling"] = {{"rope_type", "llama3"},
                              {"factor", 16.0},
                              {"low_freq_factor", low},
                              {"high_freq_factor", high},
                              {"original_max_position_embeddings", 256}};
    return config;
  };
  const RopeSpec spec = read(of(1, 1));
  const RopeTable table = rope_table(spec, 1);
  for (std::size_t pair = 0; pair < table.inv_freq.size(); ++pair) {
    const double plain = std::pow(spec.theta, -2.0 * double(pair) / spec.rotary_dim);
    const double divisor = 2 * M_PI / plain > 256 ? 16 : 1;
    EXPECT_NEAR(table.inv_freq[pair] * divisor / plain, 1, 1e-12) << pair;
  }
  EXPECT_THROW(read(of(4, 1)), Error);
}

TEST(RopeConfig, AMagnitudeThatIsNotAboveZero) {
  const auto of = [](const char* key, double value) {
    Json config = llama(R"("rope_scaling":null)");
    config["rope_scaling"] = {{"rope_type", "yarn"}, {"factor", 8.0}, {"mscale", 1.0}, {"mscale_all_dim", 1.0}};
    config["rope_scaling"][key] = value;
    return config;
  };
  EXPECT_NO_THROW(read(of("attention_factor", 1e-3)));
  for (const double value : {0.0, -1.0}) EXPECT_THROW(read(of("attention_factor", value)), Error) << value;
  EXPECT_THROW(read(of("mscale", -10)), Error);  // 1 - ln 8 = -1.08
}

TEST(RopeConfig, LongropeDividesByTheLogarithmOfItsOriginalContext) {
  const auto of = [](int original) {
    Json config = llama(R"("rope_scaling":null)");
    const auto pairs = static_cast<std::size_t>(read(config).rotary_dim / 2);
    const Json list = std::vector<double>(pairs, 1.0);
    config["rope_scaling"] = {{"rope_type", "longrope"},
                              {"short_factor", list},
                              {"long_factor", list},
                              {"factor", 4.0},
                              {"original_max_position_embeddings", original}};
    return config;
  };
  EXPECT_NEAR(rope_table(read(of(2)), 1).attention_factor, std::sqrt(3.0), 1e-15);  // sqrt(1 + ln 4 / ln 2)
  EXPECT_THROW(read(of(1)), Error);
}

TEST(RopeConfig, YarnMistralsRemoteCode) {
  std::vector<std::string> warnings;
  const RopeTable table = rope_table(read(yarn_mistral(), &warnings), 1);
  // the repository's MistralYaRNScaledRotaryEmbedding run under torch 2.15: d 32, theta 10000, s 8, L 8192; float32,
  // nine digits
  const std::vector<double> want = {1,
                                    0.562341332,
                                    0.316227764,
                                    0.177827939,
                                    0.100000001,
                                    0.0500835218,
                                    0.0247052945,
                                    0.0119478144,
                                    0.00562499976,
                                    0.00254810904,
                                    0.00108703296,
                                    0.000416784256,
                                    0.000125000006,
                                    7.02926627e-05,
                                    3.95284733e-05,
                                    2.22284925e-05};
  for (std::size_t pair = 0; pair < want.size(); ++pair)
    EXPECT_NEAR(table.inv_freq[pair] / want[pair], 1, 2.5e-7) << pair;
  EXPECT_NEAR(table.attention_factor, 1.1455609079175886, 1e-15);
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_EQ(warnings[0],
            "auto_map names modeling_mistral_yarn.py, which is not run: its rope, YaRN x8 of 8192 (theta 10000, beta "
            "128/2, attention factor 1.1456), is used; "
            "without remote code transformers 5.23.0 would compute YaRN x8 of 8192 (theta 10000, beta 32/1, attention "
            "factor 1.2079)");

  Json plain = yarn_mistral();
  plain.erase("auto_map");
  EXPECT_NEAR(rope_table(read(plain), 1).attention_factor, 1.2079441541679836, 1e-15);
}

TEST(RopeConfig, YarnLlamasRemoteCodeAndItsTheta) {
  Json config =
      llama(R"("rope_scaling":{"type":"yarn","factor":2.0,"original_max_position_embeddings":4096,"finetuned":true})");
  config["rope_theta"] = 500000.0;
  const RopeSpec plain = read(config);
  std::vector<std::string> warnings;
  config["auto_map"] = {
      {"AutoModelForCausalLM", "NousResearch/Yarn-Llama-2-7b-64k--modeling_llama_together_yarn.LlamaForCausalLM"}};
  EXPECT_EQ(rope_table(read(config, &warnings), 1).inv_freq, rope_table(plain, 1).inv_freq);
  EXPECT_TRUE(warnings.empty()) << warnings[0];  // nothing differs, nothing to say

  config["auto_map"] = {{"AutoModelForCausalLM", "modeling_llama_yarn.LlamaForCausalLM"}};
  const RopeSpec spec = read(config, &warnings);
  EXPECT_EQ(spec.theta, 10000);  // base= is not passed to its yarn class
  EXPECT_EQ(warnings.size(), 1u);

  config["rope_scaling"]["type"] = "dynamic-yarn";  // only the remote code knows it: s = T / max_position_embeddings
  warnings.clear();
  const RopeSpec dynamic = read(config, &warnings);
  EXPECT_EQ(rope_table(dynamic, 8192).attention_factor, 1);
  EXPECT_NEAR(rope_table(dynamic, 16384).attention_factor, 0.1 * std::log(2.0) + 1, 1e-15);
  EXPECT_EQ(warnings.size(), 1u);

  config["auto_map"] = {{"AutoModelForCausalLM", "modeling_llama_together_yarn.LlamaForCausalLM"}};
  EXPECT_EQ(std::get<RopeDynamicYarn>(read(config).scaling).finetuned_context, 8192);
  Json endless = config;
  endless["rope_scaling"]["factor"] = 1e300;  // no int holds what it was tuned to
  EXPECT_THROW(read(endless), Error);

  config["auto_map"] = {{"AutoModelForCausalLM", "modeling_something.Other"}};  // other remote code is not ours to know
  EXPECT_THROW(read(config), Error);
}

}  // namespace
}  // namespace ropewalk::formats
