#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "formats/lint/lint.h"
#include "tests/formats/rope_golden.h"

namespace ropewalk::formats::lint_test {

/// A folder's files as text; empty: not there.
struct Files {
  std::string config, tokenizer_config = {}, generation_config = {};
};

inline LintInput input_of(const Files& files) {
  LintInput input;
  input.config = parse_lint_file("config.json", files.config);
  if (!files.tokenizer_config.empty())
    input.tokenizer_config = parse_lint_file("tokenizer_config.json", files.tokenizer_config);
  if (!files.generation_config.empty())
    input.generation_config = parse_lint_file("generation_config.json", files.generation_config);
  return input;
}

inline LintOptions asked(const std::vector<std::string>& engines, std::optional<int> context = std::nullopt) {
  LintOptions options;
  for (const std::string& engine : engines) options.engines.push_back(parse_engine(engine));
  options.context = context;
  return options;
}

inline std::vector<Finding> lint_text(const std::string& config, const LintOptions& options = {}) {
  return lint(input_of({config}), options);
}

/// A Llama 2 of 4096 tokens with `patch` merged in (RFC 7396: null removes).
inline std::string llama(const std::string& patch, const std::string& model = "{}") {
  Json config = Json::parse(R"({"model_type": "llama", "hidden_size": 4096, "num_attention_heads": 32,
    "num_hidden_layers": 32, "max_position_embeddings": 4096, "rope_theta": 10000.0})");
  config.merge_patch(Json::parse(model));
  config.merge_patch(Json::parse(patch));
  return config.dump(2);
}

inline std::string in_words(const std::vector<Finding>& findings) {
  std::string out;
  for (const Finding& one : findings)
    out += std::string(severity_name(one.severity)) + "[" + std::string(one.rule) + "] " + one.file + " " +
           one.pointer + ": " + one.message + "\n";
  return out;
}

inline const Finding* find(const std::vector<Finding>& findings, std::string_view rule) {
  for (const Finding& one : findings)
    if (one.rule == rule) return &one;
  return nullptr;
}

/// The config of a case of tests/golden/rope, as text.
inline std::string golden_config(const std::string& id) {
  for (const Json& one : golden::engines()["cases"])
    if (one["id"] == id) return one["config"].dump(2);
  ADD_FAILURE() << id;
  return "{}";
}

}  // namespace ropewalk::formats::lint_test
