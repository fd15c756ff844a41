// Where `rope` refuses a file, lint has an error: no value that nobody can read passes it in silence.
#include <set>

#include "formats/rope_meaning.h"
#include "lib/error.h"
#include "tests/formats/lint_support.h"

namespace ropewalk::formats::lint_test {
namespace {

/// Why `rope` says nothing of the file; empty: it does.
std::string refusal(const std::string& text) {
  try {
    read_rope_meaning("config.json", text, Json::parse(text));
    return "";
  } catch (const Error& error) {
    return error.problem();
  }
}

std::size_t errors(const std::vector<Finding>& findings) {
  return std::size_t(std::count_if(findings.begin(), findings.end(),
                                   [](const Finding& one) { return one.severity == Severity::error; }));
}

/// Of classes that were compared with engines, and of three whose own names are read.
std::vector<Json> files() {
  const std::string lists = R"("short_factor": [1.0, 1.0, 1.0, 1.0], "long_factor": [1.0, 2.0, 3.0, 4.0])";
  std::vector<Json> out;
  for (
      const std::string& more : std::vector<std::string>{
          R"("model_type": "llama", "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096,
             "beta_fast": 32, "beta_slow": 1, "attention_factor": 1.1})",
          R"("model_type": "llama", "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
             "high_freq_factor": 4.0, "original_max_position_embeddings": 4096})",
          R"("model_type": "mistral", "rope_scaling": {"type": "dynamic", "factor": 4.0})",
          R"("model_type": "qwen2", "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096,
             "mscale": 1.0, "mscale_all_dim": 0.5})",
          R"("model_type": "qwen3", "head_dim": 8, "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0})",
          R"("model_type": "phi3", "original_max_position_embeddings": 4096, "rope_scaling": {"type": "longrope", )" +
              lists + "}",
          R"("model_type": "gemma3_text", "head_dim": 8, "num_hidden_layers": 2, "rope_local_base_freq": 10000.0,
             "layer_types": ["full_attention", "sliding_attention"], "rope_scaling": {"rope_type": "linear", "factor": 8.0})",
          R"("model_type": "gpt_oss", "head_dim": 8, "rope_scaling": {"rope_type": "yarn", "factor": 32.0,
             "original_max_position_embeddings": 4096, "truncate": false})",
          R"("model_type": "qwen2_vl", "rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2], "partial_rotary_factor": 1.0})",
          R"("model_type": "gpt_neox", "rotary_pct": 0.5, "rotary_emb_base": 10000)",
          R"("model_type": "hunyuan_v1_dense", "rope_scaling": {"type": "dynamic", "alpha": 1000.0, "factor": 1.0})"})
    out.push_back(
        Json::parse(R"({"hidden_size": 64, "num_attention_heads": 8, "num_key_value_heads": 8, "vocab_size": 100,
      "intermediate_size": 64, "num_hidden_layers": 2, "max_position_embeddings": 16384, "rope_theta": 10000.0, )" +
                    more + "}"));
  return out;
}

std::vector<std::string> places(const Json& file) {
  std::vector<std::string> out;
  for (const char* key :
       {"partial_rotary_factor", "original_max_position_embeddings", "head_dim", "rope_parameters", "rope_scaling"})
    if (!file.contains(key)) out.push_back(std::string("/") + key);
  for (const auto& item : file.items()) {
    const std::set<std::string> other = {"vocab_size", "intermediate_size", "num_key_value_heads"};
    if (!other.contains(item.key())) out.push_back("/" + item.key());
    if (item.value().is_object())
      for (const auto& inner : item.value().items()) out.push_back("/" + item.key() + "/" + inner.key());
  }
  return out;
}

TEST(LintRefusal, WhatRopeRefusesIsAnErrorOfLint) {
  const std::vector<std::string> values = {"\"x\"", "\"4\"", "{}", R"({"a": 1})", "[]", "[1.0]", "null",
                                           "true",  "0",     "-1", "0.3",         "3",  "1e308", "1e-308"};
  std::size_t refused = 0, said = 0;
  for (const Json& file : files()) {
    ASSERT_EQ(refusal(file.dump()), "") << file.dump();
    EXPECT_EQ(errors(lint_text(file.dump())), 0u) << file.dump() << "\n" << in_words(lint_text(file.dump()));
    for (const std::string& place : places(file))
      for (const std::string& value : values) {
        Json bad = file;
        bad[Json::json_pointer(place)] = Json::parse(value);
        const std::string why = refusal(bad.dump(2));
        // of a class without a rule nothing is said to be wrong
        if (why.empty() || (why.starts_with("not followed") && !compared_model_type(bad))) continue;
        ++refused;
        const std::vector<Finding> findings = lint_text(bad.dump(2));
        if (errors(findings) > 0) ++said;
        else
          ADD_FAILURE() << file["model_type"] << " " << place << " = " << value << "\n rope: " << why << "\n"
                        << in_words(findings);
      }
  }
  EXPECT_GE(refused, 400u);
  EXPECT_EQ(said, refused);
}

/// The qwen2_vl of which lint said nothing: an object is a value there, and no kind of layer.
TEST(LintRefusal, AnObjectUnderAKeyIsNoKindOfLayer) {
  const std::vector<Finding> findings = lint_text(
      R"({"model_type": "qwen2_vl", "hidden_size": 64, "num_attention_heads": 8, "max_position_embeddings": 4096,
          "rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2], "partial_rotary_factor": {}}})");
  ASSERT_NE(find(findings, "R20"), nullptr) << in_words(findings);
  EXPECT_EQ(find(findings, "R20")->pointer, "/rope_scaling/partial_rotary_factor");
}

/// Gemma 3's class in transformers 5 takes rope_type alone (5.23.0, run: with type the full layers are plain).
TEST(LintRefusal, TypeAloneInGemma3IsSaid) {
  const auto said = [](const char* key, const char* type) {
    const Json dict = {{key, type}, {"factor", 8.0}};
    return lint_text(llama(Json{{"rope_scaling", dict}}.dump(), R"({"model_type": "gemma3_text", "head_dim": 128,
      "num_hidden_layers": 2, "layer_types": ["full_attention", "sliding_attention"]})"));
  };
  const std::vector<Finding> alone = said("type", "linear");
  const Finding* found = find(alone, "R03");
  ASSERT_NE(found, nullptr) << in_words(alone);
  EXPECT_EQ(found->pointer, "/rope_scaling/type");
  EXPECT_NE(found->fix.find("\"rope_type\": \"linear\""), std::string::npos) << found->fix;
  EXPECT_NE(found->message.find("transformers 4 stops with KeyError"), std::string::npos)
      << found->message;  // 4.57.6, run
  EXPECT_TRUE(found->edits.empty()) << "which of the two is meant is not known";
  // at the declared context a dynamic rope is the plain one that transformers 5 runs: past it, it is not
  for (const Finding& one : said("type", "dynamic")) EXPECT_TRUE(one.edits.empty()) << one.message;
  EXPECT_EQ(find(said("rope_type", "linear"), "R03"), nullptr);
  EXPECT_EQ(find(said("type", "default"), "R03"), nullptr);
}

}  // namespace
}  // namespace ropewalk::formats::lint_test
