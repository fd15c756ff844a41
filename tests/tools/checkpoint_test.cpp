// --checkpoint: commands killed in the middle of a sweep go on to the bytes of a run that was not.
#include "tests/tools/command.h"
#include "tests/tools/kill.h"

namespace ropewalk::tools::test {
namespace {

class Checkpoints : public ModelCopy {
 protected:
  Ran go(std::vector<std::string> words, const std::vector<std::string>& more = {}) {
    words.insert(words.end(), more.begin(), more.end());
    return run(words, {.folder = scratch.path()});
  }
  /// Killed when something is kept, and gone on with: its standard output.
  std::string killed(std::vector<std::string> words, const std::string& file) {
    words.insert(words.end(), {"--checkpoint-every", "0"});
    kill_once_there(words, scratch, file);
    const Ran ran = go(words);
    EXPECT_EQ(ran.exit, 0) << ran.err;
    EXPECT_NE(ran.err.find("goes on from " + file), std::string::npos) << ran.err;
    EXPECT_FALSE(fs::exists(scratch / file)) << "there is nothing to go on with any more";
    return ran.out;
  }
  void refused(const Ran& ran, int exit, const std::string& why) {
    EXPECT_EQ(ran.exit, exit) << ran.err;
    EXPECT_EQ(ran.err_lines().size(), 1u) << ran.err;
    EXPECT_NE(ran.err.find(why), std::string::npos) << ran.err;
  }
  const std::vector<std::string> perplexity = {
      "perplexity", "model", "model+rope=linear,factor=2", "-c", "256,512", "--windows", "12", "--json"};
};

TEST_F(Checkpoints, PerplexityGoesOnToTheSameBytes) {
  const Ran whole = go(perplexity);
  ASSERT_EQ(whole.exit, 0) << whole.err;
  std::vector<std::string> words = perplexity;
  words.insert(words.end(), {"--checkpoint", "left", "--report", "a.html"});
  EXPECT_EQ(killed(words, "left"), whole.out);
  EXPECT_EQ(go(perplexity, {"--report", "b.html"}).exit, 0);
  EXPECT_EQ(slurp(scratch / "a.html"), slurp(scratch / "b.html"));
}

TEST_F(Checkpoints, VerifyGoesOnToTheSameBytes) {
  ASSERT_EQ(go({"convert", "model", "-o", "x.gguf", "--type", "q8_0", "--no-sync"}).exit, 0);
  const std::vector<std::string> words = {"verify", "x.gguf",    "--against", "model", "-c",
                                          "512",    "--windows", "12",        "--json"};
  std::vector<std::string> keeping = words;
  keeping.insert(keeping.end(), {"--checkpoint", "left"});
  EXPECT_EQ(killed(keeping, "left"), go(words).out);

  std::vector<std::string> save = {"verify", "--against",        "model", "-c", "512", "--windows", "12",
                                   "--json", "--save-reference", "r"};
  const std::string said = killed(save, "r.unfinished");  // beside what it writes, unasked
  const std::string bytes = slurp(scratch / "r");
  const Ran whole = go(save, {"--overwrite"});
  EXPECT_EQ(said, whole.out);
  EXPECT_EQ(bytes, slurp(scratch / "r"));
  const std::vector<std::string> by = {"verify", "x.gguf", "--reference", "r", "--json"};
  keeping = by;
  keeping.insert(keeping.end(), {"--checkpoint", "left"});
  EXPECT_EQ(killed(keeping, "left"), go(by).out);
}

TEST_F(Checkpoints, WhatIsOfAnotherRunOrDamagedIsNotTakenUp) {
  std::vector<std::string> words = perplexity;
  words.insert(words.end(), {"--checkpoint", "left", "--checkpoint-every", "0"});
  kill_once_there(words, scratch, "left");
  const std::string state = slurp(scratch / "left"), bytes = slurp(weights);

  std::vector<std::string> other = words;
  other[4] = "256,511";
  refused(go(other), 5, "left: is of another run: of other weights, another text, other options");
  refused(go(words, {"-f", fixture("goldens/perplexity/doc-1.txt")}), 5, "is of another run");
  const auto time = fs::last_write_time(weights);
  std::string bent = bytes;
  bent.back() = static_cast<char>(bent.back() ^ 1);
  spill(weights, bent);
  fs::last_write_time(weights, time);
  refused(go(words), 5, "is of another run");
  spill(weights, bytes);

  spill(scratch / "left", state.substr(0, state.size() / 2));
  refused(go(words), 3, "the checksum at its end does not fit: it is cut short or damaged; remove it");
  std::string flipped = state;
  flipped[flipped.size() / 2] ^= 1;
  spill(scratch / "left", flipped);
  refused(go(words), 3, "the checksum at its end does not fit");
  const Ran anew = go(words, {"--overwrite"});
  EXPECT_EQ(anew.exit, 0) << anew.err;
  EXPECT_NE(anew.err.find("(--overwrite: begins anew)"), std::string::npos) << anew.err;
  EXPECT_EQ(anew.out, go(perplexity).out);

  spill(scratch / "left", "somebody's notes");
  refused(go(words, {"--overwrite"}), 5, "left: is there and holds no unfinished sweeps");
  EXPECT_EQ(slurp(scratch / "left"), "somebody's notes");
  spill(scratch / "left", "");
  refused(go(words), 5, "left: is there and empty, where unfinished sweeps were expected; remove it");
  refused(go({"verify", "model", "--against", "model", "--level", "weights", "--checkpoint", "x"}), 2,
          "--checkpoint keeps what the logits take");
}

}  // namespace
}  // namespace ropewalk::tools::test
