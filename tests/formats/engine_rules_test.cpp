#include <gtest/gtest.h>

#include "formats/engines/engine.h"
#include "formats/engines/flags.h"
#include "lib/error.h"
#include "tests/formats/rope_golden.h"

// What the goldens do not hold: names of versions, notices, provenance, engines known from their sources, hostile
// files.

namespace ropewalk::formats {
namespace {

using golden::engines;

const Json& config_of(const std::string& id) {
  for (const Json& one : engines()["cases"])
    if (one["id"] == id) return one["config"];
  ADD_FAILURE() << id;
  return engines();
}
const Json& result_of(const std::string& id, const std::string& engine) {
  for (const Json& one : engines()["cases"])
    if (one["id"] == id) return golden::result_of(one, engine);
  ADD_FAILURE() << id;
  return engines();
}

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

Json plain_of(const std::string& model_type) {
  return {{"model_type", model_type},
          {"hidden_size", 4096},
          {"num_attention_heads", 32},
          {"max_position_embeddings", 65536},
          {"rope_theta", 10000.0}};
}

// Expected: AutoConfig and the rotary embeddings of transformers 5.23.0, run on these files.
TEST(EngineRules, RopePerLayerTypeIsBuiltByFewClasses) {
  for (const std::string type : {"llama", "phi3", "mistral", "qwen2", "qwen3", "gpt_oss"}) {
    Json config = plain_of(type);
    config["num_hidden_layers"] = 2;
    config["layer_types"] = {"full_attention", "sliding_attention"};
    config["rope_parameters"] = {
        {"full_attention", {{"rope_type", "yarn"}, {"factor", 16.0}, {"original_max_position_embeddings", 4096}}},
        {"sliding_attention", {{"rope_type", "default"}, {"rope_theta", 10000.0}}}};
    const EngineReading reading = read_as(parse_engine("transformers"), config);
    if (type != "llama" && type != "phi3" && type != "mistral") {
      ASSERT_TRUE(reading.error) << type;
      EXPECT_EQ(reading.error->kind + reading.error->text, "KeyError'rope_type'") << type;
      continue;
    }
    ASSERT_FALSE(reading.error) << type << reading.error->text;
    ASSERT_EQ(reading.ropes.size(), 1u);
    EXPECT_EQ(reading.ropes[0].layer_type, "");
    EXPECT_TRUE(std::holds_alternative<RopeUnscaled>(reading.ropes[0].spec.scaling)) << type;
    EXPECT_FLOAT_EQ(engine_table(reading.ropes[0], 1).inv_freq.at(63), 0.00011547819303814322f);
  }
}

// Expected: Gemma3RotaryEmbedding of transformers 5.23.0, run on such files.
TEST(EngineRules, Gemma3FullLayers) {
  const Json plain = plain_of("gemma3_text");
  const auto full = [&](const Json& patch) {
    Json config = plain;
    for (const auto& item : patch.items()) config[item.key()] = item.value();
    const EngineReading reading = read_as(newest(Engine::transformers), config);
    if (reading.error) return reading.error->kind + " " + reading.error->text + " " + reading.error->pointer;
    const auto layer = std::find_if(reading.ropes.begin(), reading.ropes.end(),
                                    [](const EngineRope& one) { return one.layer_type == "full_attention"; });
    return layer == reading.ropes.end() ? "no such layers" : describe(layer->spec);
  };
  const auto starts = [&](const Json& patch, const std::string& start) {
    EXPECT_TRUE(full(patch).starts_with(start)) << patch.dump() << ": " << full(patch);
  };
  const Json by_type = {{"type", "linear"}, {"factor", 8.0}}, by_name = {{"rope_type", "linear"}, {"factor", 8.0}};
  starts({{"rope_scaling", by_type}}, "plain");
  starts({{"rope_scaling", by_name}}, "linear x8");
  // without a rope_type in the dictionary that it updates, type counts
  starts({{"rope_scaling", by_type}, {"rope_parameters", {{"full_attention", Json::object()}}}}, "linear x8");
  starts({{"rope_scaling", by_type}, {"rope_parameters", {{"full_attention", {{"rope_type", "default"}}}}}}, "plain");
  EXPECT_EQ(full({{"rope_scaling", by_name}, {"rope_parameters", by_name}}), "KeyError 'full_attention' /rope_scaling");
  EXPECT_EQ(full({{"rope_scaling", by_name}, {"rope_parameters", {{"full_attention", nullptr}}}}),
            "AttributeError 'NoneType' object has no attribute 'update' /rope_scaling");
  starts({{"rope_parameters", by_name}}, "plain");  // flat: no kind of layer has it

  // truncate counts beside the kinds, not inside
  const Json yarn = {{"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 256}};
  Json inside = yarn;
  inside["truncate"] = false;
  const std::string exact = ", range not rounded";
  EXPECT_EQ(full({{"rope_parameters", {{"full_attention", inside}}}}).find(exact), std::string::npos);
  const Json beside = {{"rope_parameters", {{"full_attention", yarn}, {"truncate", false}}}};
  EXPECT_NE(full(beside).find(exact), std::string::npos) << full(beside);
  // flags that say it stand beside the kinds too
  Json config = plain;
  config.update(beside);
  const WantedRope wanted = wanted_rope(read_as(newest(Engine::transformers), config), 1024);
  const EngineFlags flags = engine_flags(newest(Engine::transformers), &plain, wanted);
  EXPECT_TRUE(flags.possible) << flags.reason;
  EXPECT_EQ(flags.flags.overrides["rope_parameters"]["truncate"], false) << flags.line;
}

// Expected: AutoConfig of transformers 5.23.0 and 4.57.6, run on these files.
TEST(EngineRules, LayerTypesThatDoNotFit) {
  const auto error_of = [](Json config, const std::string& patch, const char* engine) {
    config["num_hidden_layers"] = 4;
    config.merge_patch(Json::parse(patch));
    const EngineReading reading = read_as(parse_engine(engine), config);
    return reading.error ? reading.error->kind + " " + reading.error->text + " " + reading.error->pointer : "";
  };
  const std::string three = R"({"layer_types": ["full_attention", "full_attention", "full_attention"]})";
  const std::string text = R"({"layer_types": "full_attention"})", number = R"({"layer_types": 5})";
  const std::string kind = R"({"layer_types": ["full_attention", "full_attention", "full_attention", "foo"]})";
  const std::string old = R"({"layer_types": ["full_attention", "full_attention", "full_attention", "attention"]})";
  const std::string no_dict = R"({"rope_parameters": {"full_attention": 5}})";
  for (const std::string type : {"llama", "mistral", "phi3", "qwen2", "qwen3", "gpt_oss", "gemma3_text"}) {
    const bool field = type != "llama" && type != "mistral" && type != "phi3";
    const Json config = plain_of(type);
    EXPECT_EQ(error_of(config, "{}", "transformers"), "") << type;
    EXPECT_EQ(error_of(config, old, "transformers"), "") << type;
    EXPECT_EQ(error_of(config, three, "transformers"),
              "StrictDataclassClassValidationError Class validation error for validator 'validate_layer_type': "
              "ValueError: `num_hidden_layers` (4) must be equal to the number of `layer_types` (3) /layer_types")
        << type;
    EXPECT_TRUE(error_of(config, three, "vllm").starts_with("StrictDataclass")) << type;
    EXPECT_TRUE(error_of(config, kind, "transformers").ends_with(" /layer_types/3")) << type;
    const char* const refused = field ? "StrictDataclassFieldValidationError" : "StrictDataclassClassValidationError";
    EXPECT_TRUE(error_of(config, text, "transformers").starts_with(refused)) << type;
    EXPECT_EQ(error_of(config, number, "transformers").starts_with("TypeError 'int' object is not iterable"), !field);
    // without layer_types the classes that have the field have kinds, the others a flat dictionary
    const std::string nested = error_of(config, no_dict, "transformers");
    EXPECT_EQ(nested, field ? "AttributeError 'int' object has no attribute 'setdefault' /rope_parameters/"
                              "full_attention"
                            : "")
        << type;
    Json named = config;
    named["layer_types"] = {"full_attention", "full_attention", "full_attention", "full_attention"};
    EXPECT_EQ(error_of(named, no_dict, "transformers"), std::string("AttributeError 'int' object has no attribute '") +
                                                            (field ? "setdefault" : "get") +
                                                            "' /rope_parameters/full_attention")
        << type;
    EXPECT_EQ(
        error_of(config, three, "transformers@4.57.6"),
        field ? "ValueError `num_hidden_layers` (4) must be equal to the number of layer types (3) /layer_types" : "")
        << type;
  }
}

// Expected: AutoConfig of transformers 5.23.0, run on these files.
TEST(EngineRules, WindowsAndTypesThatTheClassesRefuse) {
  for (const std::string type : {"llama", "mistral", "phi3", "qwen2", "qwen3", "gpt_oss", "gemma3_text"})
    for (const char* window : {"\"4096\"", "true", "4096.0", "[1]"}) {
      Json config = plain_of(type);
      config["sliding_window"] = Json::parse(window);
      const EngineReading reading = read_as(parse_engine("transformers"), config);
      EXPECT_EQ(reading.error ? reading.error->kind : "", type == "llama" ? "" : "StrictDataclassFieldValidationError")
          << type << " " << window;
      config["sliding_window"] = 4096;
      EXPECT_FALSE(read_as(parse_engine("transformers"), config).error) << type;
    }
  // of int and of int | None; a class that has no such field passes it over
  for (const auto& [key, without] : std::vector<std::pair<std::string, std::string>>{{"max_position_embeddings", ""},
                                                                                     {"num_hidden_layers", ""},
                                                                                     {"num_key_value_heads", ""},
                                                                                     {"vocab_size", ""},
                                                                                     {"head_dim", "qwen2 phi3"}})
    for (const std::string type : {"llama", "mistral", "phi3", "qwen2", "qwen3", "gpt_oss", "gemma3_text"})
      for (const char* value : {"128.0", "\"128\"", "128"}) {
        Json config = plain_of(type);
        config[key] = Json::parse(value);
        const EngineReading reading = read_as(parse_engine("transformers"), config);
        if (without.find(type) != std::string::npos || config[key].is_number_integer()) continue;
        ASSERT_TRUE(reading.error) << type << " " << key << " " << value;
        EXPECT_EQ(reading.error->kind + " " + reading.error->pointer, "StrictDataclassFieldValidationError /" + key);
      }
  Json config = plain_of("llama");
  config["num_hidden_layers"] = "4";
  EXPECT_EQ(read_as(parse_engine("vllm"), config).error.value_or(EngineError{}).text,
            "Validation error for field 'num_hidden_layers': TypeError: Field 'num_hidden_layers' expected int, got "
            "str (value: '4')");
  config["num_hidden_layers"] = 4;
  config["head_dim"] = 128.0;
  EXPECT_EQ(read_as(parse_engine("transformers"), config).error.value_or(EngineError{}).text,
            "Validation error for field 'head_dim': TypeError: Field 'head_dim' with value 128.0 doesn't match any "
            "type in (<class 'int'>, <class 'NoneType'>)");
  config = plain_of("llama");
  config["model_type"] = 5;
  EngineReading reading = read_as(parse_engine("transformers"), config);
  ASSERT_TRUE(reading.error);
  EXPECT_EQ(reading.error->kind + " " + reading.error->pointer, "ValueError /model_type");
  EXPECT_TRUE(reading.error->text.starts_with("The checkpoint you are trying to load has model type `5` but"));
  config.erase("model_type");
  reading = read_as(parse_engine("transformers"), config);
  ASSERT_TRUE(reading.error);
  EXPECT_EQ(reading.error->text, "Unrecognized model. Should have a `model_type` key in its config.json.");
  // no class of transformers 5.23.0 that is named here calls apply_rotary_pos_emb; GPT-J's own does
  for (const char* type : {"bert", "gpt2", "nemotron_h", "gptj"})
    for (const EngineVersion& engine : newest_engines()) {
      reading = read_as(engine, Json{{"model_type", type}, {"hidden_size", 768}, {"num_attention_heads", 12}});
      ASSERT_TRUE(reading.error) << type;
      EXPECT_EQ(reading.error->kind, kNotFollowed) << type;
    }
}

// Expected: GPTNeoXRotaryEmbedding, HunYuanDenseV1RotaryEmbedding and Qwen2VLRotaryEmbedding of transformers 5.23.0 on
// these files: pairs, the second frequency and the last.
TEST(EngineRules, NamesThatOneClassHas) {
  struct Case {
    const char *model_type, *more;
    std::size_t pairs;
    float second, last;
  };
  const Case cases[] = {
      {"gpt_neox", "{}", 16, 0.5623413324356079f, 0.00017782794020604342f},
      {"gpt_neox",
       R"({"rotary_pct": 0.25, "rotary_emb_base": 25000, "rope_scaling": {"type": "linear", "factor": 4.0}})", 16,
       0.13276046514511108f, 1.8830907720257528e-05f},
      {"gpt_neox", R"({"rotary_pct": 0.5, "rotary_emb_base": 25000})", 32, 0.7287261486053467f,
       5.4890300816623494e-05f},
      // rope_theta and partial_rotary_factor of the top level are not looked at
      {"gpt_neox", R"({"rotary_pct": 0.5, "rope_theta": 500000.0, "partial_rotary_factor": 1.0})", 32,
       0.7498942017555237f, 0.0001333521504420787f},
      {"hunyuan_v1_dense", R"({"head_dim": 128, "rope_scaling": {"type": "dynamic", "alpha": 1000.0, "factor": 1.0}})",
       64, 0.7760343551635742f, 1.1547820122359553e-07f},
      {"hunyuan_v1_dense", R"({"head_dim": 128, "rope_scaling": {"type": "dynamic", "alpha": 0, "factor": 1.0}})", 64,
       0.8659643530845642f, 0.00011547819303814322f},
      {"qwen2_vl", R"({"rope_theta": null, "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]}})", 64,
       0.8058422207832336f, 1.2409377632138785e-06f},
  };
  for (const Case& one : cases) {
    Json config = plain_of(one.model_type);
    config.merge_patch(Json::parse(one.more));
    const EngineReading reading = read_as(parse_engine("transformers"), config);
    ASSERT_FALSE(reading.error) << one.more << reading.error->text;
    const std::vector<float> got = engine_table(reading.ropes.at(0), 1).inv_freq;
    ASSERT_EQ(got.size(), one.pairs) << one.more;
    EXPECT_LE(golden::ulps(got[1], one.second), 3) << one.more;
    EXPECT_LE(golden::ulps(got.back(), one.last), 3) << one.more;
  }
}

// chatglm.py of vLLM and SGLang, conversion/chatglm.py of llama.cpp 0.5: base 10000 * rope_ratio, 64 of 128 channels.
TEST(EngineRules, RopeRatioOfChatGlm) {
  Json config = plain_of("chatglm");
  config.erase("rope_theta");
  config.erase("max_position_embeddings");
  config["rope_ratio"] = 50;
  config["seq_length"] = 32768;
  for (const char* engine : {"vllm", "vllm@0.6.6", "sglang", "llama.cpp"}) {
    const EngineReading reading = read_as(parse_engine(engine), config);
    ASSERT_FALSE(reading.error) << engine << reading.error->text;
    const RopeSpec& spec = reading.ropes.at(0).spec;
    EXPECT_EQ(spec.theta, 500000) << engine;
    EXPECT_EQ(spec.rotary_dim, 64) << engine;
    EXPECT_TRUE(std::holds_alternative<RopeUnscaled>(spec.scaling));
    EXPECT_EQ(reading.context, 32768) << engine;
    // 500000^(-2/64)
    EXPECT_NEAR(engine_table(reading.ropes[0], 1).inv_freq.at(1), 0.6636012, 1e-6) << engine;
    EXPECT_NE(reading.notices.back().text.find("was not run on chatglm"), std::string::npos);
  }
  EngineOptions longer;
  longer.context = 65536;
  EXPECT_TRUE(read_as(parse_engine("vllm"), config, longer).context_error);
  EXPECT_EQ(read_as(parse_engine("llama.cpp"), config, longer).context, 65536);
  config["rope_ratio"] = "50";
  EXPECT_EQ(read_as(parse_engine("sglang"), config).error.value_or(EngineError{}).kind, "TypeError");
}

/// Numbers of Llama's rules would be another model's.
TEST(EngineRules, NamesThatNoRuleHasAreNotFollowed) {
  const auto followed = [](const char* model_type, const char* more, const char* engine) {
    Json config = plain_of(model_type);
    config.merge_patch(Json::parse(more));
    const EngineReading reading = read_as(parse_engine(engine), config);
    return !reading.error || reading.error->kind != kNotFollowed;
  };
  const char* const alpha = R"({"head_dim": 128, "rope_scaling": {"type": "dynamic", "alpha": 1000.0, "factor": 1.0}})";
  const char* const mrope = R"({"rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]}})";
  for (const char* engine : {"transformers", "vllm", "sglang", "llama.cpp", "exllamav2", "exllamav3"}) {
    const bool newest_transformers = std::string_view(engine) == "transformers";
    const bool python = newest_transformers || engine[0] == 'v' || engine[0] == 's';
    const bool chatglm = engine[0] == 'v' || engine[0] == 's' || std::string_view(engine) == "llama.cpp";
    EXPECT_EQ(followed("chatglm", R"({"rope_ratio": 500})", engine), chatglm) << engine;
    EXPECT_EQ(followed("chatglm", "{}", engine), chatglm) << engine;
    // conversion/stablelm.py and qwen.py of llama.cpp 0.5 ask for it, llama.py does not
    EXPECT_EQ(followed("stablelm", R"({"partial_rotary_factor": 0.25})", engine),
              std::string_view(engine) != "llama.cpp")
        << engine;
    const bool inside = std::string_view(engine) != "llama.cpp" && std::string_view(engine) != "sglang";
    EXPECT_EQ(followed("qwen3_5", R"({"rope_parameters": {"partial_rotary_factor": 0.25}})", engine), inside) << engine;
    EXPECT_FALSE(followed("qwen", R"({"rotary_pct": 1.0, "rotary_emb_base": 10000})", engine)) << engine;
    EXPECT_EQ(followed("gpt_neox", R"({"rotary_pct": 0.5})", engine), newest_transformers) << engine;
    EXPECT_EQ(followed("gpt_neox", "{}", engine), newest_transformers) << engine;
    EXPECT_EQ(followed("hunyuan_v1_dense", alpha, engine), python) << engine;
    EXPECT_TRUE(followed("qwen2_vl", mrope, engine)) << engine;
    EXPECT_TRUE(followed("llama", R"({"rotary_pct": 0.5})", engine)) << engine;  // an attribute that nobody reads
  }
  EXPECT_FALSE(followed("gpt_neox", "{}", "transformers@4.57.6"));
  EXPECT_FALSE(followed("qwen2_vl", mrope, "transformers@4.57.6"));
}

// Expected: Mistral4RotaryEmbedding of transformers 5.23.0 on these: 32 frequencies, the last 1.6669e-05, A 1.2079; with
// a plain rope 64.
TEST(EngineRules, Mistral4RotatesPartOfALatentHead) {
  Json config = {
      {"model_type", "mistral4"}, {"hidden_size", 4096}, {"num_attention_heads", 32},         {"qk_nope_head_dim", 64},
      {"qk_rope_head_dim", 64},   {"kv_lora_rank", 256}, {"max_position_embeddings", 1048576}};
  config["rope_parameters"] = {
      {"rope_type", "yarn"}, {"factor", 8.0}, {"original_max_position_embeddings", 8192}, {"rope_theta", 10000.0}};
  for (const bool said : {false, true}) {
    if (said) config["rope_parameters"]["partial_rotary_factor"] = 0.5;
    const EngineReading reading = read_as(parse_engine("transformers"), config);
    ASSERT_FALSE(reading.error) << reading.error->text;
    const EngineTable table = engine_table(reading.ropes.at(0), 8192);
    ASSERT_EQ(table.inv_freq.size(), 32u) << said;
    EXPECT_NEAR(table.inv_freq[1], 0.74989f, 1e-5);
    EXPECT_NEAR(table.inv_freq[31], 1.6669e-05f, 1e-9);
    EXPECT_FLOAT_EQ(table.attention_factor, 1.2079441541679836f);
  }
  config["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 10000.0}};
  EXPECT_EQ(engine_table(read_as(parse_engine("transformers"), config).ropes.at(0), 1).inv_freq.size(), 64u);
}

TEST(EngineRules, HeadsThatTheStrictClassesRefuse) {
  const auto read = [](Json config) { return read_as(parse_engine("transformers"), config); };
  const EngineReading gpt_oss = read(plain_of("gpt_oss"));  // not 4096 / 32
  ASSERT_FALSE(gpt_oss.error);
  EXPECT_EQ(gpt_oss.ropes.at(0).spec.rotary_dim, 64);
  EXPECT_FLOAT_EQ(engine_table(gpt_oss.ropes[0], 1).inv_freq.at(31), 4.16725470131496e-06f);
  for (const std::string type : {"llama", "mistral", "qwen2", "qwen3", "phi3", "gpt_oss", "gemma3_text"}) {
    Json null = plain_of(type);
    null["head_dim"] = nullptr;
    const bool refused = type == "qwen3" || type == "gpt_oss" || type == "gemma3_text";
    EXPECT_EQ(read(null).error ? read(null).error->kind : "", refused ? "StrictDataclassFieldValidationError" : "")
        << type;
    Json uneven = plain_of(type);
    uneven["hidden_size"] = 4100;
    const bool checked = type == "llama" || type == "gemma3_text";
    EXPECT_EQ(read(uneven).error ? read(uneven).error->kind : "", checked ? "StrictDataclassClassValidationError" : "")
        << type;
  }
}

// conversion/llama.py of llama.cpp 0.5: Llama4Model takes generate_extra_tensors from LlamaModel, and models/llama4.cpp
// loads rope_freqs.weight. With both factors 1 a pair is kept or divided by the factor.
TEST(EngineRules, Llama4HasFrequencyDivisorsInLlamaCpp) {
  Json text = plain_of("llama4_text");
  text["rope_scaling"] = {{"rope_type", "llama3"},
                          {"factor", 16.0},
                          {"low_freq_factor", 1.0},
                          {"high_freq_factor", 1.0},
                          {"original_max_position_embeddings", 8192}};
  const Json outer = {{"model_type", "llama4"}, {"text_config", text}};
  for (const Json& config : {text, outer}) {
    const EngineReading reading = read_as(parse_engine("llama.cpp"), config);
    ASSERT_FALSE(reading.error) << reading.error->text;
    const std::vector<float> table = engine_table(reading.ropes.at(0), 1).inv_freq;
    ASSERT_EQ(table.size(), 64u);
    EXPECT_EQ(table[0], 1);
    EXPECT_NEAR(table[63] * 16 / 0.00011547819303814322, 1, 1e-4);
  }
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

}  // namespace
}  // namespace ropewalk::formats
