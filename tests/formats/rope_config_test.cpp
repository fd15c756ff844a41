#include "formats/rope_config.h"

#include <gtest/gtest.h>

#include <set>

#include "lib/error.h"
#include "tests/formats/rope_golden.h"

namespace ropewalk::formats {
namespace {

using golden::engines;
using golden::read;

constexpr const char* kEngine = "transformers-5.23.0";

struct Comparison {
  bool equal = true;       // within the tolerance, attention factor included
  int values = 0, equal_values = 0, within_3 = 0;
  std::int64_t worst = 0;  // ulps
};

/// `spec` against every row of a golden's only layer kind.
Comparison compare(const RopeSpec& spec, const Json& result) {
  Comparison out;
  for (const Json& row : result["layers"]["all"]) {
    const int length = row["seq_len"].is_number() ? row["seq_len"].get<int>() : 1;
    const RopeTable table = rope_table(spec, length);
    const std::vector<float> want = golden::vector_of(row["inv_freq"].get<std::string>());
    // both compute the factor in double by the same formula; the engine then multiplies float32 cosines by it
    if (float(table.attention_factor) != golden::from_hex(row["a"].get<std::string>())) out.equal = false;
    if (table.inv_freq.size() != want.size()) return {false, 0, 0, 0, 0};
    for (std::size_t pair = 0; pair < want.size(); ++pair) {
      const std::int64_t distance = golden::ulps(float(table.inv_freq[pair]), want[pair]);
      if (!(double(distance) <= golden::tolerance_ulps(spec, length, pair))) out.equal = false;
      out.within_3 += distance <= 3;
      out.worst = std::max(out.worst, distance);
      ++out.values;
      out.equal_values += distance == 0;
    }
  }
  return out;
}

TEST(RopeConfig, EveryLlamaAndMistralRowOfTransformers) {
  int cases = 0, tables = 0, refused = 0, values = 0, equal_values = 0, within_3 = 0;
  std::int64_t worst = 0;
  for (const Json& one : engines()["cases"]) {
    if (!golden::ours(one)) continue;
    ++cases;
    const std::string id = one["id"].get<std::string>();
    const Json& result = golden::result_of(one, kEngine);
    ASSERT_FALSE(result.is_null()) << id;
    if (result.contains("error")) {
      EXPECT_THROW(read(one["config"]), Error) << id << ": transformers says " << result["error"];
      ++refused;
      continue;
    }
    ++tables;
    try {
      const Comparison got = compare(read(one["config"]), result);
      EXPECT_TRUE(got.equal) << id << ": " << describe(read(one["config"])) << ", worst " << got.worst << " ulp";
      values += got.values;
      equal_values += got.equal_values;
      within_3 += got.within_3;
      worst = std::max(worst, got.worst);
    } catch (const Error& error) {
      ADD_FAILURE() << id << ": " << error.what();
    }
  }
  EXPECT_EQ(cases, 85);
  RecordProperty("tables", tables);
  RecordProperty("refused", refused);
  std::printf("%d cases: %d tables, %d refused as transformers refuses them; of %d frequencies %d are equal in float32, %d within 3 ulp, worst %lld\n", cases, tables,
              refused, values, equal_values, within_3, static_cast<long long>(worst));
}

TEST(RopeConfig, TheComparisonCanFail) {
  int checked = 0;
  for (const Json& one : engines()["cases"]) {
    const Json& result = golden::result_of(one, kEngine);
    if (!golden::ours(one) || result.contains("error")) continue;
    RopeSpec theta = read(one["config"]);
    theta.theta *= 1.0001;
    EXPECT_FALSE(compare(theta, result).equal) << one["id"];
    RopeSpec attention = read(one["config"]);
    attention.attention_factor = rope_table(attention, 1).attention_factor * (1 + 3e-7);
    EXPECT_FALSE(compare(attention, result).equal) << one["id"];
    RopeSpec factor = read(one["config"]);
    if (auto* yarn = std::get_if<RopeYarn>(&factor.scaling)) yarn->factor *= 1.0001;
    else if (auto* linear = std::get_if<RopeLinear>(&factor.scaling)) linear->factor *= 1.0001;
    else continue;
    EXPECT_FALSE(compare(factor, result).equal) << one["id"];
    ++checked;
  }
  EXPECT_GT(checked, 40);
}

/// Every case and engine of the index is tested here or in gguf_rope_test, or stands with a reason in excluded.json as "rope/engine:NAME" or "rope/model_type:NAME".
TEST(RopeConfig, IndexIsCovered) {
  const Json excluded = Json::parse(std::ifstream(ROPEWALK_TEST_DATA_DIR "/excluded.json"));
  const std::set<std::string> tested = {kEngine, "llama.cpp-0.5.0+transformers-5.23.0", "llama.cpp-0.5.0+transformers-4.57.6"};
  std::set<std::string> used;
  const auto stands = [&](const std::string& name) {
    const std::string key = "rope/" + name;
    if (!excluded.contains(key)) return false;
    used.insert(key);
    return !excluded[key].get<std::string>().empty();
  };
  ASSERT_EQ(engines()["cases"].size(), 109u);
  for (const Json& one : engines()["cases"])
    for (const auto& [engine, versions] : engines()["engines"].items()) {
      const bool by_family = !golden::ours(one) && stands("model_type:" + one["config"]["model_type"].get<std::string>());
      const bool by_engine = !tested.count(engine) && stands("engine:" + engine);
      if (by_family || by_engine) continue;
      EXPECT_TRUE(golden::ours(one) && tested.count(engine)) << one["id"] << " of " << engine << " is neither tested nor excluded";
    }
  for (const auto& [key, reason] : excluded.items())
    if (key.rfind("rope/", 0) == 0) {
      EXPECT_TRUE(used.count(key)) << key << " excludes nothing";
    }
}

// ---------------------------------------------------------------------------------------------------------------------------------------

Json llama(const std::string& members) {
  return Json::parse(R"({"model_type":"llama","hidden_size":512,"num_attention_heads":16,"max_position_embeddings":8192,"rope_theta":10000.0)" +
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
  EXPECT_EQ(refusal(llama(R"("rope_scaling":{"rope_type":"linear","factor":"4"})"), ErrorKind::bad_input),
            "config.json:9:15: rope_scaling/factor is \"4\", a number was expected; write it as a number, without quotes");
  EXPECT_NE(refusal(llama(R"("rope_scaling":{"rope_type":"yarn","factor":null,"original_max_position_embeddings":0})"), ErrorKind::bad_input).find("above 0"), std::string::npos);
  refusal(llama(R"("rope_scaling":{"rope_type":"linear","factor":-1})"), ErrorKind::bad_input);
  refusal(llama(R"("rope_scaling":[1])"), ErrorKind::bad_input);
  refusal(llama(R"("rope_scaling":{"rope_type":7})"), ErrorKind::unsupported);
  refusal(llama(R"("rope_scaling":{"rope_type":"longrope","factor":2,"short_factor":[1],"long_factor":[1]})"), ErrorKind::bad_input);
  refusal(llama(R"("rope_scaling":{"rope_type":"yarn","factor":2.0,"original_max_position_embeddings":1e300})"), ErrorKind::bad_input);
  refusal(llama(R"("rope_scaling":{"rope_type":"linear","factor":2.0},"partial_rotary_factor":7)"), ErrorKind::bad_input);
  refusal(llama(R"("layer_types":["full_attention"],"rope_parameters":{"full_attention":{"rope_type":"default"}})"), ErrorKind::unsupported);
  refusal(llama(R"("layer_types":["~2/"],"rope_parameters":{"~2/":{"rope_type":"default"}})"), ErrorKind::unsupported);
  Json config = llama("");
  config["rope_theta"] = -5;
  refusal(config, ErrorKind::bad_input);
  config["rope_theta"] = nullptr;
  refusal(config, ErrorKind::bad_input);
}

TEST(RopeConfig, EveryFieldSaysWhereItCameFrom) {
  const RopeSpec spec = read(llama(R"("original_max_position_embeddings":1024,"rope_scaling":{"type":"yarn","factor":8,"beta_fast":16})"));
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

// Remote code ---------------------------------------------------------------------------------------------------------------------------

Json yarn_mistral() {
  return Json::parse(R"({"model_type":"mistral","hidden_size":512,"num_attention_heads":16,"max_position_embeddings":32768,"rope_theta":10000.0,
    "auto_map":{"AutoConfig":"configuration_mistral.MistralConfig","AutoModelForCausalLM":"modeling_mistral_yarn.MistralForCausalLM"},
    "rope_scaling":{"factor":8.0,"finetuned":true,"original_max_position_embeddings":8192,"type":"yarn"}})");
}

TEST(RopeConfig, LongropeDividesByTheLogarithmOfItsOriginalContext) {
  const auto of = [](int original) {
    Json config = llama(R"("rope_scaling":null)");
    const auto pairs = static_cast<std::size_t>(read(config).rotary_dim / 2);
    const Json list = std::vector<double>(pairs, 1.0);
    config["rope_scaling"] = {{"rope_type", "longrope"}, {"short_factor", list}, {"long_factor", list}, {"factor", 4.0}, {"original_max_position_embeddings", original}};
    return config;
  };
  EXPECT_NEAR(rope_table(read(of(2)), 1).attention_factor, std::sqrt(3.0), 1e-15);  // sqrt(1 + ln 4 / ln 2)
  EXPECT_THROW(read(of(1)), Error);
}

TEST(RopeConfig, YarnMistralsRemoteCode) {
  std::vector<std::string> warnings;
  const RopeTable table = rope_table(read(yarn_mistral(), &warnings), 1);
  // the repository's MistralYaRNScaledRotaryEmbedding run under torch 2.15: d 32, theta 10000, s 8, L 8192; float32, nine digits
  const std::vector<double> want = {1,            0.562341332,   0.316227764,   0.177827939,   0.100000001,    0.0500835218,   0.0247052945,   0.0119478144,
                                    0.00562499976, 0.00254810904, 0.00108703296, 0.000416784256, 0.000125000006, 7.02926627e-05, 3.95284733e-05, 2.22284925e-05};
  for (std::size_t pair = 0; pair < want.size(); ++pair) EXPECT_NEAR(table.inv_freq[pair] / want[pair], 1, 2.5e-7) << pair;
  EXPECT_NEAR(table.attention_factor, 1.1455609079175886, 1e-15);
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_EQ(warnings[0],
            "auto_map names modeling_mistral_yarn.py, which is not run: its rope, YaRN x8 of 8192 (theta 10000, beta 128/2, attention factor 1.1456), is used; "
            "without remote code transformers 5.23.0 would compute YaRN x8 of 8192 (theta 10000, beta 32/1, attention factor 1.2079)");

  Json plain = yarn_mistral();
  plain.erase("auto_map");
  EXPECT_NEAR(rope_table(read(plain), 1).attention_factor, 1.2079441541679836, 1e-15);
}

TEST(RopeConfig, YarnLlamasRemoteCodeAndItsTheta) {
  Json config = llama(R"("rope_scaling":{"type":"yarn","factor":2.0,"original_max_position_embeddings":4096,"finetuned":true})");
  config["rope_theta"] = 500000.0;
  const RopeSpec plain = read(config);
  std::vector<std::string> warnings;
  config["auto_map"] = {{"AutoModelForCausalLM", "NousResearch/Yarn-Llama-2-7b-64k--modeling_llama_together_yarn.LlamaForCausalLM"}};
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
