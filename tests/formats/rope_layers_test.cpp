#include "formats/rope_layers.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "lib/error.h"

// A rope for each kind of layer, written and read by each engine's rule (which tests/formats/engines_test.cpp holds
// against the engines: the cases v4-gemma3 and v5-gemma3-nested of tests/golden/rope). Wanted numbers are computed here.

namespace ropewalk::formats {
namespace {

/// Gemma 3 4B's text model as transformers 4 wrote it.
Json gemma3() {
  Json types = Json::array();
  for (int layer = 0; layer < 34; ++layer) types.push_back(layer % 6 == 5 ? "full_attention" : "sliding_attention");
  return {{"model_type", "gemma3_text"},
          {"hidden_size", 2560},
          {"num_attention_heads", 8},
          {"num_key_value_heads", 4},
          {"num_hidden_layers", 34},
          {"head_dim", 256},
          {"max_position_embeddings", 131072},
          {"rope_theta", 1000000.0},
          {"rope_local_base_freq", 10000.0},
          {"rope_scaling", {{"rope_type", "linear"}, {"factor", 8.0}}},
          {"sliding_window", 1024},
          {"layer_types", types}};
}
/// The same as transformers 5 writes it.
Json gemma3_nested() {
  Json config = gemma3();
  for (const char* key : {"rope_theta", "rope_local_base_freq", "rope_scaling"}) config.erase(key);
  config["rope_parameters"] = {
      {"full_attention", {{"rope_type", "linear"}, {"factor", 8.0}, {"rope_theta", 1000000.0}}},
      {"sliding_attention", {{"rope_type", "default"}, {"rope_theta", 10000.0}}}};
  return config;
}

WantedRope asked(const Json& config, const std::string& spec) {
  const auto before = layer_ropes(config, spec);
  if (!before) throw std::runtime_error("one rope: " + config.dump());
  return parse_layer_ropes(spec, *before, config);
}

EmittedRope emitted(const Json& config, const std::string& spec, const std::vector<std::string>& engines) {
  std::vector<EngineVersion> versions;
  for (const std::string& engine : engines) versions.push_back(parse_engine(engine));
  return emit_layer_ropes(config, asked(config, spec), versions);
}

std::string refused(const Json& config, const std::string& spec, const std::vector<std::string>& engines,
                    ErrorKind kind = ErrorKind::unsupported) {
  try {
    return "written: " + emitted(config, spec, engines).config.dump();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    return error.what();
  }
}

double plain(int pair, double theta) { return std::pow(theta, -2.0 * pair / 256); }
/// arXiv:2309.00071 with 32/1, rounded ends.
double yarn(int pair, double s, double original, double theta) {
  const auto dim = [&](double turns) {
    return 256 * std::log(original / (turns * 2 * std::numbers::pi)) / (2 * std::log(theta));
  };
  const double low = std::floor(dim(32)), high = std::ceil(dim(1));
  const double share = std::clamp((pair - low) / (high - low), 0.0, 1.0);
  return plain(pair, theta) / s * share + plain(pair, theta) * (1 - share);
}

void expect_layer(const EngineReading& reading, const std::string& kind, double (*wanted)(int), double attention) {
  for (const EngineRope& rope : reading.ropes) {
    if (rope.layer_type != kind) continue;
    const EngineTable table = engine_table(rope, 262144);
    ASSERT_EQ(table.inv_freq.size(), 128u);
    for (int pair = 0; pair < 128; ++pair)  // float32 evaluations: 4 roundings, a share of f that counts s = 8 times
      EXPECT_NEAR(table.inv_freq[std::size_t(pair)] / rope.position_divisor / wanted(pair), 1, (4 + 8) * 0x1p-24)
          << reading.engine.title() << " " << kind << " pair " << pair;
    EXPECT_FLOAT_EQ(table.attention_factor, float(attention));
    return;
  }
  ADD_FAILURE() << reading.engine.title() << " has no " << kind;
}

TEST(RopeLayers, AreReadFromBothDialects) {
  for (const Json& config : {gemma3(), gemma3_nested()}) {
    const auto ropes = layer_ropes(config);
    ASSERT_TRUE(ropes);
    EXPECT_EQ(describe(*ropes),
              "full_attention linear x8 (theta 1000000, attention factor 1) and sliding_attention plain (theta 10000, "
              "attention factor 1)");
    EXPECT_EQ(ropes->context, 131072);
  }
  Json llama = gemma3();
  llama["model_type"] = "llama";
  EXPECT_FALSE(layer_ropes(llama)) << "one rope for all";
  EXPECT_FALSE(layer_ropes(Json::array()));
}

TEST(RopeLayers, OneSpecIsForTheLayersThatSeeEverything) {
  for (const Json& config : {gemma3(), gemma3_nested()})
    for (const std::string engine : {"transformers@4.57", "transformers", "vllm", "sglang", "llama.cpp", "exllamav3"}) {
      const EmittedRope out = emitted(config, "yarn,factor=8,original=32k", {engine});
      ASSERT_EQ(out.verdicts.size(), 1u);
      EXPECT_EQ(out.verdicts[0].difference, "") << engine;
      const EngineReading read = read_as(parse_engine(engine), out.config);
      EXPECT_EQ(read.context, 262144) << engine;
      if (engine == "llama.cpp") continue;  // its table is in its own float32 order; the verdict above compared it
      expect_layer(
          read, "full_attention", [](int pair) { return yarn(pair, 8, 32768, 1e6); }, 0.1 * std::log(8) + 1);
      expect_layer(
          read, "sliding_attention", [](int pair) { return plain(pair, 1e4); }, 1);
      EXPECT_EQ(out.config["sliding_window"], 1024) << "what is not about the rope stays";
    }
}

TEST(RopeLayers, EachKindHasItsOwn) {
  const std::string spec =
      R"({"full_attention": {"rope_type": "yarn", "factor": 8.0, "original": 32768, "rope_theta": 5e6},
          "sliding_attention": {"rope_type": "default", "rope_theta": 20000.0, "to": 262144}})";
  const EmittedRope out = emitted(gemma3(), spec, {"transformers", "transformers@4.57"});
  EXPECT_EQ(out.config["rope_local_base_freq"], 20000.0);
  for (const std::string engine : {"transformers", "transformers@4.57"}) {
    const EngineReading read = read_as(parse_engine(engine), out.config);
    expect_layer(
        read, "full_attention", [](int pair) { return yarn(pair, 8, 32768, 5e6); }, 0.1 * std::log(8) + 1);
    expect_layer(
        read, "sliding_attention", [](int pair) { return plain(pair, 2e4); }, 1);
  }
}

// A scaled sliding kind stands in rope_parameters alone: transformers 4 has no place for it.
TEST(RopeLayers, WhatADialectCannotSayIsRefusedByName) {
  const std::string spec =
      R"({"sliding_attention": {"rope_type": "linear", "factor": 2.0, "original": 65536, "rope_theta": 10000.0}})";
  EXPECT_EQ(emitted(gemma3(), spec, {"transformers"}).verdicts[0].difference, "");
  EXPECT_EQ(
      refused(gemma3(), spec, {"transformers@4.57"}).substr(0, 125),
      "no config.json makes transformers 4.57 run full_attention linear x8 (theta 1000000, attention factor 1) and "
      "sliding_attention");
  EXPECT_NE(refused(gemma3(), "native", {"exllamav2"}).find("two rotary tables"), std::string::npos);
  // a method that no dictionary names
  EXPECT_NE(refused(gemma3(), "ntk-by-parts,to=256k,original=32k", {}).find("no rope dictionary says NTK-by-parts"),
            std::string::npos);
  // classes that build one rotary embedding
  Json qwen = gemma3();
  qwen["model_type"] = "qwen3";
  for (const char* key : {"rope_scaling", "rope_local_base_freq"}) qwen.erase(key);
  EXPECT_NE(
      refused(qwen, R"({"full_attention": {"rope_type": "yarn", "factor": 2.0}})", {}).find("KeyError: 'rope_type'"),
      std::string::npos);
}

// With no engine named, what is written is right for the newest transformers, however many others read another file.
TEST(RopeLayers, UnaskedTheNewestTransformersIsRight) {
  const auto newest_reading = [](const Json& config) { return read_as(newest(Engine::transformers), config); };
  Json qwen = gemma3_nested();
  qwen["model_type"] = "gemma3n_text";
  for (const Json& config : {gemma3(), gemma3_nested(), qwen})
    for (const char* spec :
         {"native", "linear,factor=8,original=32k", "linear,factor=3,original=32k", "dynamic,factor=4,original=32k",
          "yarn,factor=8,original=32k", "llama3,factor=8,original=32k",
          R"({"full_attention": {"rope_type": "linear", "factor": 8.0, "original": 32768},
              "sliding_attention": {"rope_type": "linear", "factor": 2.0, "original": 32768}})",
          R"({"full_attention": {"rope_type": "dynamic", "factor": 4.0, "original": 32768},
              "sliding_attention": {"rope_type": "linear", "factor": 2.0, "original": 32768}})"}) {
      SCOPED_TRACE(config["model_type"].get<std::string>() + ": " + spec);
      const WantedRope wanted = asked(config, spec);
      const EmittedRope out = emit_layer_ropes(config, wanted, {});
      EXPECT_EQ(first_difference(wanted, newest_reading(out.config)), "");
      EXPECT_EQ(out.verdicts.size(), newest_engines().size());
      // the negative control: the same file at another context
      Json other = out.config;
      other["max_position_embeddings"] = out.config["max_position_embeddings"].get<int>() / 2;
      EXPECT_NE(first_difference(wanted, newest_reading(other)), "");
    }
}

TEST(RopeLayers, SpecsThatNameNothing) {
  EXPECT_EQ(refused(gemma3(), R"({"full": {"rope_type": "yarn", "factor": 2.0}})", {}, ErrorKind::usage),
            R"(rope '{"full": {"rope_type": "yarn", "factor": 2.0}}': the model has no layers of kind 'full'; it has )"
            R"(full_attention and sliding_attention: give {"KIND": {"rope_type": ...}, ...})");
  EXPECT_NE(
      refused(gemma3(),
              R"({"full_attention": {"rope_type": "linear", "factor": 2.0, "original": 4096}, "sliding_attention": 3})",
              {}, ErrorKind::usage)
          .find("'sliding_attention' has no dictionary"),
      std::string::npos);
  EXPECT_NE(refused(gemma3(), "yarn,factor=8", {}, ErrorKind::usage).find("already scaled"), std::string::npos);
}

// From any engine's dialect to any other's and back: what both can say survives.
TEST(RopeLayers, RoundTripsOverEveryPairOfDialects) {
  const std::vector<std::string> engines = {
      "transformers@4.57", "transformers@5.0", "transformers", "vllm@0.12", "vllm@0.24", "vllm", "sglang",
      "llama.cpp",         "exllamav3"};
  const std::vector<std::string> specs = {
      "native",
      "none,original=128k",
      "linear,factor=4,original=32k",
      "yarn,factor=8,original=32k",
      "yarn,factor=8,original=32k,beta_fast=128,beta_slow=2,attention_factor=1.1",
      "llama3,factor=8,original=8k",
      R"({"full_attention": {"rope_type": "yarn", "factor": 4.0, "original": 32768}, "sliding_attention": {"rope_type": "linear", "factor": 2.0, "original": 65536}})"};
  int kept = 0, refusals = 0;
  const auto write = [](const Json& config, const WantedRope& wanted, const std::string& name) -> std::optional<Json> {
    const EngineVersion engine = parse_engine(name);
    try {
      return emit_layer_ropes(config, wanted, std::span(&engine, 1)).config;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::unsupported) << error.what();
      return std::nullopt;
    }
  };
  for (const std::string& spec : specs) {
    const WantedRope wanted = asked(gemma3(), spec);
    EXPECT_TRUE(write(gemma3(), wanted, "transformers")) << spec;
    for (const std::string& from : engines) {
      const std::optional<Json> first = write(gemma3(), wanted, from);
      if (!first) {
        ++refusals;
        continue;
      }
      const EngineReading read = read_as(parse_engine(from), *first);
      ASSERT_EQ(first_difference(wanted, read), "") << spec << " for " << from;
      for (const std::string& to : engines) {
        const bool direct = write(gemma3(), wanted, to).has_value();
        const std::optional<Json> second = write(*first, wanted_rope(read, wanted.context), to);
        ASSERT_EQ(second.has_value(), direct) << spec << ": " << from << " -> " << to;
        if (!second) continue;
        EXPECT_EQ(first_difference(wanted, read_as(parse_engine(to), *second)), "")
            << spec << ": " << from << " -> " << to;
        ++kept;
      }
    }
  }
  EXPECT_GT(kept, 300);
  EXPECT_GT(refusals, 2);
  RecordProperty("kept", kept);
  RecordProperty("refused", refusals);
}

/// longrope's name of old, which the class stops at, is written as engines read it.
TEST(RopeLayers, SuIsLongrope) {
  const Json config = Json::parse(R"({"model_type": "gemma3_text", "hidden_size": 1152, "head_dim": 8,
    "num_attention_heads": 4, "num_hidden_layers": 2, "max_position_embeddings": 32768, "rope_theta": 1000000.0,
    "rope_local_base_freq": 10000.0, "layer_types": ["full_attention", "sliding_attention"], "rope_scaling":
    {"rope_type": "su", "factor": 4.0, "original_max_position_embeddings": 8192, "short_factor": [1.0, 1.0, 1.0, 1.0],
     "long_factor": [1.0, 2.0, 3.0, 4.0]}})");
  EXPECT_TRUE(read_as(newest(Engine::transformers), config).error);
  const std::optional<WantedRope> ropes = layer_ropes(config, "native");
  ASSERT_TRUE(ropes);
  EXPECT_TRUE(std::holds_alternative<RopeLongrope>(ropes->layers.at(0).spec.scaling));
  const std::vector<EngineVersion> engines = {newest(Engine::transformers), newest(Engine::sglang)};
  const EmittedRope written = emit_layer_ropes(config, parse_layer_ropes("native", *ropes, config), engines);
  for (const EngineVerdict& verdict : written.verdicts) EXPECT_TRUE(verdict.right()) << verdict.difference;
  EXPECT_FALSE(read_as(newest(Engine::transformers), written.config).error);
}

}  // namespace
}  // namespace ropewalk::formats
