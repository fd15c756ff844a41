// A text that repeats itself is no evidence, whatever the models do on it.
#include "tests/tools/command.h"

namespace ropewalk::tools::test {
namespace {

std::string repeated(const std::string& words, int times) {
  std::string out;
  for (int i = 0; i < times; ++i) out += words;
  return out;
}

// Each model against itself: a pass on any text that shows something.
TEST(VerifyText, ARepeatedWordCertifiesNothing) {
  const Scratch scratch;
  const std::string folder = model("tolstoy-4m-yarn-2k"), text = (scratch / "rep.txt").string();
  spill(text, repeated("the ", 5000));
  const auto verify = [&](std::vector<std::string> more) {
    std::vector<std::string> words = {"verify", folder, "--against", folder, "-c", "512"};
    words.insert(words.end(), more.begin(), more.end());
    return run(words);
  };
  const Ran ran = verify({"-f", text, "--json"});
  EXPECT_EQ(ran.exit, 1) << ran.out;
  const Json& json = ran.json();
  EXPECT_EQ(json["pass"], false);
  EXPECT_EQ(json["evidence"]["enough"], false);
  EXPECT_EQ(json["run"]["windows"], 1) << "identical windows are one";
  int inconclusive = 0;
  for (const Json& gate : json["gates"]) {
    const bool of_logits = gate["name"].get<std::string>().starts_with("kl") || gate["name"] == "top1" ||
                           gate["name"].get<std::string>().starts_with("ppl");
    EXPECT_EQ(gate["inconclusive"], of_logits) << gate;
    inconclusive += gate["inconclusive"] == true ? 1 : 0;
  }
  EXPECT_GE(inconclusive, 5);
  const Ran shown = verify({"-f", text});
  EXPECT_NE(shown.out.find("on a text that repeats itself too much to show it: "), std::string::npos) << shown.out;
  EXPECT_NE(shown.err.find("passed over: the same ids as one before"), std::string::npos) << shown.err;
  EXPECT_NE(verify({"-f", text, "--windows", "3"}).err.find("distinct window of 512 tokens, and 3 were asked for"),
            std::string::npos);

  const Ran bundled = verify({"--json"});
  EXPECT_EQ(bundled.exit, 0) << bundled.out;
  EXPECT_EQ(bundled.json()["evidence"]["enough"], true);
  EXPECT_GT(bundled.json()["evidence"]["distinct_runs"].get<double>(), 0.95);
}

TEST(VerifyText, ManySmallWindowsOfOneTokenAreOne) {
  const Scratch scratch;
  const std::string folder = model("tolstoy-4m-yarn-2k"), text = (scratch / "a.txt").string();
  spill(text, repeated("a", 20000));
  const Ran ran = run({"verify", folder, "--against", folder, "-c", "2", "-f", text, "--json"});
  ASSERT_EQ(ran.exit, 0) << ran.out << ran.err;
  EXPECT_LE(ran.json()["run"]["windows"].get<int>(), 3) << "their few positions are what intervals are taken of";
  EXPECT_EQ(run({"verify", folder, "--against", folder, "-c", "2", "--json"}).json()["evidence"]["enough"], true);
}

// A reference of such a text judges no better.
TEST(VerifyText, NeitherDoesAReferenceOfOne) {
  const Scratch scratch;
  const std::string folder = model("tolstoy-4m-yarn-2k"), text = (scratch / "rep.txt").string(),
                    reference = (scratch / "rep.rwref").string();
  spill(text, repeated("the ", 5000));
  ASSERT_EQ(run({"verify", "--against", folder, "--save-reference", reference, "-c", "512", "-f", text}).exit, 0);
  const Ran ran = run({"verify", folder, "--reference", reference, "-f", text, "--json"});
  EXPECT_EQ(ran.exit, 1) << ran.out << ran.err;
  EXPECT_EQ(ran.json()["evidence"]["enough"], false);
}

}  // namespace
}  // namespace ropewalk::tools::test
