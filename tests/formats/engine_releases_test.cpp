// What a release lacks: classes that came later, and rotary embeddings that it cannot build. Expected: transformers 4.57.6 and
// 5.23.0 themselves (tests/golden/model_types.json by make/model_types.py; other numbers as the tests say).
#include <gtest/gtest.h>

#include <filesystem>
#include <iterator>
#include <set>
#include <sstream>

#include "lib/file.h"
#include "tests/formats/engine_support.h"

namespace ropewalk::formats {
namespace {

const Json& golden_types() {
  static const Json all =
      Json::parse(read_text_file(std::filesystem::path(ROPEWALK_TEST_DATA_DIR) / "model_types.json", 1 << 20));
  return all;
}
std::set<std::string> types_of(const char* release) {
  std::istringstream names(golden_types()["names"][release].get<std::string>());
  return {std::istream_iterator<std::string>(names), {}};
}
Json silent(const std::string& type) {
  return {{"model_type", type}, {"hidden_size", 768}, {"num_attention_heads", 8}};
}
/// "KIND: TEXT", "" without an error.
std::string error_of(const char* engine, const Json& config) {
  const EngineReading reading = read_as(parse_engine(engine), config);
  return reading.error ? reading.error->kind + ": " + reading.error->text : "";
}
bool has_no_class(const char* engine, const std::string& type) {
  return error_of(engine, silent(type)) == "ValueError: The checkpoint you are trying to load has model type `" + type +
                                               "` but Transformers does not recognize this architecture";
}

TEST(EngineReleases, ClassesThatCameLater) {
  const std::set<std::string> then = types_of("4.57.6"), now = types_of("5.23.0");
  ASSERT_EQ(now.size(), 804u);
  ASSERT_EQ(then.size(), 421u);
  std::size_t later = 0;
  for (const std::string& type : now) {
    EXPECT_EQ(has_no_class("transformers@4.57.6", type), !then.contains(type)) << type;
    EXPECT_FALSE(has_no_class("transformers@5.23.0", type)) << type;
    later += !then.contains(type);
  }
  EXPECT_EQ(later, 407u);
  EXPECT_EQ(error_of("transformers@4.31", silent("glm_moe_dsa")), "KeyError: 'glm_moe_dsa'");
  for (const std::string& type : then) EXPECT_FALSE(has_no_class("transformers@4.57.6", type)) << type;
}

/// AutoConfig looks up the type of the whole file, and where auto_map names code that may be run instead.
TEST(EngineReleases, WhoseTypeIsAsked) {
  const Json part = silent("qwen3_5_text");
  EXPECT_NE(error_of("transformers@4.57.6", {{"model_type", "qwen3_5"}, {"text_config", part}}), "");
  const Json known = {{"model_type", "llava"}, {"text_config", part}};
  EXPECT_EQ(error_of("transformers@4.57.6", known).find("does not recognize"), std::string::npos);
  Json mapped = silent("glm_moe_dsa");
  mapped["auto_map"] = {{"AutoModelForCausalLM", "modeling_glm.Glm"}};
  EXPECT_EQ(error_of("transformers@4.57.6", mapped), "");
  // the converter of llama.cpp goes on with the file itself
  const EngineReading converted = read_as(parse_engine("llama.cpp"), silent("glm_moe_dsa"));
  EXPECT_NE(Json(converted.error ? converted.error->kind : "").dump(), "\"ValueError\"");
}

TEST(EngineReleases, RotaryEmbeddingsThatCannotBeBuilt) {
  std::size_t raised = 0;
  for (const auto& [release, types] : golden_types()["raises"].items())
    for (const auto& [type, text] : types.items()) {
      const std::string engine = "transformers@" + release, got = error_of(engine.c_str(), silent(type));
      if (got.starts_with(kNotFollowed)) continue;
      EXPECT_EQ(got, text.get<std::string>()) << type << " in " << release;
      ++raised;
    }
  EXPECT_EQ(raised, 2u);  // Qwen3-VL's two, which ask for mrope_section
  Json sections = silent("qwen3_vl_text");
  sections["rope_scaling"] = {{"rope_type", "default"}, {"mrope_section", {24, 20, 20}}};
  const EngineReading reading = read_as(parse_engine("transformers@4.57.6"), sections);
  ASSERT_FALSE(reading.error) << reading.error->text;
  EXPECT_FLOAT_EQ(engine_table(reading.ropes.at(0), 1).inv_freq.at(63), 2.5450796670156706e-07f);
  EXPECT_EQ(error_of("transformers@4.57.6", {{"model_type", "qwen3_vl"}, {"text_config", silent("qwen3_vl_text")}}),
            "AttributeError: 'NoneType' object has no attribute 'get'");
}

// Expected: inv_freq of Olmo3Model's rotary_embs (4.57.6) and rotary_emb (5.23.0).
TEST(EngineReleases, Olmo3ScalesItsFullLayersInBoth) {
  const Json config = {
      {"model_type", "olmo3"},
      {"hidden_size", 4096},
      {"num_attention_heads", 32},
      {"num_hidden_layers", 4},
      {"max_position_embeddings", 65536},
      {"rope_theta", 500000},
      {"layer_types", {"sliding_attention", "sliding_attention", "sliding_attention", "full_attention"}},
      {"rope_scaling",
       {{"rope_type", "yarn"},
        {"factor", 8.0},
        {"original_max_position_embeddings", 8192},
        {"attention_factor", 1.2079441541679836}}}};
  for (const char* engine : {"transformers@4.57.6", "transformers@5.23.0"}) {
    const EngineReading reading = read_as(parse_engine(engine), config);
    ASSERT_FALSE(reading.error) << engine << reading.error->text;
    ASSERT_EQ(reading.ropes.size(), 2u) << engine;
    for (const EngineRope& rope : reading.ropes) {
      const bool full = rope.layer_type == "full_attention";
      const EngineTable table = engine_table(rope, 65536);
      EXPECT_LE(golden::ulps(table.inv_freq.at(20), full ? 0.01485569030046463f : 0.016560440883040428f), 3) << engine;
      EXPECT_LE(golden::ulps(table.inv_freq.at(32), full ? 0.00039514785748906434f : 0.001414213445968926f), 3);
      EXPECT_LE(golden::ulps(table.inv_freq.at(63), full ? 3.068925877869333e-07f : 2.4551407022954663e-06f), 3);
      EXPECT_FLOAT_EQ(table.attention_factor, full ? 1.2079441541679836f : 1.0f);
    }
  }
  EXPECT_TRUE(has_no_class("transformers@4.56.2", "olmo3"));
}

// Expected: what AutoConfig and the rotary embeddings of 4.57.6 and 5.23.0 raise for these files, or run.
TEST(EngineReleases, Gemma3AndOlmo3ReadTheDictionaryAsItStands) {
  for (const char* type : {"gemma3_text", "olmo3"}) {
    const auto with = [&](const char* key, const Json& value) {
      Json config = plain_of(type);
      config["num_hidden_layers"] = 2, config["layer_types"] = {"sliding_attention", "full_attention"};
      config[key] = value;
      return config;
    };
    const auto raised = [&](const char* engine, const Json& dict) {
      return error_of(engine, with("rope_scaling", dict));
    };
    EXPECT_EQ(raised("transformers@4.57.6", {{"type", "linear"}, {"factor", 4.0}}),
              "KeyError: Missing required keys in `rope_scaling` for 'rope_type'='linear': {'rope_type'}");
    EXPECT_EQ(raised("transformers@4.57.6", {{"type", "default"}}),
              "KeyError: Missing required keys in `rope_scaling` for 'rope_type'='default': {'rope_type'}");
    EXPECT_EQ(raised("transformers@4.57.6", {{"type", "su"}, {"factor", 4.0}}), "KeyError: 'su'");
    EXPECT_EQ(raised("transformers@4.57.6", 5), "AttributeError: 'int' object has no attribute 'get'");
    EXPECT_EQ(raised("transformers@5.23.0", 5), "TypeError: 'int' object is not iterable");
    EXPECT_EQ(raised("transformers@5.23.0", {1, 2}),
              "TypeError: cannot convert dictionary update sequence element #0 to a sequence");
    EXPECT_EQ(raised("transformers@5.23.0", "yarn"),
              "ValueError: dictionary update sequence element #0 has length 1; 2 is required");
    for (const char* engine : {"transformers@4.57.6", "transformers@5.23.0"}) {
      const Json twice = {{"type", "linear"}, {"rope_type", "yarn"}, {"factor", 4.0}};
      const EngineReading reading = read_as(parse_engine(engine), with("rope_scaling", twice));
      ASSERT_FALSE(reading.error) << type << reading.error->text;
      for (const EngineRope& rope : reading.ropes)
        EXPECT_NEAR(rope.spec.attention_factor.value_or(1), rope.layer_type == "full_attention" ? 1.138629436111989 : 1,
                    1e-12)
            << type << engine;
    }
  }
}

// Expected: AutoConfig of 5.23.0, also where a rope_scaling takes the field's place.
TEST(EngineReleases, RopeParametersIsADictionaryOrNone) {
  for (const char* type : {"llama", "mistral", "qwen3", "phi3", "gpt_oss", "gemma3_text", "olmo3"})
    for (const Json& bad : {Json("yarn"), Json(""), Json(5), Json(0), Json(false), Json::array(), Json::array({1, 2})})
      for (const Json& scaling : {Json(), Json{{"rope_type", "linear"}, {"factor", 4.0}}}) {
        Json config = plain_of(type);
        config["rope_parameters"] = bad, config["rope_scaling"] = scaling;
        const std::string want = "StrictDataclassFieldValidationError: Validation error for field 'rope_parameters'";
        if (type == std::string("phi3") && !scaling.is_null()) continue;  // its rope is refused besides
        EXPECT_EQ(error_of("transformers@5.23.0", config).substr(0, want.size()), want) << type << bad;
      }
  for (const char* type : {"llama", "gemma3_text"}) {  // negative control
    Json config = plain_of(type);
    config["rope_parameters"] = nullptr;
    EXPECT_EQ(error_of("transformers@5.23.0", config), "") << type;
  }
}

// Expected: AutoConfig of 4.57.6, whose validation divides by the original context; Mistral has no validation.
TEST(EngineReleases, AnOriginalContextOfZero) {
  for (const char* type : {"llama", "qwen3", "gpt_oss", "mistral"})
    for (const Json& zero : {Json(0), Json(0.0), Json(false)}) {
      Json config = plain_of(type);
      config["head_dim"] = 128;
      config["rope_scaling"] = {{"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", zero}};
      const char* want = type == std::string("mistral") ? ""
                         : zero.is_number_float()       ? "ZeroDivisionError: float division by zero"
                                                        : "ZeroDivisionError: division by zero";
      EXPECT_EQ(error_of("transformers@4.57.6", config), want) << type << zero;
    }
}

// 4.57.6 and 5.23.0 compute with integers of any size; ropewalk has no rule for these, and does not say that they stop.
TEST(EngineReleases, LengthsPastTheSignedAreNoNegativeOnes) {
  Json config = plain_of("llama");
  config["rope_scaling"] = {{"rope_type", "yarn"}, {"factor", 4.0}};
  config["max_position_embeddings"] = std::uint64_t(1) << 63;
  for (const char* engine : {"transformers@4.57.6", "transformers@5.23.0"})
    EXPECT_EQ(error_of(engine, config).substr(0, 13), "not followed:") << engine;
  config["max_position_embeddings"] = -1;  // negative control
  EXPECT_EQ(error_of("transformers@4.57.6", config), "ValueError: math domain error");
}

// Expected: AutoConfig and LlamaRotaryEmbedding of both releases on a Llama of 64 pairs and these numbers of
// max_position_embeddings: pair 32, or what they raise.
TEST(EngineReleases, LengthsThatNothingIsComputedFrom) {
  struct Case {
    const char* rope;
    double pair;  // 0: they raise
    const char *v4, *v5;
  };
  const Case cases[] = {{"null", 0.009999999776482582, "", ""},
                        {R"({"rope_type": "linear", "factor": 2.0})", 0.004999999888241291, "", ""},
                        {R"({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096})",
                         0.006538461893796921, "", ""},
                        {R"({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
           "original_max_position_embeddings": 8192})",
                         0.009999999776482582, "", ""},
                        {R"({"rope_type": "dynamic", "factor": 4.0})", 0, "ZeroDivisionError: float division by zero",
                         "ZeroDivisionError: float division by zero"},
                        {R"({"rope_type": "yarn", "factor": 4.0})", 0, "ValueError: math domain error",
                         "ZeroDivisionError: division by zero"}};
  for (const Case& one : cases)
    for (const bool v5 : {false, true}) {
      const char* engine = v5 ? "transformers@5.23.0" : "transformers@4.57.6";
      Json config = plain_of("llama");
      config["rope_scaling"] = Json::parse(one.rope);
      for (const std::int64_t length : {std::int64_t{0}, std::int64_t{-5}, std::int64_t{1} << 40}) {
        config["max_position_embeddings"] = length;
        if (one.pair == 0) {
          if (length != 0) continue;
          EXPECT_EQ(error_of(engine, config), v5 ? one.v5 : one.v4) << one.rope;
          continue;
        }
        const EngineReading reading = read_as(parse_engine(engine), config);
        ASSERT_FALSE(reading.error) << engine << one.rope << length << reading.error->text;
        EXPECT_LE(golden::ulps(engine_table(reading.ropes.at(0), 1).inv_freq.at(32), float(one.pair)), 3) << one.rope;
        EXPECT_EQ(reading.context, length > 0 ? 2147483647 : 0);
        EXPECT_EQ(reading.notices.size(), std::size_t(length > 0)) << engine << one.rope;
      }
    }
  // a whole number past 64 bits runs as well, and one with a point is refused: the parser keeps no difference
  Json config = plain_of("llama");
  config["max_position_embeddings"] = 1e308;
  EXPECT_EQ(read_as(parse_engine("transformers"), config).error.value_or(EngineError{}).kind, kNotFollowed);
}

// Expected: both releases, on the same Llama: bases of 1e308 and 1e39 leave 1 for pair 0 and 0 for the rest, 1e-300 and a
// linear factor of 1e-308 make infinities, a factor of 1e308 zeros; 1e38 makes 3.92e-38 of the last pair and is read.
TEST(EngineReleases, FrequenciesThatFloat32DoesNotHold) {
  for (const EngineVersion& engine : newest_engines())
    for (const char* patch : {R"({"rope_theta": 1e308})", R"({"rope_theta": 1e39})", R"({"rope_theta": 1e-300})",
                              R"({"rope_scaling": {"rope_type": "linear", "type": "linear", "factor": 1e-308}})",
                              R"({"rope_scaling": {"rope_type": "linear", "type": "linear", "factor": 1e308}})"}) {
      Json config = plain_of("llama");
      config.merge_patch(Json::parse(patch));
      const EngineReading reading = read_as(engine, config);
      const bool plain = !reading.ropes.empty() &&
                         std::holds_alternative<RopeUnscaled>(reading.ropes[0].spec.scaling) &&
                         reading.ropes[0].spec.theta == 10000;  // exllamav2 takes type alone
      EXPECT_TRUE(reading.error || plain) << engine.title() << patch;
    }
  Json config = plain_of("llama");
  config["rope_theta"] = 1e38;
  for (const char* engine : {"transformers@4.57.6", "transformers@5.23.0"}) {
    const EngineReading reading = read_as(parse_engine(engine), config);
    ASSERT_FALSE(reading.error) << engine << reading.error->text;
    EXPECT_LE(golden::ulps(engine_table(reading.ropes.at(0), 1).inv_freq.at(63), 3.924189773522282e-38f), 3);
  }
}

}  // namespace
}  // namespace ropewalk::formats
