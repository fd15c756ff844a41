// verify --save-reference and --reference: an export judged without the source's weights.
#include <set>

#include "formats/saved_reference.h"
#include "tests/tools/last_norm.h"

namespace ropewalk::tools::test {
namespace {

class SavedReference : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    scratch = new Scratch;
    ASSERT_EQ(run({"convert", source(), "-o", good(), "--type", "q8_0", "--no-sync"}).exit, 0);
    const Ran saved = save(reference(), {"--windows", "2"});
    ASSERT_EQ(saved.exit, 0) << saved.err;
  }
  static void TearDownTestSuite() {
    delete scratch;
    scratch = nullptr;
  }
  static std::string source() { return model("tolstoy-4m-yarn-2k") + "+" + adapter(); }
  static std::string good() { return (*scratch / "good.gguf").string(); }
  static std::string reference() { return (*scratch / "source.rwref").string(); }
  static Ran save(const std::string& path, std::vector<std::string> more = {}) {
    std::vector<std::string> words = {"verify", "--against", source(), "--save-reference", path, "-c", "512"};
    words.insert(words.end(), more.begin(), more.end());
    return run(words);
  }
  static Ran judge(const std::string& candidate, std::vector<std::string> more = {}) {
    std::vector<std::string> words = {"verify", candidate, "--reference", reference(), "--json"};
    words.insert(words.end(), more.begin(), more.end());
    return run(words);
  }
  static std::string bent(const std::string& name, const std::string& from, const std::string& to) {
    std::string bytes = slurp(good());
    for (std::size_t at = 0, n = 0; (at = bytes.find(from, at)) != std::string::npos; at += to.size(), ++n)
      bytes.replace(at, from.size(), to);
    spill(*scratch / name, bytes);
    return (*scratch / name).string();
  }
  /// Names of the gates that failed, each once.
  static std::set<std::string> failed(const Ran& ran) {
    std::set<std::string> names;
    for (const Json& gate : ran.json()["gates"])
      if (gate["pass"] == false) names.insert(gate["name"].get<std::string>());
    return names;
  }
  static Scratch* scratch;
};
Scratch* SavedReference::scratch = nullptr;

TEST_F(SavedReference, JudgesAsTheSourceDoes) {
  const Ran by_file = judge(good()),
            by_source = run({"verify", good(), "--against", source(), "-c", "512", "--windows", "2", "--json"});
  ASSERT_EQ(by_file.exit, 0) << by_file.out << by_file.err;
  const Json &a = by_file.json(), &b = by_source.json();
  EXPECT_EQ(a["pass"], true);
  EXPECT_TRUE(a["weights"].is_null());
  EXPECT_EQ(a["reference"]["top"], 64);
  for (const char* figure : {"top1", "ppl_ratio", "perplexity_source", "perplexity_candidate"})
    EXPECT_EQ(a["logits"][figure], b["logits"][figure]) << figure;
  const double kl = b["logits"]["kl_mean"], estimate = a["logits"]["kl_mean"],
               least = a["reference"]["kl_mean_at_least"];
  EXPECT_LE(least, kl);
  EXPECT_NEAR(estimate, kl, 0.01 * kl);
  EXPECT_TRUE(b["reference"].is_null());
  const std::string text = run({"verify", good(), "--reference", reference(), "--quiet"}).out;
  EXPECT_NE(text.find("\nPASS; weights not judged\n"), std::string::npos) << text;
  EXPECT_NE(text.find("% of its probability; the mean is at least "), std::string::npos) << text;
}

TEST_F(SavedReference, CatchesWhatTheSourceWouldCatch) {
  EXPECT_TRUE(failed(judge(bent("no-rope.gguf", "llama.rope.scaling", "xxxxx.rope.scaling"))).contains("kl_mean"));
  EXPECT_TRUE(failed(judge(bent("no-rope.gguf", "llama.rope.scaling", "xxxxx.rope.scaling"))).contains("rope"));
  EXPECT_EQ(failed(judge(bent("token.gguf", "\xE2\x96\x81prince", "\xE2\x96\x81qrince"))),
            std::set<std::string>{"tokenizer"});
  // the adapter is not in it
  ASSERT_EQ(run({"convert", model("tolstoy-4m-yarn-2k"), "-o", (*scratch / "bare.gguf").string(), "--type", "q8_0",
                 "--no-sync"})
                .exit,
            0);
  const Ran bare = judge((*scratch / "bare.gguf").string());
  EXPECT_EQ(bare.exit, 1);
  EXPECT_TRUE(failed(bare).contains("kl_mean"));
  EXPECT_EQ(judge(good(), {"--max", "kl_mean@256:=1e-9"}).exit, 1);
  const Ran other = judge(model("stories260K"));
  EXPECT_EQ(other.exit, 1);
  EXPECT_TRUE(failed(other).contains("tensors"));
}

TEST_F(SavedReference, IsOfOneTextAndContext) {
  const Ran text = judge(good(), {"-f", fixture("goldens/perplexity/doc-1.txt")});
  EXPECT_EQ(text.exit, 3);
  EXPECT_NE(text.json()["error"]["message"].get<std::string>().find("was made of the text 'war-and-peace-tail"),
            std::string::npos)
      << text.out;
  EXPECT_EQ(judge(good(), {"-c", "256"}).exit, 2);
  EXPECT_EQ(judge(good(), {"-c", "512"}).exit, 0);
  EXPECT_EQ(judge(good(), {"--windows", "1"}).exit, 2);
  EXPECT_EQ(judge(good(), {"--level", "weights"}).exit, 2);
  EXPECT_EQ(judge(good(), {"--against", source()}).exit, 2);
  EXPECT_EQ(judge(good(), {"--max", "kl_mean@512:=1"}).exit, 2) << "past the reference's context";
  EXPECT_EQ(judge(good(), {"--level", "structure"}).exit, 0);
}

TEST_F(SavedReference, SavingSaysWhatItKeptAndOverwritesNothing) {
  const std::string path = (*scratch / "again.rwref").string();
  const Ran saved = save(path, {"--windows", "2", "-t", "1", "--json"});
  ASSERT_EQ(saved.exit, 0) << saved.err;
  EXPECT_EQ(slurp(path), slurp(reference())) << "the same bytes whatever the threads";
  EXPECT_EQ(saved.json()["tokens"], 1024);
  EXPECT_EQ(saved.json()["bytes"], fs::file_size(path));
  EXPECT_LT(saved.json()["bytes_per_token"].get<double>(), 600);
  EXPECT_EQ(save(path, {"--windows", "2"}).exit, 5);
  EXPECT_EQ(save(path, {"--windows", "1", "--overwrite"}).exit, 0);
  EXPECT_NE(slurp(path), slurp(reference()));
  EXPECT_EQ(run({"verify", good(), "--against", source(), "--save-reference", path, "--overwrite"}).exit, 2);
  EXPECT_EQ(run({"verify", "--save-reference", path}).exit, 2);
  EXPECT_EQ(save(path, {"--overwrite", "--max", "kl_mean=1"}).exit, 2);
  EXPECT_EQ(save(good(), {"--overwrite"}).exit, 5) << "a model is no report";
}

// Changed by whoever knows the layout and writes the right checksum: what no model and no text gives is refused all the same.
TEST_F(SavedReference, WhatNoModelGivesIsRefused) {
  const std::string path = (*scratch / "changed.rwref").string();
  const auto judged = [&](const auto& change) {
    formats::SavedReference saved = formats::read_reference(reference());
    change(saved);
    formats::write_reference(path, saved, {.overwrite = true});
    return run({"verify", good(), "--reference", path});
  };
  const auto refused = [&](const std::string& problem, const auto& change) {
    const Ran ran = judged(change);
    EXPECT_EQ(ran.exit, 3) << problem << "\n" << ran.out;
    EXPECT_EQ(ran.out, "");
    EXPECT_EQ(ran.err_lines().size(), 1u) << ran.err;
    EXPECT_NE(ran.err.find(problem), std::string::npos) << ran.err;
  };
  EXPECT_EQ(judged([](formats::SavedReference&) {}).exit, 0);
  refused("token that came", [](formats::SavedReference& saved) {
    for (float& next : saved.next) next = next == 0 ? 0 : -1e30F;
  });
  refused("add up to less than 1", [](formats::SavedReference& saved) { saved.log_sum_exp[7] += 5; });
  refused("add up to more than 1", [](formats::SavedReference& saved) { saved.log_sum_exp[7] -= 5; });
  const auto rows = [](auto& values, bool repeat) {  // the first window's go, or are the second's, too
    const auto middle = values.begin() + std::ptrdiff_t(values.size() / 2);
    if (repeat) std::copy(values.begin(), middle, middle);
    else values.erase(values.begin(), middle);
  };
  for (const bool repeat : {false, true})
    refused(repeat ? "window 1 of 2 is not the one that the text has there"
                   : "window 0 of 1 is not the one that the text has there",
            [&](formats::SavedReference& saved) {
              rows(saved.windows, repeat), rows(saved.log_sum_exp, repeat), rows(saved.next, repeat);
              rows(saved.top_ids, repeat), rows(saved.top_logits, repeat);
              std::vector<float> sketches;  // of each layer both windows'
              const std::size_t layers = std::size_t(saved.config.n_layers), each = saved.sketches.size() / layers;
              for (std::size_t layer = 0; layer < layers; ++layer) {
                std::vector<float> one(saved.sketches.begin() + std::ptrdiff_t(layer * each),
                                       saved.sketches.begin() + std::ptrdiff_t((layer + 1) * each));
                rows(one, repeat);
                sketches.insert(sketches.end(), one.begin(), one.end());
              }
              saved.sketches = sketches;
            });
  refused("says that the text has 1 tokens", [](formats::SavedReference& saved) { saved.corpus_tokens = 1; });
}

// What a model does not compute with cannot be kept: of gains of 1e4 in the last norm e^-loss is 0.
TEST_F(SavedReference, ASourceThatGivesNoProbabilityIsNotKept) {
  const fs::path damaged = copy_of(model("stories260K"), *scratch / "sharp");
  set_last_norm(damaged, 1e4F);
  const auto kept = [&](const std::string& from) {
    return run({"verify", "--against", from, "--save-reference", (*scratch / "sharp.rwref").string(), "-c", "64",
                "--windows", "1"});
  };
  const Ran ran = kept(damaged.string());
  EXPECT_EQ(ran.exit, 3);
  EXPECT_NE(ran.err.find(" no probability (a loss of "), std::string::npos) << ran.err;
  EXPECT_EQ(kept(model("stories260K")).exit, 0);
}

TEST_F(SavedReference, ADamagedFileIsRefused) {
  std::string bytes = slurp(reference());
  bytes[bytes.size() / 2] ^= 1;
  spill(*scratch / "bent.rwref", bytes);
  const Ran ran = run({"verify", good(), "--reference", (*scratch / "bent.rwref").string()});
  EXPECT_EQ(ran.exit, 3) << ran.err;
  EXPECT_EQ(ran.err_lines().size(), 1u) << ran.err;
  EXPECT_EQ(run({"verify", good(), "--reference", good()}).exit, 3);
  EXPECT_EQ(run({"verify", good(), "--reference", (*scratch / "none").string()}).exit, 3);
}

}  // namespace
}  // namespace ropewalk::tools::test
