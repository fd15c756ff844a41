// What lint says of engines, and what it says is to be done about one.
#include <set>

#include "tests/formats/lint_support.h"

namespace ropewalk::formats::lint_test {
namespace {

/// What is to be done about an engine is a command, or that none does it. exllamav2 0.3.2 refuses a file with both
/// spellings, and has no YaRN over the original context; transformers 4.37 knows neither.
TEST(LintEngines, AdviceNamesWhatCanBeWritten) {
  const auto fix_of = [](const std::string& config, const std::string& rule, const std::vector<std::string>& engines) {
    LintInput input;
    input.config = parse_lint_file("it's here/config.json", config);
    const std::vector<Finding> findings = lint(input, asked(engines));
    const Finding* found = find(findings, rule);
    return found ? found->fix : "no " + rule + "\n" + in_words(findings);
  };
  const std::string yarn = llama(R"({"max_position_embeddings": 16384, "rope_scaling": {"rope_type": "yarn",
    "type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096}})");
  // types that transformers does not know: the rope that says the same
  const std::string place = "replace it: ropewalk extend 'it'\\''s here' -o NEW --rope ";
  EXPECT_EQ(fix_of(llama(R"({"rope_scaling": {"type": "ntk-by-parts", "factor": 4.0,
                              "original_max_position_embeddings": 4096}})"),
                   "E01", {"transformers"}),
            place + "ntk-by-parts,factor=4,original=4096");
  EXPECT_EQ(fix_of(llama(R"({"rope_scaling": {"type": "dynamic", "alpha": 8.0}})"), "E01", {"transformers"}),
            place + "ntk,alpha=8,original=L, L the context before scaling");
  EXPECT_EQ(fix_of(llama(R"({"num_hidden_layers": "32"})"), "E01", {"vllm"}), "write 32");
  const std::string linear = llama(R"({"max_position_embeddings": 16384, "rope_scaling": {"rope_type": "linear",
    "type": "linear", "factor": 4.0}})");
  EXPECT_EQ(
      fix_of(yarn, "E01", {"exllamav2"}),
      "no config.json that ropewalk can write makes exllamav2 0.3.2 run it: leave that engine out, or take another "
      "rope");
  EXPECT_EQ(fix_of(yarn, "E01", {"transformers@4.37"}),
            "no config.json that ropewalk can write makes transformers 4.37 run it: leave that engine out, or take "
            "another rope");
  EXPECT_EQ(fix_of(linear, "E01", {"exllamav2"}),
            "write what is read: ropewalk extend 'it'\\''s here' -o NEW --rope native --engine exllamav2@0.3.2");
  // longrope on a llama is dropped by llama.cpp's converter; rope_freqs.weight of a GGUF says it
  Json lists = Json::array();
  for (int pair = 0; pair < 64; ++pair) lists.push_back(1 + pair / 8.0);
  Json longrope = Json::parse(llama(R"({"max_position_embeddings": 16384})"));
  longrope["rope_scaling"] = {{"rope_type", "longrope"}, {"type", "longrope"},
                              {"short_factor", lists},   {"long_factor", lists},
                              {"attention_factor", 1.1}, {"original_max_position_embeddings", 4096}};
  EXPECT_EQ(fix_of(longrope.dump(), "E02", {"llama.cpp"}),
            "no config.json makes llama.cpp 0.5.0 run it, a GGUF does: ropewalk convert 'it'\\''s here' -o NEW.gguf "
            "--type f16");
  // the command comes last: "; ..." behind it would be run by a shell
  const std::string qwen = llama(
      R"({"rope_parameters": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 2.0, "high_freq_factor": 4.0}})",
      R"({"model_type": "qwen3", "head_dim": 128})");
  const std::string mixed = fix_of(qwen, "E02", {"llama.cpp", "exllamav2"});
  EXPECT_TRUE(mixed.starts_with("no config.json that ropewalk can write makes llama.cpp 0.5.0 run it, for the others "))
      << mixed;
  EXPECT_TRUE(mixed.ends_with(" -o NEW --rope native --engine exllamav2@0.3.2")) << mixed;
  // several kinds of layers: the one that differs is named
  const std::vector<Finding> findings = lint_text(llama(R"({"model_type": "gemma3_text", "head_dim": 128,
    "sliding_window": 512, "num_hidden_layers": 2, "layer_types": ["full_attention", "sliding_attention"],
    "rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1000000.0}}})"));
  const Finding* found = find(findings, "E02");
  ASSERT_NE(found, nullptr) << in_words(findings);
  EXPECT_NE(found->message.find(" in sliding_attention, transformers 5.23.0 plain (theta 10000"), std::string::npos)
      << found->message;
}

// The engines' own output against what is said of them ---------------------------------------------------------------

const std::vector<std::pair<std::string, std::string>> kRun = {{"transformers-5.23.0", "transformers@5.23.0"},
                                                               {"transformers-4.57.6", "transformers@4.57.6"},
                                                               {"transformers-4.51.3", "transformers@4.51.3"},
                                                               {"transformers-4.42.4", "transformers@4.42.4"},
                                                               {"vllm-0.33.0", "vllm@0.33.0"},
                                                               {"vllm-0.24.0", "vllm@0.24.0"},
                                                               {"vllm-0.12.0", "vllm@0.12.0"},
                                                               {"sglang-0.5.23", "sglang@0.5.23"},
                                                               {"sglang-0.5.3", "sglang@0.5.3"}};

bool is_error(const Finding& finding) { return finding.severity == Severity::error; }

TEST(LintEngines, WhereAnEngineErrsThereIsAnError) {
  int erring = 0;
  for (const Json& one : golden::engines()["cases"])
    for (const auto& [row, engine] : kRun) {
      const Json& result = golden::result_of(one, row);
      if (result.is_null() || !result.contains("error")) continue;
      ++erring;
      const std::vector<Finding> findings = lint_text(one["config"].dump(2), asked({engine}));
      EXPECT_TRUE(std::any_of(findings.begin(), findings.end(), is_error))
          << one["id"] << " in " << engine << " raises " << result["error"] << "\n"
          << in_words(findings);
    }
  EXPECT_GT(erring, 100);
}

/// Files that an engine reads as transformers 5.23.0 does, vector for vector, get no finding that says otherwise.
TEST(LintEngines, WhereAnEngineAgreesNothingElseIsSaid) {
  int agreeing = 0;
  for (const Json& one : golden::engines()["cases"]) {
    const Json& newest_row = golden::result_of(one, "transformers-5.23.0");
    if (newest_row.is_null() || !newest_row.contains("layers") || newest_row["layers"].size() != 1) continue;
    for (const auto& [row, engine] : kRun) {
      const Json& result = golden::result_of(one, row);
      if (result.is_null() || !result.contains("layers") || result["layers"].size() != 1) continue;
      const Json &mine = result["layers"].begin().value(), &other = newest_row["layers"].begin().value();
      bool same = mine.size() >= 1 && other.size() >= 1;
      // transformers has a row a length where the rope depends on it
      if (other.size() != 1 || mine.size() != 1) continue;
      for (const char* key : {"inv_freq", "a", "position_divisor"})
        same = same && mine[0].contains(key) == other[0].contains(key) &&
               (!mine[0].contains(key) || mine[0].at(key) == other[0].at(key));
      if (!same) continue;
      ++agreeing;
      for (const Finding& finding : lint_text(one["config"].dump(2), asked({engine})))
        EXPECT_FALSE(finding.rule == "E01" || finding.rule == "E02" || finding.rule == "E03")
            << one["id"] << " in " << engine << ": " << finding.message;
    }
  }
  EXPECT_GT(agreeing, 200);
}

}  // namespace
}  // namespace ropewalk::formats::lint_test
