// Files that are bent: a finding or an Error each, never a crash and never a guess. And the page of rules.
#include <filesystem>

#include "lib/error.h"
#include "lib/file.h"
#include "tests/formats/lint_support.h"

namespace ropewalk::formats::lint_test {
namespace {

namespace fs = std::filesystem;

bool any_error(const std::vector<Finding>& findings) {
  return std::any_of(findings.begin(), findings.end(),
                     [](const Finding& one) { return one.severity == Severity::error; });
}

/// The bad files of the issue: each must be an error, of one of these rules.
TEST(LintFiles, BadConfigsAreErrors) {
  struct Bad {
    const char* what;
    std::string config;
    std::vector<std::string> rules;
  };
  const auto scaling = [](const std::string& dict, const std::string& more = "{}") {
    Json patch = Json::parse(more);
    patch["rope_scaling"] = Json::parse(dict);
    return llama(patch.dump());
  };
  const std::vector<Bad> all = {
      {"a string for the factor",
       scaling(R"({"type": "yarn", "factor": "4.0", "original_max_position_embeddings": 4096})"),
       {"R20"}},
      {"a string for the original",
       scaling(R"({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": "4096"})"),
       {"R20"}},
      {"NaN",
       R"({"model_type": "llama", "rope_scaling": {"type": "yarn", "factor": NaN, "original_max_position_embeddings": 4096}})",
       {"R20"}},
      {"infinite theta", R"({"model_type": "llama", "rope_theta": Infinity})", {"R20"}},
      {"factor below 1", scaling(R"({"type": "linear", "factor": 0.25})"), {"R20"}},
      {"factor 0", scaling(R"({"type": "linear", "factor": 0.0})"), {"R20"}},
      {"negative factor", scaling(R"({"type": "linear", "factor": -4.0})"), {"R20"}},
      {"factor 1e308",
       scaling(R"({"type": "yarn", "factor": 1e308, "original_max_position_embeddings": 4096})"),
       {"R20"}},
      {"theta 1e308", llama(R"({"rope_theta": 1e308})"), {"R33"}},
      {"theta 0", llama(R"({"rope_theta": 0})"), {"R33"}},
      {"theta in quotes inside",
       R"({"model_type": "llama", "rope_parameters": {"rope_type": "default", "rope_theta": "1e6"}})",
       {"R20"}},
      {"types that conflict",
       scaling(R"({"type": "linear", "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096})"),
       {"R02"}},
      {"a type that is a number", scaling(R"({"type": 3, "factor": 4.0})"), {"R04"}},
      {"a list", llama(R"({"rope_scaling": [4.0]})"), {"R01"}},
      {"a string", llama(R"({"rope_scaling": "yarn"})"), {"R01"}},
      {"lists of the wrong length", golden_config("longrope-wrong-length"), {"R27"}},
      {"a list that is none", scaling(R"({"type": "longrope", "short_factor": 1.0, "long_factor": [1.0]})"), {"R27"}},
      {"a list with text", scaling(R"({"type": "longrope", "short_factor": ["a"], "long_factor": [1.0]})"), {"R27"}},
      {"nested keys of no layer",
       llama(
           R"({"layer_types": ["full_attention"], "rope_parameters": {"full_atention": {"rope_type": "default", "rope_theta": 1e6}}})"),
       {"R10"}},
      {"context as text", llama(R"({"max_position_embeddings": "32k"})"), {"R49"}},
      {"negative context", llama(R"({"max_position_embeddings": -1})"), {"R49"}},
      {"original 1e308",
       scaling(R"({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1e308})"),
       {"R21"}},
      {"partial of -1", llama(R"({"partial_rotary_factor": -1.0})"), {"R31"}},
      {"llama3 without its bands",
       scaling(R"({"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192})"),
       {"R20"}},
  };
  for (const Bad& bad : all) {
    const std::vector<Finding> findings = lint_text(bad.config);
    EXPECT_TRUE(any_error(findings)) << bad.what;
    for (const std::string& rule : bad.rules) {
      const Finding* found = find(findings, rule);
      ASSERT_NE(found, nullptr) << bad.what << "\n" << in_words(findings);
      EXPECT_GE(found->line, 1);
    }
  }
  // both dialects, different
  EXPECT_NE(find(lint_text(golden_config("v5-both-dialects")), "R05"), nullptr);
}

/// Line and column of the value, in characters, text before it of any kind.
TEST(LintFiles, PlacesAreThoseOfTheValues) {
  const std::string text =
      "{\n  \"name\": \"Größe \\\" {\", \"model_type\": \"llama\",\n  \"rope_scaling\": {\"type\": \"é\", "
      "\"rope_type\": \"x\"},\n  \"rope_theta\":   \"ten\"\n}\n";
  const std::vector<Finding> findings = lint_text(text);
  const Finding* types = find(findings, "R02");
  const Finding* theta = find(findings, "R33");
  ASSERT_TRUE(types && theta) << in_words(findings);
  EXPECT_EQ(std::pair(types->line, types->column), std::pair(3, 28));
  EXPECT_EQ(std::pair(theta->line, theta->column), std::pair(4, 19));
  const std::vector<Finding> nan = lint_text("{\"rope_scaling\": {\"type\": \"linear\",\n \"factor\": NaN}}");
  ASSERT_NE(find(nan, "R20"), nullptr);
  EXPECT_EQ(std::pair(find(nan, "R20")->line, find(nan, "R20")->column), std::pair(2, 12));
}

class Folder : public testing::Test {
 protected:
  Folder() {
    std::string pattern = (fs::temp_directory_path() / "ropewalk-lint-XXXXXX").string();
    path = mkdtemp(pattern.data());
  }
  ~Folder() override { fs::remove_all(path); }
  void write(const std::string& name, const std::string& text) { std::ofstream(path / name, std::ios::binary) << text; }
  fs::path path;
};

TEST_F(Folder, OfConfigsAlone) {
  write("config.json", llama(R"({"max_position_embeddings": 8192})"));
  write("tokenizer_config.json", "{\"model_max_length\": 4096}");
  std::vector<Finding> findings = lint(read_lint_input(path), {});
  ASSERT_NE(find(findings, "R41"), nullptr) << in_words(findings);
  EXPECT_EQ(find(findings, "R41")->file, (path / "tokenizer_config.json").string());
  // a file beside that is no JSON, or holds a key twice, is a finding; the rest is still looked at
  write("tokenizer_config.json", "{\"model_max_length\": }");
  write("generation_config.json", "{\"a\": 1,\n \"a\": 2}");
  write("config.json", llama(R"({"rope_theta": 0})"));
  findings = lint(read_lint_input(path), {});
  EXPECT_EQ(std::count_if(findings.begin(), findings.end(), [](const Finding& one) { return one.rule == "R00"; }), 2);
  EXPECT_NE(find(findings, "R33"), nullptr);
  // a file under another name is a config too, alone
  write("other.json", llama("{}"));
  EXPECT_FALSE(read_lint_input(path / "other.json").tokenizer_config);
  EXPECT_EQ(in_words(lint(read_lint_input(path / "other.json"), {})), "");
}

TEST_F(Folder, OfWhatIsNoModel) {
  EXPECT_THROW(read_lint_input(path), Error);
  EXPECT_THROW(read_lint_input(path / "none.json"), Error);
  write("config.json", "[1]");
  EXPECT_NE(find(lint(read_lint_input(path), {}), "R00"), nullptr);
  for (const std::string text : {"", "{", "\xef\xbb\xbf{}", "{\"a\": 1}x", "{'a': 1}", "nul", "\"\\ud800\""}) {
    write("config.json", text);
    const std::vector<Finding> findings = lint(read_lint_input(path), {});
    ASSERT_EQ(findings.size(), 1u) << text;
    EXPECT_EQ(findings[0].rule, "R00");
  }
}

/// JSONTestSuite as config.json: a finding, or an object that is no model's configuration.
TEST(LintFiles, JsonTestSuite) {
  int files = 0;
  for (const auto& entry : fs::recursive_directory_iterator(fs::path(ROPEWALK_GOLDEN_DIR) / "json")) {
    if (!entry.is_regular_file() || entry.path().extension() != ".json") continue;
    ++files;
    try {
      EXPECT_NE(find(lint(read_lint_input(entry.path()), {}), "R00"), nullptr) << entry.path();
    } catch (const Error& error) {
      EXPECT_EQ(error.problem(), "is no config.json: neither model_type nor hidden_size is there") << entry.path();
    }
  }
  EXPECT_GT(files, 200);
}

/// Any value in any place of the goldens' files.
TEST(LintFiles, AnyValueAnywhere) {
  int n = 0;
  for (const char* id : {"yarn-everywhere", "longrope-phi3", "v5-gemma3-nested", "llama3-31-8b", "dynamic4-original"}) {
    const Json config = Json::parse(golden_config(id));
    std::vector<std::string> pointers;
    for (const auto& item : config.items()) {
      pointers.push_back("/" + item.key());
      if (item.value().is_object())
        for (const auto& inner : item.value().items()) pointers.push_back("/" + item.key() + "/" + inner.key());
    }
    for (const std::string& pointer : pointers)
      for (const Json& value : golden::hostile_values()) {
        Json changed = config;
        changed[Json::json_pointer(pointer)] = value;
        for (const Finding& one : lint_text(changed.dump(1), asked({"transformers", "vllm"}, 65536)))
          EXPECT_GE(one.line, 1);
        ++n;
      }
  }
  EXPECT_GT(n, 800);
}

// GPT-NeoX keeps its causal mask in the weights: attention.bias [1, 1, 2048, 2048] (transformers 4.31, modeling_gpt_neox.py)
TEST(LintFiles, StoredTables) {
  LintInput input = input_of({llama(R"({"model_type": "gpt_neox", "max_position_embeddings": 8192})")});
  EXPECT_EQ(find(lint(input, {}), "R43"), nullptr);
  input.tensors = {{"gpt_neox.layers.0.attention.bias", {1, 1, 2048, 2048}},
                   {"gpt_neox.layers.0.attention.dense.bias", {4096}}};
  ASSERT_NE(find(lint(input, {}), "R43"), nullptr);
  EXPECT_EQ(find(lint(input, {}), "R43")->severity, Severity::info);
  EXPECT_EQ(find(lint(input, asked({}, 2048)), "R43"), nullptr);
  input.tensors = {{"transformer.wpe.weight", {1024, 768}}};
  EXPECT_NE(find(lint(input, {}), "R43"), nullptr);
}

/// docs/lint.md says what the table says.
TEST(LintFiles, ThePageOfRulesIsThatOfTheTable) {
  const std::string page = read_text_file(fs::path(ROPEWALK_TEST_DATA_DIR) / "../../docs/lint.md", 1 << 20);
  for (const LintRule& rule : lint_rules()) {
    const std::string severity = severity_name(rule.severity) + std::string(rule.by_engine ? ", by engine" : "");
    std::string text = "**" + std::string(rule.id) + " " + std::string(rule.name) + "** (" + severity +
                       "): " + std::string(rule.summary) + ". " + std::string(rule.why);
    if (!rule.sources.empty()) text += " Seen in " + std::string(rule.sources) + ".";
    EXPECT_NE(page.find("- " + text + "\n"), std::string::npos) << "docs/lint.md lacks:\n- " << text;
  }
}

}  // namespace
}  // namespace ropewalk::formats::lint_test
