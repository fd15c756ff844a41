// SARIF of the commands whose gates are asked for: what failed, of which file. verify's and lint's: their own tests.
#include "tests/tools/sarif.h"

namespace ropewalk::tools::test {
namespace {

TEST(Sarif, HasEachGateThatDidNotPass) {
  const Scratch scratch;
  const fs::path gguf = scratch / "a model.gguf";
  ASSERT_EQ(run({"convert", model("tolstoy-4m"), "-o", gguf.string(), "--type", "f16"}).exit, 0);
  spill(scratch / "arc.jsonl",
        R"({"id": "1", "question": "q", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "A"})");
  const std::string base = model("tolstoy-4m"), report = (scratch / "r.sarif").string();
  const auto results = [&](std::vector<std::string> words, int exit) {
    words.insert(words.end(), {"--report", report, "--overwrite"});
    const Ran ran = run(words);
    EXPECT_EQ(ran.exit, exit) << ran.err;
    const Json log = Json::parse(slurp(report));
    check_sarif(log);
    return log["runs"][0];
  };
  const auto uri = [](const Json& result) {
    return result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"].get<std::string>();
  };
  const std::vector<std::string> ppl = {"perplexity", base, gguf.string(), "-c", "64,128", "--windows", "1"};
  const auto with = [](std::vector<std::string> words, const std::vector<std::string>& more) {
    words.insert(words.end(), more.begin(), more.end());
    return words;
  };
  const Json failed = results(with(ppl, {"--max", "ppl@64=1", "--max", "ppl=1e9"}), 1);
  ASSERT_EQ(failed["results"].size(), 2u) << "one of each source; what passed is not told";
  EXPECT_EQ(failed["tool"]["driver"]["rules"].size(), 1u);
  EXPECT_EQ(failed["results"][0]["ruleId"], "ppl");
  EXPECT_EQ(failed["results"][0]["message"]["text"].get<std::string>().find(base + ": ppl@64: "), 0u)
      << failed["results"][0];
  EXPECT_TRUE(uri(failed["results"][0]).ends_with("/tolstoy-4m/config.json")) << uri(failed["results"][0]);
  EXPECT_TRUE(uri(failed["results"][1]).ends_with("/a%20model.gguf")) << uri(failed["results"][1]);
  EXPECT_EQ(results(with(ppl, {"--max", "ppl=1e9"}), 0)["results"].size(), 0u) << "the control: all passed";
  EXPECT_EQ(results(ppl, 0)["results"].size(), 0u) << "no gate, nothing to say";

  const Json lost = results({"passkey", base, "-c", "192", "--iterations", "1", "--min", "accuracy=1"}, 1);
  ASSERT_EQ(lost["results"].size(), 1u);
  EXPECT_EQ(lost["results"][0]["ruleId"], "accuracy");
  EXPECT_TRUE(uri(lost["results"][0]).ends_with("/tolstoy-4m/config.json"));

  const std::vector<std::string> eval = {"eval", gguf.string(), (scratch / "arc.jsonl").string()};
  EXPECT_EQ(results(with(eval, {"--min", "acc=0"}), 0)["results"].size(), 0u);
  const Json wrong = results(with(eval, {"--max", "acc=0", "--min", "acc=100%"}), 1);
  ASSERT_EQ(wrong["results"].size(), 1u) << "of one row one of the two";
  EXPECT_EQ(wrong["results"][0]["ruleId"], "acc");
  EXPECT_TRUE(uri(wrong["results"][0]).ends_with("/a%20model.gguf"));
}

}  // namespace
}  // namespace ropewalk::tools::test
