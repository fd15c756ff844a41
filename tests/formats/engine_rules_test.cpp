#include <gtest/gtest.h>

#include "formats/engines/engine.h"
#include "formats/engines/flags.h"
#include "lib/error.h"
#include "tests/formats/engine_support.h"

// What the goldens do not hold: names of versions, notices, provenance, engines known from their sources, hostile
// files.

namespace ropewalk::formats {
namespace {

std::string refusal(const std::string& engine) {
  try {
    parse_engine(engine);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::usage);
    return error.what();
  }
  ADD_FAILURE() << engine << " is not refused";
  return "";
}

TEST(EngineRules, Versions) {
  EXPECT_EQ(parse_engine("transformers").text, "5.23.0");
  EXPECT_EQ(parse_engine("vllm").title(), "vllm 0.33.0");
  EXPECT_EQ(parse_engine("llama.cpp").text, "0.5.0");
  EXPECT_EQ(parse_engine("transformers@4.46").range().label, "4.45");
  EXPECT_EQ(parse_engine("transformers@v4.51.3").range().label, "4.51");
  EXPECT_EQ(parse_engine("transformers@4.57.6").notice, "");
  EXPECT_EQ(parse_engine("vllm@0.6.6.post1").numbers, (std::vector<int>{0, 6, 6, 1}));
  EXPECT_EQ(parse_engine("vllm@0.9").range().label, "0.8");
  EXPECT_NE(parse_engine("vllm@0.22").notice.find("between 0.20.2 and 0.24.0"), std::string::npos);
  EXPECT_EQ(parse_engine("vllm@0.33").notice, "");
  EXPECT_EQ(parse_engine("transformers@5.24").notice,
            "transformers 5.24 is newer than 5.23.0, the newest whose rules are known: these are used");
  EXPECT_EQ(parse_engine("transformers@6").range().label, "5.1");
  EXPECT_EQ(parse_engine("sglang@0.5.10").range().label, "0.5.4");
  EXPECT_EQ(parse_engine("llama.cpp@2025-02").range().label, "2025-02");
  EXPECT_EQ(parse_engine("llama.cpp@b4700").range().label, "2025-02");
  EXPECT_EQ(parse_engine("llama.cpp@b9000").range().label, "2025-12");
  EXPECT_EQ(parse_engine("llama.cpp@0.5").notice, "");
  EXPECT_EQ(parse_engine("exllamav2@0.3.2").range().label, "0.2");
  EXPECT_EQ(refusal("vlm"),
            "engine 'vlm' is not known, did you mean 'vllm'; known are transformers, vllm, sglang, llama.cpp, "
            "exllamav2, exllamav3");
  EXPECT_EQ(refusal("transformers@4.30"),
            "transformers 4.30 is older than 4.31, the first whose rules are known; see rope --list-engines");
  EXPECT_EQ(refusal("llama.cpp@b100"),
            "llama.cpp b100 is older than 2025-02, the first whose rules are known; see rope --list-engines");
  for (const char* bad : {"", "@", "vllm@", "vllm@new", "vllm@1.-2", "vllm@1.2.3.4.5", "vllm@99999999999999",
                          "llama.cpp@2025-13", "llama.cpp@bx"})
    refusal(bad);
  EXPECT_GE(engine_ranges().size(), 26u);
}

std::string from(const EngineReading& reading, const std::string& field) {
  for (const RopeProvenance& one : reading.ropes.at(0).spec.provenance)
    if (one.field == field) return one.source + one.pointer;
  return "nowhere";
}

bool has_notice(const EngineReading& reading, const std::string& text) {
  for (const EngineNotice& notice : reading.notices)
    if (notice.text.find(text) != std::string::npos) return true;
  return false;
}

TEST(EngineRules, WhereFieldsComeFromAndWhatIsNotRead) {
  const Json& r1 = config_of("yarn-r1-qwen3-attn-factor");
  const EngineReading hf = read_as(parse_engine("transformers@4.57"), r1),
                      vllm = read_as(parse_engine("vllm@0.28"), r1);
  EXPECT_EQ(from(hf, "factor"), "config.json/rope_scaling/factor");
  EXPECT_EQ(from(hf, "theta"), "config.json/rope_theta");
  EXPECT_EQ(from(hf, "beta_fast"), "default of transformers 4.57");
  EXPECT_EQ(from(hf, "original_context"), "config.json/rope_scaling/original_max_position_embeddings");
  EXPECT_TRUE(has_notice(hf, "transformers 4.57 does not read rope_scaling/attn_factor"));
  EXPECT_FALSE(has_notice(vllm, "attn_factor"));
  EXPECT_EQ(from(vllm, "attn_factor"), "config.json/rope_scaling/attn_factor");

  const EngineReading ratio = read_as(parse_engine("transformers@4.51"), config_of("yarn-qwen3-recipe"));
  EXPECT_TRUE(has_notice(
      ratio, "discards the factor 4.0 and takes max_position_embeddings / original_max_position_embeddings = 1.25"));
  const EngineReading top = read_as(parse_engine("transformers@5"), config_of("yarn-original-conflict"));
  EXPECT_EQ(from(top, "original_context"), "config.json/original_max_position_embeddings");
  EXPECT_TRUE(has_notice(top, "does not read rope_scaling/original_max_position_embeddings"));
  EXPECT_TRUE(
      has_notice(read_as(parse_engine("vllm@0.10"), config_of("v5-yarn")), "vllm 0.10 does not read rope_parameters"));
  EXPECT_TRUE(has_notice(read_as(parse_engine("vllm"), config_of("dynamic4-type")), "a dynamic rope is a plain one"));
  EXPECT_TRUE(has_notice(read_as(parse_engine("llama.cpp"), config_of("yarn-beta-128-2")),
                         "llama.rope.scaling.yarn_beta_fast, which the loader of llama.cpp 0.5.0 does not read"));
  EXPECT_TRUE(read_as(parse_engine("transformers"), config_of("plain-llama2")).notices.empty());
}

TEST(EngineRules, ErrorsSayWhere) {
  const EngineReading string = read_as(parse_engine("transformers@4.57"), config_of("yarn-string"));
  ASSERT_TRUE(string.error);
  EXPECT_EQ(string.error->kind + ": " + string.error->text,
            "TypeError: '<=' not supported between instances of 'str' and 'int'");
  EXPECT_EQ(string.error->pointer, "/rope_scaling/factor");
  const EngineReading missing = read_as(parse_engine("vllm@0.12"), config_of("yarn-no-original"));
  ASSERT_TRUE(missing.context_error);
  EXPECT_EQ(missing.context_error->kind, "KeyError");
  EXPECT_FALSE(missing.starts());
}

TEST(EngineRules, TheContextAskedFor) {
  EngineOptions options;
  options.context = 32768;
  EXPECT_EQ(read_as(parse_engine("vllm"), config_of("yarn-mistral-7b-64k"), options).context, 32768);
  options.context = 65536;  // from 0.31 vllm serves no more than max_position_embeddings
  EXPECT_TRUE(read_as(parse_engine("vllm"), config_of("yarn-mistral-7b-64k"), options).context_error);
  EXPECT_EQ(read_as(parse_engine("vllm@0.24"), config_of("yarn-mistral-7b-64k"), options).context, 65536);
  options = {};
  options.tokenizer_limit = 2048;
  EXPECT_EQ(read_as(parse_engine("vllm"), config_of("plain-llama2"), options).context, 2048);
  EXPECT_EQ(read_as(parse_engine("vllm@0.24"), config_of("yarn-mistral-7b-64k"), options).context,
            65536);  // yarn starts over from the original context
}

TEST(EngineRules, NestedAndAbsentRopes) {
  const Json config = Json::parse(
      R"({"model_type":"a_layered_one","hidden_size":512,"num_attention_heads":16,"max_position_embeddings":8192,"layer_types":["full_attention","sliding_attention","full_attention"],
    "rope_parameters":{"full_attention":{"rope_type":"yarn","factor":4.0,"original_max_position_embeddings":2048,"rope_theta":1e6,"truncate":false},"sliding_attention":null,"truncate":true}})");
  const EngineReading reading = read_as(parse_engine("transformers"), config);
  ASSERT_EQ(reading.ropes.size(), 1u);
  EXPECT_EQ(reading.ropes[0].layer_type, "full_attention");
  EXPECT_TRUE(
      std::get<RopeYarn>(reading.ropes[0].spec.scaling).truncate);  // read beside the layer types, not inside them
  EXPECT_EQ(read_as(parse_engine("transformers@5.0.0"), config).error->kind, "KeyError");
}

// Engines known from their sources: their formulas are those of a transformers release with other inputs, whose numbers

void expect_table(const EngineReading& reading, const std::string& id, const std::string& engine) {
  ASSERT_FALSE(reading.error) << reading.error->text;
  const Json& row = result_of(id, engine)["layers"]["all"][0];
  const std::vector<float> want = golden::vector_of(row["inv_freq"].get<std::string>());
  const EngineTable got = engine_table(reading.ropes.at(0), 1);
  ASSERT_EQ(got.inv_freq.size(), want.size());
  for (std::size_t pair = 0; pair < want.size(); ++pair)
    EXPECT_LE(golden::ulps(got.inv_freq[pair], want[pair]), 3) << pair;
  EXPECT_EQ(got.attention_factor, golden::from_hex(row["a"].get<std::string>()));
}

TEST(EngineRules, ExLlamaV2FromItsSource) {
  const EngineVersion engine = parse_engine("exllamav2");
  // yarn over max_seq_len: what transformers up to 4.50 computes
  expect_table(read_as(engine, config_of("yarn-original-extended")), "yarn-original-extended", "transformers-4.50.3");
  expect_table(read_as(engine, config_of("yarn-llama2-7b-64k")), "yarn-llama2-7b-64k", "transformers-4.50.3");
  // no longer than the original context: off
  expect_table(read_as(engine, config_of("yarn-qwen25-recipe")), "plain-qwen2", "transformers-5.23.0");
  EngineOptions longer;
  longer.context = 131072;
  expect_table(read_as(engine, config_of("yarn-qwen25-recipe"), longer), "yarn-qwen25-recipe-extended",
               "transformers-4.50.3");
  expect_table(read_as(engine, config_of("llama3-31-8b")), "llama3-31-8b", "transformers-5.23.0");
  const EngineReading linear = read_as(engine, config_of("linear4-rope-type"));
  expect_table(linear, "plain-llama2", "transformers-5.23.0");
  EXPECT_EQ(linear.ropes[0].position_divisor, 4);
  EXPECT_EQ(read_as(engine, config_of("bad-conflict")).error->kind, "AssertionError");
  EXPECT_TRUE(has_notice(read_as(engine, config_of("dynamic4-type")), "does not know rope type 'dynamic'"));
  EXPECT_TRUE(has_notice(linear, "was not run"));
  // 1 when short
  EngineOptions shorter;
  shorter.context = 4096;
  EXPECT_EQ(read_as(engine, config_of("longrope-phi3"), shorter).ropes[0].spec.attention_factor, 1);
  EXPECT_EQ(read_as(engine, config_of("yarn-mistral-7b-128k")).context, 131072);  // max_sequence_length first
}

TEST(EngineRules, ExLlamaV3FromItsSource) {
  const EngineVersion engine = parse_engine("exllamav3");
  // the ratio for the factor: what transformers 4.51 to 4.55 computes
  expect_table(read_as(engine, config_of("yarn-qwen3-recipe")), "yarn-qwen3-recipe", "transformers-4.55.4");
  expect_table(read_as(engine, config_of("yarn-mistral-7b-128k")), "yarn-mistral-7b-128k", "transformers-4.51.3");
  expect_table(read_as(engine, config_of("yarn-truncate-false")), "yarn-truncate-false", "transformers-4.55.4");
  EXPECT_NEAR(*read_as(engine, config_of("yarn-mscale-equal")).ropes[0].spec.attention_factor, 1.138629436111989,
              1e-15);  // mscale is DeepSeek's only
  expect_table(read_as(engine, config_of("v5-linear")), "v5-linear", "transformers-5.23.0");
  expect_table(read_as(engine, config_of("v5-proportional")), "v5-proportional", "transformers-5.23.0");
  EXPECT_EQ(read_as(engine, config_of("dynamic4-type")).error->text, "Unknown rope_type: dynamic");
  EXPECT_EQ(read_as(engine, config_of("v4-gemma3")).ropes.size(), 2u);
  // rope_scaling before rope_parameters, theta at the top level before that inside
  EXPECT_EQ(read_as(engine, config_of("v5-both-dialects")).ropes[0].spec.theta, 10000);
}

TEST(EngineRules, LlamaCppOf2025FromItsSource) {
  const EngineVersion engine = parse_engine("llama.cpp@2025-02");
  const auto like = [&](const std::string& id, const std::string& other) {
    const EngineReading reading = read_as(engine, config_of(id));
    ASSERT_FALSE(reading.error) << id << reading.error->text;
    const EngineReading now = read_as(parse_engine("llama.cpp"), config_of(other));
    const RopeTable got = rope_table(reading.ropes[0].spec, 1), want = rope_table(now.ropes[0].spec, 1);
    EXPECT_EQ(got.inv_freq, want.inv_freq) << id;
    EXPECT_NEAR(got.attention_factor, want.attention_factor, 1e-7) << id;
  };
  like("linear4-type", "linear4-type");
  like("linear4-rope-type", "plain-llama2");   // only `type` is read
  like("yarn-llama2-7b-64k", "plain-llama2");  // dropped without a word
  like("yarn-qwen25-recipe", "yarn-qwen25-recipe");
  like("llama3-31-8b", "llama3-31-8b");
  like("v5-yarn", "plain-llama2");  // neither rope_parameters nor theta in it
  like("longrope-phi3", "longrope-phi3");
  EXPECT_EQ(read_as(engine, config_of("yarn-qwen3-recipe")).error->kind, "NotImplementedError");
}

/// math.log and math.floor of find_correction_range. transformers 5.23.0 and 4.57.6 were run; vllm, sglang and exllamav3
/// have the same function.
TEST(EngineRules, BetasThatNoLogarithmTakes) {
  struct Case {
    const char* key;
    double beta;
    bool truncate;
    const char* kind;
  };
  for (const Case& one : {Case{"beta_fast", -3, true, "ValueError"}, Case{"beta_slow", -3, false, "ValueError"},
                          Case{"beta_fast", 1e308, true, "ValueError"}, Case{"beta_slow", 1e308, false, "ValueError"},
                          Case{"beta_fast", 5e-324, true, "OverflowError"}, Case{"beta_fast", 1e307, true, ""}}) {
    Json config = config_of("yarn-everywhere");
    config["rope_scaling"][one.key] = one.beta;
    config["rope_scaling"]["truncate"] = one.truncate;
    for (const char* engine : {"transformers@5.23.0", "transformers@4.57.6", "vllm", "sglang", "exllamav3"}) {
      const EngineReading reading = read_as(parse_engine(engine), config);
      EXPECT_EQ(reading.error ? reading.error->kind : "", one.kind) << engine << " " << one.key << " " << one.beta;
    }
  }
}

/// 5.23.0, run: None at the top level is passed over, but by Phi3Config; 4.57.6 multiplies by it.
TEST(EngineRules, APartialRotaryFactorOfNull) {
  Json config = config_of("yarn-everywhere");
  config["partial_rotary_factor"] = nullptr;
  const EngineReading now = read_as(parse_engine("transformers@5.23.0"), config);
  ASSERT_FALSE(now.error);
  EXPECT_EQ(now.ropes.at(0).spec.rotary_dim, 128);
  EXPECT_EQ(read_as(parse_engine("transformers@4.57.6"), config).error->kind, "TypeError");
  Json phi3 = config_of("longrope-phi3");
  phi3["partial_rotary_factor"] = nullptr;
  EXPECT_TRUE(read_as(parse_engine("transformers@5.23.0"), phi3).error);
}

/// A head of a million channels would take engine_flags, which tries hundreds of candidates, most of a minute.
TEST(EngineRules, HeadsThatNoModelHasAreNotFollowed) {
  Json config = config_of("yarn-everywhere");
  for (const int head_dim : {1000000, 65538}) {
    config["head_dim"] = head_dim;
    for (const char* engine : {"transformers", "vllm", "sglang", "llama.cpp", "exllamav3"}) {
      const EngineReading reading = read_as(parse_engine(engine), config);
      ASSERT_TRUE(reading.error) << engine << head_dim;
      EXPECT_EQ(reading.error->kind, kNotFollowed) << engine;
    }
  }
  config["head_dim"] = 65536;
  EXPECT_FALSE(read_as(parse_engine("transformers"), config).error);
}

/// Whatever stands in a file, reading it ends in a rope or in an error.
TEST(EngineRules, HostileFiles) {
  std::vector<EngineVersion> versions;
  for (const EngineRange& range : engine_ranges())
    versions.push_back(parse_engine(std::string(engine_name(range.engine)) + "@" + std::string(range.newest)));
  int read = 0, refused = 0;
  const auto all = [&](const Json& config) {
    for (const EngineVersion& version : versions) {
      const EngineReading reading = read_as(version, config);
      EXPECT_EQ(reading.ropes.empty(), bool(reading.error));
      for (const EngineRope& rope : reading.ropes) {
        const EngineTable table = engine_table(rope, 5000);
        EXPECT_EQ(table.inv_freq.size(), rope_table(rope.spec, 5000).inv_freq.size());
        engine_rotation(rope, 5000, 4999);
      }
      (reading.error ? refused : read) += 1;
    }
  };
  for (const char* id :
       {"yarn-everywhere", "dynamic4-original", "llama3-31-8b", "longrope-phi3", "longrope-llama-factor",
        "v5-gemma3-nested", "v5-proportional", "yarn-gpt-oss", "yarn-mscale-ratio"}) {
    const Json& config = config_of(id);
    std::vector<std::string> pointers;
    for (const char* key :
         {"hidden_size", "num_attention_heads", "head_dim", "max_position_embeddings", "rope_theta",
          "partial_rotary_factor", "original_max_position_embeddings", "rope_scaling", "rope_parameters", "model_type",
          "layer_types", "rope_local_base_freq", "max_sequence_length"})
      pointers.push_back(std::string("/") + key);
    for (const char* key : {"rope_scaling", "rope_parameters"})
      if (config.contains(key))
        for (const auto& item : config[key].items()) {
          const std::string outer = std::string("/") + key + "/" + item.key();
          pointers.push_back(outer);
          if (item.value().is_object())
            for (const auto& inner : item.value().items()) pointers.push_back(outer + "/" + inner.key());
        }
    for (const char* key :
         {"attention_factor", "attn_factor", "beta_fast", "beta_slow", "truncate", "mixed_b", "alpha", "mrope_section"})
      if (config.contains("rope_scaling")) pointers.push_back(std::string("/rope_scaling/") + key);
    for (const std::string& pointer : pointers) {
      Json changed = config;
      const Json::json_pointer at(pointer);
      for (const Json& value : golden::hostile_values()) {
        changed[at] = value;
        all(changed);
      }
    }
  }
  for (const Json& value : golden::hostile_values()) all(value);
  EXPECT_GT(read, 10000);
  EXPECT_GT(refused, 10000);
}

/// short_mscale and long_mscale of a longrope are the factors of its two lists: what sglang 0.5.10's class, run by itself,
/// has in its cache at position 0 (cos 0 = 1 times the factor); vLLM's class is the same (phi3_long_rope_scaled_rope.py).
TEST(EngineRules, FactorsOfLongropesLists) {
  const auto read = [](const char* engine, const Json& more, const EngineOptions& options = {}) {
    Json config = {{"model_type", "llama"},
                   {"hidden_size", 256},
                   {"num_attention_heads", 8},
                   {"num_hidden_layers", 2},
                   {"max_position_embeddings", 8192},
                   {"rope_scaling",
                    {{"rope_type", "longrope"},
                     {"original_max_position_embeddings", 4096},
                     {"factor", 2.0},
                     {"short_factor", std::vector<double>(16, 1)},
                     {"long_factor", std::vector<double>(16, 2)}}}};
    config["rope_scaling"].update(more);
    return read_as(parse_engine(engine), config, options);
  };
  const Json alike = {{"short_mscale", 1.25}, {"long_mscale", 1.25}},
             apart = {{"short_mscale", 1.0}, {"long_mscale", 1.25}};
  for (const char* engine : {"vllm@0.6.6.post1", "vllm@0.24", "vllm", "sglang@0.5.3", "sglang"}) {
    EXPECT_EQ(read(engine, alike).ropes.at(0).spec.attention_factor, 1.25) << engine;
    EXPECT_NEAR(*read(engine, Json::object()).ropes.at(0).spec.attention_factor, 1.0408329997330663, 1e-12) << engine;
  }
  EXPECT_EQ(read("vllm", apart).ropes.at(0).spec.attention_factor, 1.25) << "8192 tokens by default: the long list";
  EngineOptions shorter;
  shorter.context = 4096;
  EXPECT_EQ(read("vllm", apart, shorter).ropes.at(0).spec.attention_factor, 1.0);
  EXPECT_EQ(read("sglang", apart).error->kind, kNotFollowed) << "a factor for each list";
  EXPECT_NE(read("transformers", alike).ropes.at(0).spec.attention_factor, 1.25) << "it does not read them";
}

}  // namespace
}  // namespace ropewalk::formats
