// --unmerged: adapters beside the weights, through the commands that compute.
#include <algorithm>
#include <cmath>

#include "formats/safetensors.h"
#include "tests/tools/command.h"

namespace ropewalk::tools::test {
namespace {

const std::string kSource = model("tolstoy-4m-yarn-2k") + "+" + fixture("adapters/qlora-shakespeare");

std::vector<float> logits_in(const std::string& path) {
  std::vector<float> values;
  const auto file = formats::read_safetensors(path);
  for (const TensorPtr& tensor : file.tensors)
    if (tensor->name() == "logits") {
      values.resize(tensor->info().elements());
      tensor->read_f32({0, tensor->info().rows()}, values);
    }
  return values;
}

// The numbers are PEFT's in verify/unmerged_test.cpp; here the option must reach them: the same function as a merge, but
// for the rounding to f16 that the merge has.
TEST(Unmerged, LogitsAreTheMergesButForItsRounding) {
  const Scratch folder;
  const std::string ids = (folder / "ids.json").string();
  spill(ids, "[1, 300, 17, 5, 900, 44, 61, 1200, 7, 7]");
  const auto at = [&](const char* name, const std::vector<std::string>& more) {
    std::vector<std::string> words = {"logits", kSource, "--tokens", ids, "-o", (folder / name).string(), "--json"};
    words.insert(words.end(), more.begin(), more.end());
    const Ran ran = run(words);
    EXPECT_EQ(ran.exit, 0) << ran.err;
    EXPECT_EQ(ran.json()["unmerged"], !more.empty());
    return logits_in((folder / name).string());
  };
  const std::vector<float> merged = at("merged.safetensors", {}), apart = at("apart.safetensors", {"--unmerged"});
  ASSERT_EQ(merged.size(), 10u * 2048u);
  ASSERT_EQ(apart.size(), merged.size());
  float largest = 0;
  for (std::size_t i = 0; i < merged.size(); ++i) largest = std::max(largest, std::abs(merged[i] - apart[i]));
  EXPECT_GT(largest, 1e-5f);
  EXPECT_LT(largest, 0.05f);
}

TEST(Unmerged, VerifyJudgesAMergeByWhatWasTrained) {
  const Scratch folder;
  const Ran merge = run({"merge", kSource, "-o", (folder / "merged").string()});
  ASSERT_EQ(merge.exit, 0) << merge.err;
  const std::vector<std::string> words = {"verify", (folder / "merged").string(), "--against", kSource, "-c", "128",
                                          "--json"};
  const Ran same = run(words);
  ASSERT_EQ(same.exit, 0) << same.err;
  EXPECT_EQ(same.json()["logits"]["kl_mean"], 0) << "merged against merged";
  EXPECT_EQ(same.json()["unmerged"], false);
  std::vector<std::string> more = words;
  more.push_back("--unmerged");
  const Ran apart = run(more);
  ASSERT_EQ(apart.exit, 0) << apart.out << apart.err;
  const double kl = apart.json()["logits"]["kl_mean"].get<double>();
  EXPECT_GT(kl, 0);  // f16 rounds
  EXPECT_LT(kl, 1e-4);
  EXPECT_EQ(apart.json()["unmerged"], true);
  more.erase(std::ranges::find(more, "--json"));
  EXPECT_NE(run(more).out.find("; the source's adapters not merged"), std::string::npos);
}

TEST(Unmerged, PerplexitySaysSo) {
  const std::vector<std::string> words = {"perplexity", kSource, "-f",        fixture("goldens/perplexity/doc-1.txt"),
                                          "-c",         "128",   "--windows", "2",
                                          "--unmerged"};
  const Ran ran = run(words);
  ASSERT_EQ(ran.exit, 0) << ran.err;
  EXPECT_NE(ran.out.find("; adapters not merged"), std::string::npos) << ran.out;
}

TEST(Unmerged, WithoutAnAdapterItIsRefused) {
  for (const std::vector<std::string>& words :
       {std::vector<std::string>{"perplexity", model("stories260K"), "--unmerged"},
        {"generate", model("stories260K"), "-p", "Once", "--unmerged"},
        {"logits", model("stories260K"), "--unmerged", "-o", "never-written.safetensors"},
        {"verify", kSource, "--against", model("stories260K"), "--unmerged"}}) {
    const Ran ran = run(words);
    EXPECT_EQ(ran.exit, 2) << words.front();
    EXPECT_NE(ran.err.find("--unmerged was given, and '" + model("stories260K") + "' has no adapter"),
              std::string::npos)
        << ran.err;
  }
  EXPECT_EQ(run({"merge", kSource, "-o", "never-written", "--unmerged"}).exit, 2) << "a merge merges";
}

}  // namespace
}  // namespace ropewalk::tools::test
