// perplexity's documents, last positions, baseline, published figures and gates.
#include <cmath>
#include <tuple>

#include "lib/sha256.h"
#include "tests/tools/command.h"
#include "tests/tools/last_norm.h"

namespace ropewalk::tools::test {
namespace {

class PerplexityReports : public testing::Test {
 protected:
  PerplexityReports() {
    std::string lines;
    for (int i = 1; i <= 4; ++i)
      lines += Json{{"text", slurp(fixture("goldens/perplexity/doc-" + std::to_string(i) + ".txt"))}}.dump() + "\n";
    spill(documents, lines);
  }
  /// A line of `name` under protocol yarn.
  Json figure(const std::string& source, int context, double value) const {
    return {{"source", source}, {"context", context}, {"protocol", "yarn"}, {"stride", 256}, {"perplexity", value}};
  }
  Ran with(std::vector<std::string> words) const {
    words.insert(words.begin(), {"perplexity", model("tolstoy-4m-yarn-2k"), "-f", documents.string()});
    return run(words);
  }
  Scratch scratch;
  const fs::path documents = scratch / "docs.jsonl";
};

// goldens/perplexity.json, in float64 by the YaRN repository's script: exp of the mean of window means.
TEST_F(PerplexityReports, TruncatedAsTheRepositorys) {
  const Json golden = Json::parse(slurp(fixture("goldens/perplexity.json")));
  const Ran ran = with({"--protocol", "yarn", "--truncate", "-c", "256,512,1k,2k", "--json"});
  ASSERT_EQ(ran.exit, 0) << ran.err;
  ASSERT_EQ(ran.json()["results"].size(), 4u);
  for (const Json& result : ran.json()["results"]) {
    const Json expected =
        golden["models"]["tolstoy-4m-yarn-2k"][std::to_string(result["context"].get<int>())]["truncate"];
    EXPECT_NEAR(result["perplexity"].get<double>(), expected["mean_of_windows"].get<double>(),
                1e-5 * expected["mean_of_windows"].get<double>());
    EXPECT_EQ(result["tokens"], expected["scored_tokens"]);
    EXPECT_EQ(result["windows"], 4);
    EXPECT_EQ(result["stride"], result["context"].get<int>() - 1);
    EXPECT_EQ(result["truncated"], true);
  }
  EXPECT_NE(
      with({"--protocol", "yarn", "--truncate", "-c", "256"}).out.find("protocol yarn, one window of each document;"),
      std::string::npos);
}

// Positions restart in every window: the last ones of one window of each document are those of `logits`.
TEST_F(PerplexityReports, LastPositions) {
  const Ran ran = with({"--protocol", "yarn", "--truncate", "-c", "128,256", "--positions", "64", "--json"});
  ASSERT_EQ(ran.exit, 0) << ran.err;
  for (const Json& result : ran.json()["results"]) {
    const int context = result["context"].get<int>();
    EXPECT_EQ(result["last"]["from"], context - 64);
    EXPECT_EQ(result["last"]["to"], context);
    EXPECT_EQ(result["last"]["tokens"], 4 * 64);
    const Json& bucket = result["positions"].back();  // [64, 128) or [128, 256)
    if (context == 128) {
      EXPECT_EQ(result["last"]["nll"], bucket["nll"]);
    } else {
      EXPECT_NE(result["last"]["nll"], bucket["nll"]);
    }
  }
  EXPECT_NE(with({"-c", "128", "--positions", "64"}).out.find("| last 64 positions "), std::string::npos);
  EXPECT_EQ(with({"-c", "128", "--positions", "127"}).exit, 0);
  EXPECT_EQ(with({"-c", "128,256", "--positions", "128"}).exit, 2);
}

TEST_F(PerplexityReports, DocumentsAreChosen) {
  // 3228, 3285, 4162 and 4174 or so tokens
  const Json golden = Json::parse(slurp(fixture("goldens/perplexity.json")));
  const auto sizes = golden["models"]["tolstoy-4m"]["document_tokens"].get<std::vector<int>>();
  const std::string more = std::to_string(sizes[1]);
  const Ran ran = with({"-c", "256", "--protocol", "yarn", "--truncate", "--min-tokens", more, "--samples", "2"});
  ASSERT_EQ(ran.exit, 0) << ran.err;
  EXPECT_NE(
      ran.out.find("docs.jsonl; 2 documents of 4, 1 too short, " + std::to_string(sizes[1] + sizes[2]) + " tokens"),
      std::string::npos)
      << ran.out;
  EXPECT_NE(ran.out.find(sha256(slurp(fixture("goldens/perplexity/doc-2.txt")) +
                                slurp(fixture("goldens/perplexity/doc-3.txt")))),
            std::string::npos);
  const Ran none = with({"-c", "256", "--min-tokens", "100k"});
  EXPECT_EQ(none.exit, 3);
  EXPECT_NE(none.err.find("no document has the 102400 tokens of --min-tokens"), std::string::npos) << none.err;
}

TEST_F(PerplexityReports, GatesAndBaseline) {
  const std::vector<std::string> words = {"-c",    "256,1k", "--windows", "2", "--baseline", model("tolstoy-4m"),
                                          "--json"};
  const auto gated = [&](const std::string& option, const std::string& gate) {
    auto all = words;
    all.insert(all.end(), {option, gate});
    return with(all);
  };
  const Ran plain = with(words);
  ASSERT_EQ(plain.exit, 0) << plain.err;
  const Json results = plain.json()["results"];
  ASSERT_EQ(results.size(), 3u);  // the baseline serves 256 tokens
  EXPECT_EQ(results[2]["baseline"], true);
  EXPECT_EQ(results[2]["context"], 256);
  const double at256 = results[0]["perplexity"].get<double>(), at1k = results[1]["perplexity"].get<double>(),
               tax = at256 / results[2]["perplexity"].get<double>() - 1;
  EXPECT_EQ(results[0]["short_context_tax"].get<double>(), tax);
  EXPECT_TRUE(results[1]["short_context_tax"].is_null());
  const auto number = [](double value) { return Json(value).dump(); };
  // the value is compared, and the end of its interval that is nearer to the limit told
  const Ran held = gated("--max", "ppl@256=" + number(at256));
  EXPECT_EQ(held.json()["gates"][0]["value"], at256);
  EXPECT_GT(held.json()["gates"][0]["confident"].get<double>(), at256);
  EXPECT_EQ(gated("--max", "ppl@256=" + number(at256)).exit, 0);
  EXPECT_EQ(gated("--max", "ppl@256=" + number(at256 * (1 - 1e-12))).exit, 1);
  EXPECT_EQ(gated("--max", "ppl@1k=" + number(at1k)).exit, 0);
  EXPECT_EQ(gated("--max", "ppl=" + number(std::min(at256, at1k))).exit, 1);
  EXPECT_EQ(gated("--min", "ppl=" + number(std::min(at256, at1k))).exit, 0);
  EXPECT_EQ(gated("--max", "short_context_tax=" + number(tax)).exit, 0);
  EXPECT_EQ(gated("--max", "short_context_tax@256=" + number(tax - 1e-9)).exit, 1);
  const Ran nothing = gated("--max", "short_context_tax@1k=100%");  // the baseline is not asked there
  EXPECT_EQ(nothing.exit, 1);
  for (const char* gate : {"ppl@512=4", "ppl_last=4", "perplexity=4", "ppl=x", "ppl"})
    EXPECT_EQ(gated("--max", gate).exit, 2) << gate;
  const auto needs = [&](const char* gate, const char* what) {
    const Ran ran = with({"-c", "256", "--max", gate});
    EXPECT_EQ(ran.exit, 2);
    EXPECT_EQ(ran.err, std::string("error: gate '") + gate + "' needs " + what +
                           ", which is not given; add it, or leave the gate out\n");
  };
  needs("short_context_tax=5%", "--baseline BASE");
  needs("ppl_last=9", "--positions N");
}

// Gains of 1e4 in the last norm: each logit 1e4 times what it is, each loss a number, and e^loss none. Gains of 3e38: no
// logit is a number.
TEST(Perplexity, WhatIsNotFinitePassesNoGate) {
  const Scratch scratch;
  const auto damaged = [&](const char* name, float gain) {
    const fs::path folder = copy_of(model("stories260K"), scratch / name);
    set_last_norm(folder, gain);
    return folder.string();
  };
  const std::string sound = model("stories260K"), infinite = damaged("infinite", 1e4F), none = damaged("none", 3e38F);
  const auto gated = [](const std::string& source, const std::string& baseline, const char* bound, const char* gate) {
    return run({"perplexity", source, "--baseline", baseline, "-c", "64", "--windows", "1", "--json", bound, gate});
  };
  EXPECT_EQ(gated(sound, sound, "--min", "ppl=1").exit, 0);
  EXPECT_EQ(gated(sound, sound, "--max", "short_context_tax=0").exit, 0);
  for (const std::string& bad : {infinite, none}) {
    for (const auto& [source, baseline, bound, gate] :
         {std::tuple(bad, sound, "--min", "ppl=1"), std::tuple(bad, sound, "--max", "ppl=1e300"),
          std::tuple(bad, sound, "--max", "short_context_tax=1e300"),
          std::tuple(bad, sound, "--min", "short_context_tax=-1e300"),
          std::tuple(sound, bad, "--max", "short_context_tax=1000"),
          std::tuple(sound, bad, "--min", "short_context_tax=-1000")}) {
      const Ran ran = gated(source, baseline, bound, gate);
      EXPECT_EQ(ran.exit, 1) << bad << " " << gate << "\n" << ran.out;
      EXPECT_NE(ran.err.find("its perplexity is no finite number"), std::string::npos) << ran.err;
    }
    EXPECT_TRUE(gated(bad, sound, "--min", "ppl=1").json()["results"][0]["perplexity"].is_null());
  }
  EXPECT_TRUE(std::isfinite(gated(infinite, sound, "--min", "ppl=1").json()["results"][0]["nll"].get<double>()));
}

// A loss is of a token: of another tokenizer's, or after BOS and without, it is of something else.
TEST(Perplexity, NoTaxOverABaselineOfOtherTokens) {
  const Scratch scratch;
  const std::string candidate = model("stories260K"), other = model("tolstoy-4m"),
                    bare = copy_of(candidate, scratch / "bare").string();
  std::string config = slurp(bare + "/tokenizer_config.json");
  const std::string with = "\"add_bos_token\": true";
  ASSERT_NE(config.find(with), std::string::npos);
  spill(bare + "/tokenizer_config.json", config.replace(config.find(with), with.size(), "\"add_bos_token\": false"));
  fs::remove(bare + "/tokenizer.json");  // whose post-processor would say it
  for (const std::string& baseline : {candidate, other, bare}) {
    const bool same = baseline == candidate;
    const Ran ran = run({"perplexity", candidate, "--baseline", baseline, "-c", "64", "--windows", "1", "--json",
                         "--max", "short_context_tax=1000", "--min", "short_context_tax=-1"});
    EXPECT_EQ(ran.exit, same ? 0 : 1) << baseline;
    EXPECT_EQ(ran.err.find("take the text in other tokens: there is no short_context_tax") == std::string::npos, same)
        << ran.err;
    EXPECT_EQ(ran.json()["results"][0]["short_context_tax"].is_null(), !same);
  }
}

TEST_F(PerplexityReports, PublishedFiguresJoinWhereTheyAreOfTheSame) {
  const std::string file = (scratch / "published.json").string(), hash = [&] {
    std::string all;
    for (int i = 1; i <= 4; ++i) all += slurp(fixture("goldens/perplexity/doc-" + std::to_string(i) + ".txt"));
    return sha256(all);
  }();
  const auto table = [&](const Json& published) {
    spill(file, published.dump());
    return with({"-c", "256,512", "--protocol", "yarn", "--windows", "3", "--compare", file});
  };
  Json good = {{"corpus", {{"sha256", hash}}}, {"results", {figure("card", 256, 7.64), figure("card", 8192, 1)}}};
  const Ran ran = table(good);
  ASSERT_EQ(ran.exit, 0) << ran.err;
  EXPECT_NE(ran.out.find("| card, published "), std::string::npos) << ran.out;
  EXPECT_NE(ran.out.find("|  7.640 |      - |"), std::string::npos) << ran.out;
  const auto left_out = [&](const std::string& key, const Json& value, const std::string& why) {
    Json bad = good;
    bad["results"][0][key] = value;
    const Ran other = table(bad);
    EXPECT_EQ(other.out.find("published"), std::string::npos) << key << "\n" << other.out;
    EXPECT_EQ(other.exit, 0);
    EXPECT_NE(other.err.find(why), std::string::npos) << other.err;
  };
  left_out("protocol", "hf", "card of " + file + " is of protocol hf, which is not evaluated");
  left_out("stride", 512, "not beside protocol yarn: card at 256 (stride 512)");
  left_out("truncated", true, "card at 256 (one window of each document)");
  const std::uint64_t scored =
      with({"-c", "256", "--protocol", "yarn", "--windows", "3", "--json"}).json()["results"][0]["tokens"];
  left_out("tokens", scored + 1,
           "card at 256 (" + std::to_string(scored + 1) + " tokens scored, here " + std::to_string(scored) + ")");
  Json other_text = good;
  other_text["corpus"]["sha256"] = std::string(64, '0');
  EXPECT_EQ(table(other_text).out.find("published"), std::string::npos);
  Json unknown = good;
  unknown.erase("corpus");
  EXPECT_NE(table(unknown).out.find("| card, published; its text is not known "), std::string::npos);
  // our own output is one
  spill(file, with({"-c", "256", "--protocol", "yarn", "--windows", "3", "--json"}).out);
  EXPECT_NE(
      with({"-c", "256", "--protocol", "yarn", "--windows", "3", "--compare", file}).out.find("yarn-2k, published"),
      std::string::npos);
  for (const char* bad : {"[]", "{\"results\": []}", "{\"results\": [1]}", "{\"results\": [{\"source\": \"a\"}]}", "{"})
    EXPECT_EQ((spill(file, bad), with({"-c", "256", "--compare", file})).exit, 3) << bad;
  Json negative = good;
  negative["results"][0]["perplexity"] = -1;
  const Ran refused = table(negative);
  EXPECT_EQ(refused.exit, 3);
  EXPECT_NE(refused.err.find("'perplexity' is -1, expected a number above 0"), std::string::npos) << refused.err;
}

TEST_F(PerplexityReports, RefusesBeforeItReads) {
  for (const std::vector<std::string>& words :
       std::vector<std::vector<std::string>>{{"--truncate"},
                                             {"--truncate", "--protocol", "yarn,hf"},
                                             {"--truncate", "--protocol", "yarn", "--stride", "8"}})
    EXPECT_EQ(with(words).exit, 2) << words.back();
  // what is advised is of this command
  EXPECT_EQ(with({"--max", "ppl@64=nan"}).err,
            "error: gate 'ppl@64=nan' has 'nan' where a finite number was expected; write ppl@64=V, V such as 4.6\n");
  EXPECT_EQ(with({"--max", "x=not a number%"}).err,
            "error: gate 'x=not a number%' is not known; write NAME=V or NAME@WHERE=V; names are ppl, ppl_last and "
            "short_context_tax\n");
}

}  // namespace
}  // namespace ropewalk::tools::test
