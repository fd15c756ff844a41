// eval against lm_eval 0.4.13 on the same rows and models (tests/golden/eval.json).
#include <cmath>

#include "lib/sha256.h"
#include "tests/tools/command.h"
#include "tests/tools/last_norm.h"

namespace ropewalk::tools::test {
namespace {

const fs::path kData = ROPEWALK_TEST_DATA_DIR;

class Eval : public testing::Test {
 protected:
  Eval() {
    const Json rows = Json::parse(slurp(kData / "eval_rows.json"));
    for (const auto& [task, splits] : rows.items())
      for (const auto& [split, lines] : splits.items()) {
        std::string text;
        for (const Json& line : lines) text += line.dump() + "\n";
        spill(scratch / (task + "-" + split + ".jsonl"), text);
      }
  }
  std::string file(const std::string& name) const { return (scratch / (name + ".jsonl")).string(); }
  /// All tasks' rows and examples.
  std::vector<std::string> command(const std::string& name) const {
    return {"eval",
            model(name),
            file("arc-test"),
            file("hellaswag-validation"),
            file("mmlu-test"),
            "--examples",
            file("arc-train"),
            "--examples",
            file("hellaswag-train"),
            "--examples",
            file("mmlu-dev"),
            file("truthfulqa-validation")};
  }
  Scratch scratch;
};

const Json& result_of(const Json& results, const std::string& task) {
  for (const Json& result : results)
    if (result["task"] == task) return result;
  ADD_FAILURE() << "no " << task;
  return results[0];
}

/// Of one run of the harness: its own figures, and the losses of the same model in float64. In float32 the harness is up
/// to 2.0e-5 from those, so we may be twice that.
TEST_F(Eval, FiguresAndChoicesAreTheHarnesss) {
  const Json golden = Json::parse(slurp(kData / "eval.json"));
  std::size_t questions = 0;
  for (const Json& run_of : golden["runs"]) {
    std::vector<std::string> words = command(run_of["model"]);
    std::string shots;
    for (const auto& [task, n] : run_of["shots"].items()) shots += (shots.empty() ? "" : ",") + task + "=" + n.dump();
    if (!shots.empty()) words.insert(words.end(), {"--few-shot", shots});
    if (!run_of["limit"].is_null()) words.insert(words.end(), {"--limit", run_of["limit"].dump()});
    words.push_back("--json");
    const Ran ran = run(words);
    ASSERT_EQ(ran.exit, 0) << ran.err;
    for (const auto& [name, expected] : run_of["tasks"].items()) {
      const std::string task = name.substr(0, 4) == "mmlu" ? "mmlu" : name;
      const Json& result = result_of(ran.json()["results"], task);
      // figures: of mmlu's subjects, of mmlu, of the others
      for (const auto& [figure, value] : expected["figures"].items()) {
        const bool error = figure.ends_with("_stderr");
        const std::string plain = error ? figure.substr(0, figure.size() - 7) : figure;
        const Json* found = nullptr;
        for (const Json& one : result["figures"])
          if (one["name"] == plain || (one["name"].get<std::string>().starts_with("mc") && plain == "acc"))
            found = &one;
        ASSERT_NE(found, nullptr) << name << " " << figure;
        if (name.size() > 5 && task == "mmlu")
          for (const Json& group : (*found)["groups"])
            if (group["name"] == name.substr(5)) found = &group;
        const double got = (*found)[error ? "standard_error" : "value"].get<double>();
        EXPECT_NEAR(got, value.get<double>(), name == "truthfulqa_mc2" ? 1e-6 : 1e-15) << name << " " << figure;
      }
      if (name == "mmlu") continue;
      std::size_t at = 0;  // subjects stand one after the other in the file
      if (name == "mmlu_high_school_us_history") at = run_of["tasks"]["mmlu_anatomy"]["samples"].size();
      for (const Json& sample : expected["samples"]) {
        const Json& question = result["questions"][at++];
        const auto lls = sample["log_likelihoods"].get<std::vector<double>>();
        EXPECT_EQ(question["choice"], std::max_element(lls.begin(), lls.end()) - lls.begin()) << name << " " << at;
        if (sample["metrics"].contains("acc_norm")) {
          EXPECT_EQ(question["choice_norm"] == question["gold"], sample["metrics"]["acc_norm"] == 1.0)
              << name << " " << at;
        }
        ASSERT_EQ(question["log_likelihoods"].size(), lls.size());
        for (std::size_t i = 0; i < lls.size(); ++i)
          EXPECT_NEAR(question["log_likelihoods"][i].get<double>(), sample["log_likelihoods_f64"][i].get<double>(),
                      4e-5)
              << name << " " << at;
        ++questions;
      }
    }
  }
  EXPECT_EQ(questions, 62u);
}

TEST_F(Eval, ReadsWhatItIsGivenAndSaysSo) {
  const Ran ran = run({"eval", model("tolstoy-4m"), file("truthfulqa-validation"), file("arc-test"), "--few-shot",
                       "arc=2", "--examples", file("arc-train"), "--report", (scratch / "card.md").string()});
  ASSERT_EQ(ran.exit, 0) << ran.err;
  EXPECT_NE(ran.out.find("as lm_eval 0.4.13: arc 2 shots on 5 rows, truthfulqa with its six examples on 3 rows\n"),
            std::string::npos)
      << ran.out;
  EXPECT_NE(ran.out.find(" arc acc | arc acc_norm |"), std::string::npos) << ran.out;
  EXPECT_NE(slurp(scratch / "card.md").find("truthfulqa mc2 |"), std::string::npos);
  EXPECT_NE(ran.err.find("warning: truthfulqa: 3 prompts of 3 lost their beginnings, being longer than 256 tokens"),
            std::string::npos)
      << ran.err;
  ASSERT_EQ(std::system(("zstd -q -o " + file("arc-test") + ".zst " + file("arc-test")).c_str()), 0);
  const Json plain = run({"eval", model("tolstoy-4m"), file("arc-test"), "--json"}).json(),
             packed = run({"eval", model("tolstoy-4m"), file("arc-test") + ".zst", "--json", "-t", "1"}).json();
  EXPECT_EQ(plain["results"], packed["results"]);
  EXPECT_EQ(packed["files"][0]["sha256"], sha256(slurp(file("arc-test"))));
}

TEST_F(Eval, Gates) {
  const auto gated = [&](const std::string& option, const std::string& gate) {
    return run({"eval", model("tolstoy-4m-yarn-2k"), file("arc-test"), file("mmlu-test"), option, gate});
  };
  EXPECT_EQ(gated("--min", "acc@arc=60%").exit, 0);  // 3 of 5, as the harness finds
  const Ran failed = gated("--min", "acc@arc=0.61");
  EXPECT_EQ(failed.exit, 1);
  EXPECT_NE(failed.out.find("tolstoy-4m-yarn-2k: acc@arc is 60.0%, at least 61.0% asked for"), std::string::npos)
      << failed.out;
  EXPECT_EQ(gated("--min", "acc=0.55").exit, 1);  // of both tasks: mmlu has 50 %
  EXPECT_EQ(gated("--max", "acc=0.6").exit, 0);
  EXPECT_EQ(gated("--max", "acc@arc=0.59").exit, 1);
  for (const char* gate : {"acc@hellaswag=0.1", "acc_norm@mmlu=0.1", "accuracy=0.1", "acc", "acc@=0.1", "acc=1.5"}) {
    const Ran refused = gated("--min", gate);
    EXPECT_EQ(refused.exit, 2) << gate;
    EXPECT_EQ(refused.err_lines().size(), 1u) << refused.err;
  }
}

// The harness takes the first choice of a model that computes no numbers, which of mc1 is always the right one.
TEST_F(Eval, WhatIsNoNumberPassesNoGate) {
  const fs::path damaged = copy_of(model("stories260K"), scratch / "damaged");
  set_last_norm(damaged, 3e38F);  // finite, its products are not
  for (const std::string& name : {model("stories260K"), damaged.string()}) {
    const bool sound = name != damaged.string();
    const Ran ran = run({"eval", name, file("truthfulqa-validation"), file("arc-test"), "--json", "--min", "mc1=0",
                         "--min", "acc@arc=0", "--max", "acc_norm=1"});
    EXPECT_EQ(ran.exit, sound ? 0 : 1) << ran.err;
    EXPECT_EQ(ran.err.find("with a log-likelihood that is no number") == std::string::npos, sound) << ran.err;
    const Json out = ran.json();
    for (const Json& gate : out["gates"]) EXPECT_EQ(gate["pass"], sound) << gate;
    EXPECT_EQ(result_of(out["results"], "truthfulqa_mc1")["figures"][0]["value"].is_null(), !sound);
  }
}

TEST_F(Eval, Refusals) {
  const std::string base = model("tolstoy-4m");
  const auto refused = [&](std::vector<std::string> words) {
    words.insert(words.begin(), {"eval", base});
    const Ran ran = run(words);
    EXPECT_EQ(ran.out, "");
    return std::to_string(ran.exit) + " " + ran.err;
  };
  EXPECT_EQ(
      refused({file("arc-test"), "--few-shot", "2"}),
      "2 error: arc: --few-shot asks for examples of arc, and there are none; name the file of its train split with "
      "--examples\n");
  EXPECT_EQ(refused({file("arc-test"), "--tasks", "mmlu"}).substr(0, 57),
            "2 error: --tasks has 'mmlu', and no FILE has rows of it; ");
  EXPECT_EQ(refused({file("arc-test"), file("mmlu-test"), "--tasks", "mmlu"}).substr(0, 66),
            "2 error: a FILE has rows of arc, which --tasks does not name; leav");
  EXPECT_EQ(refused({file("arc-test"), "--tasks", "arc,boolq"}),
            "2 error: --tasks has 'boolq'; use arc, hellaswag, mmlu or truthfulqa\n");
  for (const char* shots : {"x", "arc=", "=3", "3,4", "boolq=1", "-1", "1001"})
    EXPECT_EQ(refused({file("arc-test"), "--few-shot", shots}).substr(0, 26),
              "2 error: --few-shot has '" + std::string(shots).substr(0, 1))
        << shots;
  EXPECT_EQ(refused({file("arc-test"), "--few-shot", "mmlu=1,arc=2,mmlu=3"}).substr(0, 38),
            "2 error: --few-shot has 'mmlu' twice; ");
  EXPECT_EQ(
      refused({file("arc-test"), "--examples", file("arc-train"), "--few-shot", "8"}),
      "3 error: arc: there are 7 examples, and 8 shots need 8; give the whole split of examples, or fewer shots\n");
  EXPECT_EQ(refused({file("arc-test"), "--examples", file("arc-train"), "--few-shot", "arc=2,mmlu=5"}),
            "2 error: --few-shot has 'mmlu=5', and mmlu is not evaluated; leave it out, or add a FILE with its rows\n");
  EXPECT_EQ(refused({file("arc-test"), "--seed", "-1"}),
            "2 error: --seed is '-1'; give a whole number from 0 to 2147483647\n");
  fs::copy(file("arc-test"), file("copy"));
  for (const std::string& again : {file("arc-test"), file("copy")})
    EXPECT_EQ(refused({file("arc-test"), again}), "2 error: '" + again + "' has the same rows as '" + file("arc-test") +
                                                      "'; give each file once, or every row of it counts twice\n");
  spill(scratch / "bad.jsonl", "{}\n");
  EXPECT_EQ(refused({(scratch / "bad.jsonl").string()}).substr(0, 9), "3 error: ");
  EXPECT_EQ(refused({file("arc-test"), "-c", "2"}).substr(0, 1), "3");
}

}  // namespace
}  // namespace ropewalk::tools::test
