#include "formats/hf_config.h"

#include <gtest/gtest.h>

#include "tests/formats/hf_test_support.h"

namespace ropewalk::formats {
namespace {

ModelConfig read(const std::string& text, std::vector<std::string>* warnings = nullptr) {
  std::vector<std::string> own;
  return read_hf_config("some/config.json", text, parse_json("some/config.json", text), warnings ? *warnings : own);
}

/// A small valid configuration, one field per line from line 2 on, with `changes` merged in (null of a change removes
/// the field).
std::string text_with(const Json& changes, const char* type = "llama") {
  Json json = {
      {"model_type", type}, {"hidden_size", 64},        {"num_hidden_layers", 2},        {"intermediate_size", 96},
      {"vocab_size", 512},  {"num_attention_heads", 8}, {"max_position_embeddings", 256}};
  for (const auto& [key, value] : changes.items()) {
    if (value == "REMOVED") json.erase(key);
    else json[key] = value;
  }
  return json.dump(2) + "\n";
}

// Values: LlamaConfig(...) and MistralConfig(...) of transformers 5.23.0 with the five sizes alone.
TEST(HfConfig, AbsentFieldsMeanWhatTransformersTakes) {
  std::vector<std::string> warnings;
  const ModelConfig llama = read(text_with({{"max_position_embeddings", "REMOVED"}}), &warnings);
  EXPECT_EQ(llama.n_kv_heads, 8);
  EXPECT_EQ(llama.head_dim, 8);
  EXPECT_EQ(llama.context, 2048);
  EXPECT_EQ(llama.rms_eps, 1e-6);
  EXPECT_FALSE(llama.tied_head || llama.attention_bias || llama.mlp_bias);
  EXPECT_FALSE(llama.sliding_window);
  EXPECT_EQ(llama.rope.theta, 10000.0);
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_TRUE(warnings[0].starts_with("some/config.json has no max_position_embeddings: ")) << warnings[0];
  EXPECT_NE(warnings[0].find("2048"), std::string::npos);

  warnings.clear();
  const ModelConfig mistral =
      read(text_with({{"max_position_embeddings", "REMOVED"}, {"num_attention_heads", 16}}, "mistral"), &warnings);
  EXPECT_EQ(mistral.n_kv_heads, 8);
  EXPECT_EQ(mistral.head_dim, 4);
  EXPECT_EQ(mistral.context, 131072);
  EXPECT_EQ(mistral.sliding_window, 4096);
  EXPECT_EQ(warnings.size(), 2u) << "context and window";
}

TEST(HfConfig, NullIsNotAbsent) {
  const ModelConfig llama = read(text_with({{"head_dim", nullptr}, {"num_key_value_heads", nullptr}}));
  EXPECT_EQ(llama.head_dim, 8);
  EXPECT_EQ(llama.n_kv_heads, 8);
  EXPECT_FALSE(read(text_with({{"sliding_window", nullptr}}, "mistral")).sliding_window);
  expect_error(ErrorKind::bad_input, {"num_key_value_heads", "null"}, [] {
    read(text_with({{"num_key_value_heads", nullptr}}, "mistral"));
  });
  expect_error(ErrorKind::bad_input, {"attention_bias", "null", "true or false"}, [] {
    read(text_with({{"attention_bias", nullptr}}));
  });
}

TEST(HfConfig, ExplicitHeadDimNeedNotFillTheHiddenSize) {
  const ModelConfig config = read(text_with({{"head_dim", 32}, {"num_key_value_heads", 1}}));
  EXPECT_EQ(config.head_dim, 32);
  EXPECT_EQ(config.rope.rotary_dim, 32);
}

TEST(HfConfig, LlamaHasNoWindowAndMistralNoBiases) {
  EXPECT_FALSE(read(text_with({{"sliding_window", 128}})).sliding_window);
  const ModelConfig mistral =
      read(text_with({{"attention_bias", true}, {"mlp_bias", true}, {"sliding_window", 16}}, "mistral"));
  EXPECT_FALSE(mistral.attention_bias || mistral.mlp_bias);
  EXPECT_EQ(mistral.sliding_window, 16);
}

struct BadField {
  const char* name;
  Json changes;
  ErrorKind kind;
  std::vector<std::string> parts;
};
TEST(HfConfig, RefusesWithPlaceFoundAndExpected) {
  const std::vector<BadField> cases = {
      {"string for a size",
       {{"hidden_size", "64"}},
       ErrorKind::bad_input,
       {"config.json:3:18", "'hidden_size' is \"64\" (string)", "expected an integer", "quotes"}},
      {"missing size", {{"hidden_size", "REMOVED"}}, ErrorKind::bad_input, {"config.json", "'hidden_size' is missing"}},
      {"null size", {{"hidden_size", nullptr}}, ErrorKind::bad_input, {"config.json:3:18", "'hidden_size' is null"}},
      {"null for a kind",
       {{"model_type", nullptr}},
       ErrorKind::bad_input,
       {"'model_type' is null, expected \"llama\""}},
      {"float size",
       {{"hidden_size", 64.0}},
       ErrorKind::bad_input,
       {"config.json:3:18", "64.0", "expected an integer"}},
      {"bool size", {{"num_hidden_layers", true}}, ErrorKind::bad_input, {"config.json:4:24", "true (boolean)"}},
      {"negative", {{"num_hidden_layers", -2}}, ErrorKind::bad_input, {"config.json:4:24", "-2", "expected 1 to"}},
      {"zero", {{"vocab_size", 0}}, ErrorKind::bad_input, {"config.json:6:17", "expected 1 to"}},
      {"absurd",
       {{"intermediate_size", 4611686018427387904}},
       ErrorKind::bad_input,
       {"config.json:5:24", "4611686018427387904"}},
      {"past 63 bits",
       {{"intermediate_size", 18446744073709551615u}},
       ErrorKind::bad_input,
       {"18446744073709551615", "expected 1 to"}},
      {"heads do not divide",
       {{"hidden_size", 60}},
       ErrorKind::bad_input,
       {"config.json:3:18", "60 is not a multiple of num_attention_heads 8"}},
      {"nor with head_dim", {{"hidden_size", 60}, {"head_dim", 32}}, ErrorKind::bad_input, {"60 is not a multiple"}},
      {"groups do not divide",
       {{"num_key_value_heads", 3}},
       ErrorKind::bad_input,
       {"8 attention heads", "3 key-value heads"}},
      {"odd head", {{"head_dim", 7}}, ErrorKind::bad_input, {"7 channels", "even"}},
      {"heads times channels", {{"head_dim", 16777216}}, ErrorKind::bad_input, {"16777216 channels"}},
      {"eps in quotes", {{"rms_norm_eps", "1e-5"}}, ErrorKind::bad_input, {"rms_norm_eps", "expected a number"}},
      {"negative eps", {{"rms_norm_eps", -1e-5}}, ErrorKind::bad_input, {"rms_norm_eps"}},
      {"other model",
       {{"model_type", "qwen3"}},
       ErrorKind::unsupported,
       {"config.json:2:17", "qwen3", "llama and mistral"}},
      {"no model", {{"model_type", "REMOVED"}}, ErrorKind::bad_input, {"'model_type' is missing"}},
      {"activation", {{"hidden_act", "gelu"}}, ErrorKind::unsupported, {"hidden_act is \"gelu\"", "silu"}},
      {"classifier",
       {{"architectures", {"LlamaForSequenceClassification"}}},
       ErrorKind::unsupported,
       {"LlamaForSequenceClassification"}},
      {"quantized",
       {{"quantization_config", {{"quant_method", "eetq"}, {"weights", "int8"}}}},
       ErrorKind::unsupported,
       {"config.json:9:", "\"eetq\"", "read are bitsandbytes"}},
      {"quantized somehow", {{"quantization_config", Json::object()}}, ErrorKind::unsupported, {"method unknown"}},
  };
  for (const BadField& bad : cases) {
    SCOPED_TRACE(bad.name);
    expect_error(bad.kind, bad.parts, [&] { read(text_with(bad.changes)); });
  }
  EXPECT_NO_THROW(read(text_with(Json::object()))) << "the unchanged configuration is accepted";
  EXPECT_NO_THROW(read(text_with({{"quantization_config", nullptr}})));
  EXPECT_NO_THROW(
      read(text_with({{"quantization_config", {{"quant_method", "bitsandbytes"}, {"load_in_4bit", true}}}})));
  expect_error(ErrorKind::bad_input, {"array", "expected an object"}, [] { read("[1]"); });
}

// The zoo's two dialects describe the same model (transformers gives bit-identical logits for both); geometry is
// compared with the file's own numbers.
TEST(HfConfig, BothDialectsOfTheZooAgree) {
  int models = 0;
  for (const fs::directory_entry& entry : fs::directory_iterator(kGolden / "zoo")) {
    if (!entry.is_directory()) continue;
    SCOPED_TRACE(entry.path().filename().string());
    const std::string text = read_bytes(entry.path() / "config.json");
    const Json json = parse_json("config.json", text);
    const ModelConfig now = read(text), old = read(read_bytes(entry.path() / "config_legacy.json"));
    for (const ModelConfig* config : {&now, &old}) {
      EXPECT_EQ(config->model_type, json["model_type"]);
      EXPECT_EQ(config->d_model, json["hidden_size"]);
      EXPECT_EQ(config->n_layers, json["num_hidden_layers"]);
      EXPECT_EQ(config->n_heads, json["num_attention_heads"]);
      EXPECT_EQ(config->n_kv_heads, json["num_key_value_heads"]);
      EXPECT_EQ(config->head_dim, json["head_dim"]);
      EXPECT_EQ(config->d_ff, json["intermediate_size"]);
      EXPECT_EQ(config->n_vocab, json["vocab_size"]);
      EXPECT_EQ(config->context, json["max_position_embeddings"]);
      EXPECT_EQ(config->rms_eps, json["rms_norm_eps"]);
      EXPECT_EQ(config->tied_head, json["tie_word_embeddings"]);
      EXPECT_EQ(config->attention_bias, json.value("attention_bias", false));
      EXPECT_EQ(config->mlp_bias, json.value("mlp_bias", false));
      EXPECT_EQ(config->sliding_window.value_or(0), json.value("sliding_window", 0));
      EXPECT_EQ(config->rope.theta, json["rope_parameters"]["rope_theta"]);
      EXPECT_EQ(rope_method_name(config->rope), json["rope_parameters"]["rope_type"]);
    }
    const RopeTable a = rope_table(now.rope, now.context), b = rope_table(old.rope, old.context);
    EXPECT_EQ(a.inv_freq, b.inv_freq);
    EXPECT_EQ(a.attention_factor, b.attention_factor);
    ++models;
  }
  EXPECT_EQ(models, 10);
}

}  // namespace
}  // namespace ropewalk::formats
