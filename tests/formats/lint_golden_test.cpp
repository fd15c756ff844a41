// 162 published config.json files and what is found in each: every finding was looked at (tests/golden/lint_findings.txt).
#include <filesystem>

#include "lib/file.h"
#include "tests/formats/lint_support.h"

namespace ropewalk::formats::lint_test {
namespace {

namespace fs = std::filesystem;
const fs::path kConfigs = fs::path(ROPEWALK_GOLDEN_DIR) / "lint/configs";
const fs::path kFindings = fs::path(ROPEWALK_TEST_DATA_DIR) / "lint_findings.txt";

/// "line:column severity[rule] pointer {engines}": messages may be reworded.
std::string compact(const Finding& one) {
  std::string engines;
  for (const std::string& engine : one.engines) engines += (engines.empty() ? " {" : ", ") + engine;
  return "  " + std::to_string(one.line) + ":" + std::to_string(one.column) + " " + severity_name(one.severity) + "[" +
         std::string(one.rule) + "]" + (one.pointer.empty() ? "" : " " + one.pointer) + engines +
         (engines.empty() ? "" : "}") + "\n";
}

std::vector<fs::path> configs() {
  std::vector<fs::path> all;
  for (const auto& entry : fs::directory_iterator(kConfigs)) all.push_back(entry.path());
  std::sort(all.begin(), all.end());
  return all;
}

TEST(LintGolden, PublishedConfigs) {
  const std::vector<fs::path> all = configs();
  ASSERT_EQ(all.size(), 162u);
  std::string got;
  for (const fs::path& path : all) {
    const std::vector<Finding> findings = lint(read_lint_input(path), {});
    got += path.filename().string() + "\n";
    for (const Finding& one : findings) got += compact(one);
  }
  const std::string want = read_text_file(kFindings, 1 << 20);
  if (got == want) return;
  const fs::path written = fs::temp_directory_path() / "lint_findings.txt";
  std::ofstream(written, std::ios::binary) << got;
  FAIL() << "what lint finds in the 162 files is not what tests/golden/lint_findings.txt says; what it finds now is in "
         << written << ": look at every difference";
}

/// Of published files one is wrong for all engines: Yarn-Mistral's, whose betas stand in its code alone.
TEST(LintGolden, NoFalseErrors) {
  for (const fs::path& path : configs())
    for (const Finding& one : lint(read_lint_input(path), {}))
      if (one.severity == Severity::error) {
        EXPECT_EQ(one.rule, "R08") << path;
        EXPECT_EQ(path.filename(), "Yarn-Mistral-7b-128k.json");
      }
}

/// Whatever engine is named: places exist, texts are one line, and nothing throws.
TEST(LintGolden, EveryEngineOnEveryConfig) {
  for (const fs::path& path : configs()) {
    const LintInput input = read_lint_input(path);
    for (const char* engine : {"transformers@4.51", "vllm@0.10", "sglang@0.5.3", "llama.cpp@2025-02", "exllamav3"})
      for (const Finding& one : lint(input, asked({engine}, 131072))) {
        EXPECT_GE(one.line, 1);
        EXPECT_EQ(one.message.find('\n'), std::string::npos) << one.message;
        EXPECT_NE(find_lint_rule(one.rule), nullptr) << one.rule;
        EXPECT_FALSE(one.fix.empty()) << one.rule;
      }
  }
}

}  // namespace
}  // namespace ropewalk::formats::lint_test
