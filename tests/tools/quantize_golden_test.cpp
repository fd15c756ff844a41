// The 351 runs of llama-quantize 0.5 in tests/golden/quant_runs, with its own arguments: the same bytes, or a refusal
// where it failed.
#include "tests/tools/quant_sources.h"

namespace ropewalk::tools::test {
namespace {

std::vector<std::string> words_of(const std::string& text) {
  std::istringstream in(text);
  std::vector<std::string> words;
  for (std::string word; in >> word;) words.push_back(word);
  return words;
}

std::vector<fs::path> outputs_in(const fs::path& folder) {
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.path().filename().string().starts_with("out")) found.push_back(entry.path());
  std::sort(found.begin(), found.end());
  return found;
}

class QuantizeGolden : public testing::TestWithParam<const char*> {};

TEST_P(QuantizeGolden, EveryRun) {
  const std::string name = GetParam();
  int every = 1;
#ifdef __SANITIZE_ADDRESS__
  every = 16;  // the encoders' own tests meet every block there; here their ways through the program
#endif
  const Scratch scratch;
  QuantSources(name).write(scratch.path());
  const Json runs = Json::parse(slurp(fs::path(ROPEWALK_GOLDEN_DIR) / "quant_runs/runs" / (name + ".runs.json")));
  int number = 0;
  for (const Json& one : runs["runs"]) {
    if (number++ % every != 0) continue;
    SCOPED_TRACE(name + " " + one["id"].get<std::string>());
    for (const fs::path& old : outputs_in(scratch.path())) fs::remove(old);
    std::vector<std::string> words = {"quantize", "--no-sync", "--quiet"};
    for (const std::string& word : words_of(one["args"].get<std::string>())) words.push_back(word);
    words.push_back(std::to_string(1 + number % 3));  // threads change nothing
    const Ran ran = run(words, {.folder = scratch.path()});
    const std::vector<fs::path> files = outputs_in(scratch.path());
    if (!one.contains("tensors")) {
      EXPECT_NE(ran.exit, 0);
      EXPECT_EQ(ran.err_lines().size(), 1u) << ran.err;
      EXPECT_TRUE(files.empty());
      continue;
    }
    ASSERT_EQ(ran.exit, 0) << ran.err;
    const Json hashes = one["file_sha256"].is_array() ? one["file_sha256"] : Json::array({one["file_sha256"]});
    ASSERT_EQ(files.size(), hashes.size());
    for (std::size_t i = 0; i < files.size(); ++i) {
      EXPECT_EQ(fs::file_size(files[i]), one["size"][i].get<std::uint64_t>());
      EXPECT_EQ(sha256(slurp(files[i])), hashes[i].get<std::string>());
    }
  }
  EXPECT_GE(number, 80);
}
INSTANTIATE_TEST_SUITE_P(Models, QuantizeGolden, testing::Values("d512", "deep16", "moe8", "odd"));

// moe8's matrix counts 512 rows for experts 0 to 6 of both layers and none for 7 (by the gguf package).
TEST(QuantizeMoe, ExpertsNeverHitAreNamed) {
  const Scratch scratch;
  QuantSources("moe8").write(scratch.path());
  const std::vector<std::string> words = {"quantize",  "--dry-run", "--imatrix", "moe8.imatrix.gguf",
                                          "moe8.gguf", "out.gguf",  "Q4_K_M"};
  const Ran said = run(words, {.folder = scratch.path()});
  ASSERT_EQ(said.exit, 0) << said.err;
  EXPECT_NE(said.out.find("experts never hit: 7 of blk.0.ffn_down_exps.weight, 7 of blk.0.ffn_gate_exps.weight, "),
            std::string::npos)
      << said.out;
  std::vector<std::string> with_json = words;
  with_json.push_back("--json");
  const Json found = run(with_json, {.folder = scratch.path()}).json()["importances"]["experts_never_hit"];
  ASSERT_EQ(found.size(), 6u);
  for (const Json& one : found) EXPECT_EQ(one["experts"], Json::array({7}));
  EXPECT_EQ(found[5]["tensor"], "blk.1.ffn_up_exps.weight");
}

}  // namespace
}  // namespace ropewalk::tools::test
