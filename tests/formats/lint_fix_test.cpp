#include "formats/lint/lint_fix.h"

#include "lib/error.h"
#include "tests/formats/lint_support.h"

namespace ropewalk::formats::lint_test {
namespace {

std::string edit(const std::string& text, const std::vector<JsonEdit>& edits) {
  const std::string out = edit_json_text("config.json", text, edits);
  Json want = Json::parse(text);
  for (const JsonEdit& one : edits) want[Json::json_pointer(one.pointer)] = one.value;
  EXPECT_EQ(nlohmann::json(Json::parse(out)), nlohmann::json(want)) << out;  // order aside
  return out;
}

TEST(LintFix, TextIsEditedWhereTheValuesStand) {
  const std::string text =
      "{\n    \"a\": 4,\n\t\"b\": {\n        \"type\": \"yarn\" ,\n        \"list\": [1, {\"}\": \"]\\\"\"}]\n    },   "
      "\"c\" : null\n}\n";
  EXPECT_EQ(edit(text, {{"/a", 4.0}}).find("\"a\": 4.0,\n\t\"b\""), 6u);
  EXPECT_NE(edit(text, {{"/b/rope_type", "yarn", "type"}})
                .find("\"type\": \"yarn\",\n        \"rope_type\": \"yarn\" ,\n        \"list\""),
            std::string::npos);
  EXPECT_NE(edit(text, {{"/b/list", 3}}).find("\"list\": 3\n    },   \"c\" : null"), std::string::npos);
  EXPECT_NE(edit(text, {{"/b/new", true, "not there"}}).find("{\n        \"new\": true,\n        \"type\""),
            std::string::npos);
  EXPECT_NE(edit(text, {{"/c", "x"}}).find("\"c\" : \"x\"\n}"), std::string::npos);
  EXPECT_EQ(edit("{}", {{"/a", 1}}), "{\"a\": 1}");
  EXPECT_EQ(edit("{\"a\":1}", {{"/b", 2, "a"}}), "{\"a\":1, \"b\": 2}");
  EXPECT_EQ(edit("{\"a\":1}", {{"/a", 2.5}}), "{\"a\":2.5}");
  EXPECT_EQ(edit("{\"a\":{\"b\":-1e3}}", {{"/a/b", 2}}), "{\"a\":{\"b\":2}}");
  EXPECT_THROW(edit_json_text("config.json", "{\"a\": 1}", {{"/a/b", 2}}), Error);
}

LintFixes fixes(const Files& files, const LintOptions& options = {}) {
  const LintInput input = input_of(files);
  return safe_fixes(input, options, lint(input, options));
}
const LintFix* of(const LintFixes& all, std::string_view rule) {
  for (const LintFix& one : all.fixes)
    if (one.rule == rule) return &one;
  return nullptr;
}

// golden linear4-int: TypeError in vllm and sglang, ValueError in transformers up to 4.42; 4.0 is read by all
TEST(LintFix, AnIntegerFactorBecomesAFloat) {
  const std::string before = golden_config("linear4-int");
  const LintFixes all = fixes({before});
  ASSERT_NE(of(all, "R20"), nullptr);
  EXPECT_EQ(of(all, "R20")->rejected, "");
  ASSERT_EQ(all.files.size(), 1u);
  EXPECT_EQ(Json::parse(all.files[0].after)["rope_scaling"]["factor"].dump(), "4.0");
  EXPECT_EQ(lint_text(all.files[0].after, asked({"vllm", "sglang", "transformers@4.31"})).size(),
            lint_text(golden_config("linear4-type"), asked({"vllm", "sglang", "transformers@4.31"})).size());
}

/// No engine computes with a number in quotes.
TEST(LintFix, NumbersLoseTheirQuotes) {
  const LintInput input = input_of({llama(R"({"max_position_embeddings": 16384, "rope_scaling": {"rope_type": "yarn",
    "type": "yarn", "factor": "4", "original_max_position_embeddings": 4096, "beta_fast": "32"}})")});
  const LintFixes fixes = safe_fixes(input, {}, lint(input, {}));
  ASSERT_EQ(fixes.files.size(), 1u);
  const Json after = Json::parse(fixes.files[0].after)["rope_scaling"];
  EXPECT_EQ(after["factor"].dump(), "4.0");
  EXPECT_EQ(after["beta_fast"].dump(), "32");
}

// golden linear4-rope-type: transformers 4.42 wants exactly type and factor, and exllamav2 refuses a file with both
TEST(LintFix, ASecondSpellingIsLeftWhereAnEngineRefusesIt) {
  const LintFixes all = fixes({golden_config("linear4-rope-type")}, asked({"llama.cpp@2025-02"}));
  ASSERT_NE(of(all, "R03"), nullptr);
  EXPECT_NE(of(all, "R03")->rejected, "");
  EXPECT_TRUE(all.files.empty());
}

TEST(LintFix, OtherFilesAreRaisedToTheContext) {
  const std::string config = llama(R"({"max_position_embeddings": 65536,
    "rope_scaling": {"rope_type": "yarn", "factor": 16.0, "original_max_position_embeddings": 4096}})");
  const LintFixes all = fixes({config, "{\n  \"model_max_length\": 4096\n}\n", "{\"max_length\": 4096}"});
  ASSERT_EQ(all.files.size(), 2u);
  EXPECT_EQ(all.files[0].after, "{\n  \"model_max_length\": 65536\n}\n");
  EXPECT_EQ(all.files[1].after, "{\"max_length\": 65536}");
}

// A YaRN of 8192 tokens whose original context is misspelt: 32768 x 16 tokens are nobody's length.
TEST(LintFix, NoLengthIsWrittenFromAnOriginalContextInDoubt) {
  const auto of_key = [](const char* key, int length = 32768) {
    return Files{llama(R"({"max_position_embeddings": )" + std::to_string(length) +
                       R"(, "rope_scaling": {"rope_type": "yarn", "factor": 16.0, ")" + key + R"(": 8192}})"),
                 R"({"model_max_length": 4096})", R"({"max_length": 4096})"};
  };
  const LintFixes doubted = fixes(of_key("original_max_position_embedding"));
  for (const char* rule : {"R41", "R42"}) {
    ASSERT_NE(of(doubted, rule), nullptr) << rule;
    EXPECT_NE(of(doubted, rule)->rejected, "") << rule;
  }
  for (const FixedFile& file : doubted.files) EXPECT_EQ(file.path, "config.json");
  for (const Finding& one : lint(input_of(of_key("original_max_position_embedding")), {}))
    EXPECT_EQ(one.fix.find("524288"), std::string::npos) << one.rule << " " << one.fix;  // 16 times a guess
  // spelt right, factor x original is still not the length that every engine serves
  const LintFixes open = fixes(of_key("original_max_position_embeddings"));
  EXPECT_TRUE(open.files.empty());
  ASSERT_NE(of(open, "R41"), nullptr);
  EXPECT_EQ(of(open, "R41")->rejected, "settle R22 first: it decides which length");
  for (const Finding& one : lint(input_of(of_key("original_max_position_embeddings")), {}))
    if (one.rule == "R41" || one.rule == "R42") {
      EXPECT_EQ(one.fix.rfind("settle R22 first", 0), 0u) << one.fix;
      EXPECT_TRUE(one.flags.empty());
    }
  // the control: spelt right and served, and asked for
  const LintFixes sure = fixes(of_key("original_max_position_embeddings", 131072));
  ASSERT_NE(of(sure, "R41"), nullptr);
  EXPECT_EQ(of(sure, "R41")->rejected, "");
  const LintFixes asked_for = fixes(of_key("original_max_position_embedding"), asked({"transformers"}, 131072));
  ASSERT_NE(of(asked_for, "R41"), nullptr);
  EXPECT_EQ(of(asked_for, "R41")->rejected, "");
}

// golden v5-scaling-loses-theta: theta 1e6 in rope_parameters, 10000 everywhere
TEST(LintFix, ALostBaseIsWrittenWhereItIsRead) {
  const LintFixes all = fixes({golden_config("v5-scaling-loses-theta")});
  ASSERT_NE(of(all, "R06"), nullptr);
  EXPECT_EQ(of(all, "R06")->rejected, "");
  for (const char* engine : {"transformers", "transformers@4.56.2", "vllm", "sglang", "llama.cpp"})
    EXPECT_EQ(find(lint_text(all.files.at(0).after, asked({engine})), "R06"), nullptr) << engine;
}

/// Two dictionaries that differ: a base in one of them would choose between them.
TEST(LintFix, ALostBaseWaitsForTheDictionary) {
  const LintFixes all = fixes(
      {R"({"model_type": "llama", "hidden_size": 4096, "num_attention_heads": 32, "max_position_embeddings": 16384,
 "rope_scaling": {"rope_type": "linear", "factor": 4.0},
 "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1000000.0}})"});
  EXPECT_EQ(of(all, "R06"), nullptr);
}

/// Nothing is fixed twice, and a fixed file has no fix left.
TEST(LintFix, FixesAreStable) {
  for (const Json& one : golden::engines()["cases"]) {
    const std::string before = one["config"].dump(2);
    const LintFixes first = fixes({before});
    if (first.files.empty()) continue;
    const LintFixes second = fixes({first.files[0].after});
    EXPECT_TRUE(second.files.empty()) << one["id"];
  }
}

TEST(LintFix, UnifiedDiff) {
  EXPECT_EQ(unified_diff("f", "1\n2\n3\n4\n5\n6\n7\n8\n9\n", "1\n2\n3\n4\nfive\n6\n7\n8\n9\n"),
            "--- f\n+++ f\n@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n");
  EXPECT_EQ(unified_diff("f", "a\n", "a\nb\n"), "--- f\n+++ f\n@@ -1,1 +1,2 @@\n a\n+b\n");
}

}  // namespace
}  // namespace ropewalk::formats::lint_test
