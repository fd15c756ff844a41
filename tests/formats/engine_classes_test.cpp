// Rules of single classes: kinds of layers, names of their own, what the strict classes refuse. What the goldens do not
// hold was run in the releases that the tests name.
#include <gtest/gtest.h>

#include "formats/engines/flags.h"
#include "tests/formats/engine_support.h"

namespace ropewalk::formats {
namespace {

/// Phi-3's two original contexts, transformers 5.23.0, run: the top level's (or the class's 4096) goes before the dictionary's
/// under each name of the type, and the attention factor and the change of lists follow it.
TEST(EngineClasses, Phi3sTwoOriginalContexts) {
  struct Case {
    int top, inner;  // 0: not there
    double attention_factor;
    int original;
  };
  for (const char* type : {"su", "longrope", "yarn"})
    for (const Case& one : {Case{0, 8192, 1.19024, 4096}, Case{2048, 8192, 1.24316, 2048},
                            Case{4096, 8192, 1.19024, 4096}, Case{2048, 4096, 1.24316, 2048}}) {
      Json config = {{"model_type", "phi3"},
                     {"hidden_size", 32},
                     {"num_attention_heads", 4},
                     {"max_position_embeddings", 131072},
                     {"rope_scaling",
                      {{"type", type},
                       {"short_factor", {1.0, 1.0, 1.0, 1.0}},
                       {"long_factor", {2.0, 2.0, 2.0, 2.0}},
                       {"original_max_position_embeddings", one.inner}}}};
      if (one.top != 0) config["original_max_position_embeddings"] = one.top;
      const EngineReading reading = read_as(parse_engine("transformers@5.23.0"), config);
      ASSERT_FALSE(reading.error) << type << reading.error->text;
      EXPECT_NEAR(reading.ropes[0].spec.attention_factor.value_or(0), one.attention_factor, 1e-5) << type << one.top;
      EXPECT_EQ(rope_original_context(reading.ropes[0].spec), one.original) << type << one.top;
    }
  // without one inside, the name of old finds none (KeyError), that of today the class's
  Json config = plain_of("phi3");
  config["hidden_size"] = 32, config["num_attention_heads"] = 4;
  config["rope_scaling"] = {{"type", "su"}, {"short_factor", {1, 1, 1, 1}}, {"long_factor", {2, 2, 2, 2}}};
  EXPECT_TRUE(read_as(parse_engine("transformers@5.23.0"), config).error);
  config["rope_scaling"]["type"] = "longrope";
  EXPECT_FALSE(read_as(parse_engine("transformers@5.23.0"), config).error);
}

// Expected: AutoConfig and the rotary embeddings of transformers 5.23.0, run on these files.
TEST(EngineClasses, RopePerLayerTypeIsBuiltByFewClasses) {
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
TEST(EngineClasses, Gemma3FullLayers) {
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
TEST(EngineClasses, LayerTypesThatDoNotFit) {
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
TEST(EngineClasses, WindowsAndTypesThatTheClassesRefuse) {
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
TEST(EngineClasses, NamesThatOneClassHas) {
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
TEST(EngineClasses, RopeRatioOfChatGlm) {
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
TEST(EngineClasses, NamesThatNoRuleHasAreNotFollowed) {
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
TEST(EngineClasses, Mistral4RotatesPartOfALatentHead) {
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

TEST(EngineClasses, HeadsThatTheStrictClassesRefuse) {
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
TEST(EngineClasses, Llama4HasFrequencyDivisorsInLlamaCpp) {
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

}  // namespace
}  // namespace ropewalk::formats
