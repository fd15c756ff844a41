// run: what a recipe makes, skips, refuses and records.
#include "lib/sha256.h"
#include "tests/tools/command.h"

namespace ropewalk::tools::test {
namespace {

class Recipes : public testing::Test {
 protected:
  Recipes() {
    copy_of(model("stories260K"), scratch / "base");
    write(recipe());
  }
  Json recipe() const {
    return Json::parse(R"({
      "sources": {"base": "base"},
      "outputs": [
        {"name": "long", "output": "long", "command": ["extend", "${base}", "-o", "${output}", "--rope", "yarn,factor=4,original=512"]},
        {"name": "quants", "output": ["m-f16.gguf", "m-q8_0.gguf"], "command": ["convert", "${long}", "-o", "m-{type}.gguf", "--type", "f16,q8_0"]}
      ],
      "gates": [
        {"name": "q8", "command": ["verify", "m-q8_0.gguf", "--against", "${long}", "-c", "512", "--windows", "2", "--max", "kl_mean=1"]},
        {"name": "ppl", "command": ["perplexity", "m-f16.gguf", "-c", "64", "--windows", "1", "--max", "ppl=1e6"]}
      ]
    })");
  }
  void write(const Json& json) const {
    spill(scratch / "release.json", "// a release\n" + json.dump(1) + " /* end */\n");
  }
  Ran go(std::vector<std::string> more = {}, std::map<std::string, std::string> env = {}) const {
    std::vector<std::string> words = {"run", "release.json", "--json", "-q"};
    words.insert(words.end(), more.begin(), more.end());
    RunOptions options;
    options.folder = scratch.path(), options.env = std::move(env);
    return run(words, options);
  }
  /// "long: done, quants: up to date, ..."
  static std::string states(const Ran& ran) {
    std::string out;
    for (const Json& step : ran.json()["steps"])
      out += (out.empty() ? "" : ", ") + step["name"].get<std::string>() + ": " + step["state"].get<std::string>();
    return out;
  }
  static std::string reason(const Ran& ran, std::size_t step) {
    const Json& why = ran.json()["steps"][step]["reason"];
    return why.is_null() ? "" : why.get<std::string>();
  }
  Scratch scratch;
};

constexpr const char* kAllDone = "long: done, quants: done, q8: done, ppl: done";
constexpr const char* kUpToDate = "long: up to date, quants: up to date, q8: up to date, ppl: up to date";

TEST_F(Recipes, MakesOnceAndSaysWhy) {
  const Ran plan = go({"--dry-run"});
  ASSERT_EQ(plan.exit, 0) << plan.err;
  EXPECT_EQ(states(plan), "long: would run, quants: would run, q8: would run, ppl: would run");
  EXPECT_EQ(reason(plan, 0), "has not run");
  EXPECT_EQ(reason(plan, 1), "'long' is made anew");
  EXPECT_EQ(
      scratch.names().size(), 1 + 1 + [&] {
        std::size_t n = 0;
        for (const auto& entry : fs::recursive_directory_iterator(scratch / "base")) n += entry.exists();
        return n;
      }());  // nothing was written

  const Ran first = go();
  ASSERT_EQ(first.exit, 0) << first.err << first.out;
  EXPECT_EQ(states(first), kAllDone);
  const Json manifest = Json::parse(slurp(scratch / "release.manifest.json"));
  ASSERT_EQ(manifest["steps"].size(), 4u);
  EXPECT_EQ(manifest["recipe"]["sha256"], sha256(slurp(scratch / "release.json")));
  const Json& quants = manifest["steps"][1];
  EXPECT_EQ(quants["inputs"][0]["path"], "long");
  ASSERT_EQ(quants["outputs"].size(), 2u);
  EXPECT_EQ(quants["outputs"][1]["sha256"], sha256(slurp(scratch / "m-q8_0.gguf")));
  EXPECT_EQ(quants["outputs"][1]["bytes"], fs::file_size(scratch / "m-q8_0.gguf"));
  // what it made is what the commands make
  RunOptions here;
  here.folder = scratch.path();
  ASSERT_EQ(run({"convert", "long", "-o", "alone.gguf", "--type", "q8_0"}, here).exit, 0);
  EXPECT_EQ(sha256(slurp(scratch / "alone.gguf")), quants["outputs"][1]["sha256"]);

  const std::string before = slurp(scratch / "release.manifest.json");
  const Ran second = go();
  EXPECT_EQ(second.exit, 0);
  EXPECT_EQ(states(second), kUpToDate);
  EXPECT_EQ(slurp(scratch / "release.manifest.json"), before);
  // a time alone changes nothing, by content it goes
  fs::last_write_time(scratch / "base/config.json", fs::file_time_type::clock::now());
  EXPECT_EQ(states(go()), kUpToDate);
}

TEST_F(Recipes, ChangesAreSeenWhereTheyMatter) {
  ASSERT_EQ(go().exit, 0);
  Json changed = recipe();
  changed["gates"][1]["command"].back() = "ppl=2e6";
  write(changed);
  Ran ran = go({"--dry-run"});
  EXPECT_EQ(states(ran), "long: up to date, quants: up to date, q8: up to date, ppl: would run");
  EXPECT_EQ(reason(ran, 3), "its command has changed");
  write(recipe());
  fs::remove(scratch / "m-f16.gguf");
  ran = go();
  EXPECT_EQ(states(ran), "long: up to date, quants: done, q8: up to date, ppl: up to date");
  EXPECT_EQ(reason(ran, 1), "'m-f16.gguf' is not there");
  edit_json(scratch / "base/generation_config.json", [](Json& json) { json["temperature"] = 0.5; });
  ran = go();
  EXPECT_EQ(ran.exit, 0) << ran.err;
  EXPECT_EQ(states(ran).substr(0, 10), "long: done");
  EXPECT_EQ(reason(ran, 0), "'base' has changed");
  EXPECT_EQ(states(go()), kUpToDate);
}

// Whichever way an option's value is written, what it names is an input.
TEST_F(Recipes, ValuesInTheirOptionsWordsAreInputs) {
  copy_of(fs::path(adapter()), scratch / "lora");
  copy_of(model("tolstoy-4m-yarn-2k"), scratch / "tuned");
  spill(scratch / "text.txt", std::string(4000, 'a') + " once upon a time");
  Json json = recipe();
  json["sources"]["tuned"] = "tuned";
  json["outputs"].push_back({{"name", "merged"},
                             {"output", "merged"},
                             {"command", {"merge", "${tuned}", "-a", "lora:0.5", "-o", "${output}"}}});
  json["gates"][0]["command"] = {"verify", "m-q8_0.gguf", "--against=${long}", "-ftext.txt", "-c", "64", "--windows",
                                 "2",      "--max",       "kl_mean=9"};
  copy_of(model("stories260K"), scratch / "other");
  json["gates"][1]["command"] = {"perplexity", "m-f16.gguf", "--baseline=other", "-c", "64", "--windows",
                                 "1",          "--max",      "ppl=1e6"};
  write(json);
  ASSERT_EQ(go().exit, 0);
  const std::string same = states(go());
  EXPECT_EQ(same.find("done"), std::string::npos) << same;
  spill(scratch / "text.txt", std::string(4000, 'b') + " once upon a time");
  Ran ran = go({"--dry-run"});
  EXPECT_NE(states(ran).find("merged: up to date, q8: would run"), std::string::npos) << states(ran);
  EXPECT_EQ(reason(ran, 3), "'text.txt' has changed");
  edit_json(scratch / "lora/adapter_config.json", [](Json& config) { config["lora_alpha"] = 1; });
  ran = go({"--dry-run"});
  EXPECT_EQ(reason(ran, 2), "'lora' has changed");
  edit_json(scratch / "other/generation_config.json", [](Json& config) { config["temperature"] = 0.5; });
  EXPECT_EQ(reason(go({"--dry-run"}), 4), "'other' has changed");
}

TEST_F(Recipes, NothingForeignIsReplaced) {
  spill(scratch / "m-f16.gguf", "mine");
  Ran ran = go();
  EXPECT_EQ(ran.exit, 5);
  EXPECT_NE(ran.err.find("m-f16.gguf: exists, and this recipe did not write it"), std::string::npos) << ran.err;
  EXPECT_EQ(slurp(scratch / "m-f16.gguf"), "mine");
  fs::remove(scratch / "m-f16.gguf");
  ASSERT_EQ(go().exit, 0);
  spill(scratch / "m-f16.gguf", "mine");
  ran = go();
  EXPECT_EQ(ran.exit, 5);
  EXPECT_NE(ran.err.find("m-f16.gguf: has been changed since this recipe wrote it"), std::string::npos) << ran.err;
  EXPECT_EQ(go({"--overwrite"}).exit, 0);
  EXPECT_EQ(states(go()), kUpToDate);
}

TEST_F(Recipes, GatesFailTogetherAndAgain) {
  Json strict = recipe();
  strict["gates"][0]["command"].back() = "kl_mean=0";
  strict["gates"][1]["command"].back() = "ppl=1";
  write(strict);
  for (int again = 0; again < 2; ++again) {
    const Ran ran = go({"--report", "gates.xml", "--overwrite"});
    EXPECT_EQ(ran.exit, 1);
    const std::string junit = slurp(scratch / "gates.xml");
    EXPECT_NE(junit.find("name=\"q8\"><failure message=\"exit 1: kl_mean "), std::string::npos) << junit;
    EXPECT_NE(junit.find("name=\"ppl\"><failure message=\"exit 1: m-f16.gguf: ppl@64 "), std::string::npos) << junit;
    EXPECT_EQ(states(ran), again ? "long: up to date, quants: up to date, q8: failed, ppl: failed"
                                 : "long: done, quants: done, q8: failed, ppl: failed");
    EXPECT_EQ(ran.json()["pass"], false);
  }
  write(recipe());
  EXPECT_EQ(go().exit, 0);
}

TEST_F(Recipes, AStepThatFailsEndsItAndTheNextRunGoesOn) {
  Json bad = recipe();
  bad["outputs"][1]["command"][5] = "f16,q99";
  write(bad);
  const Ran ran = go();
  EXPECT_EQ(ran.exit, 2) << ran.err;
  EXPECT_EQ(states(ran), "long: done, quants: failed, q8: not run, ppl: not run");
  write(recipe());
  EXPECT_EQ(states(go()), "long: up to date, quants: done, q8: done, ppl: done");
}

// Killed at whatever moment: no half of an output stands there, and the next run ends with the same bytes.
TEST_F(Recipes, GoesOnAfterAKill) {
  ASSERT_EQ(go().exit, 0);
  const std::string whole = slurp(scratch / "release.manifest.json");
  for (const int milliseconds : {5, 20, 60, 150}) {
    for (const char* name : {"long", "m-f16.gguf", "m-q8_0.gguf", "release.manifest.json"})
      fs::remove_all(scratch / name);
    RunOptions options;
    options.folder = scratch.path();
    Process process({"run", "release.json", "-q"}, options);
    usleep(static_cast<useconds_t>(milliseconds) * 1000);
    process.kill(SIGKILL);
    (void)process.wait();
    const Ran ran = go();
    ASSERT_EQ(ran.exit, 0) << ran.err;
    EXPECT_EQ(slurp(scratch / "release.manifest.json"), whole) << milliseconds;
  }
}

TEST_F(Recipes, Refusals) {
  const auto said = [&](const std::string& text) {
    spill(scratch / "release.json", text);
    const Ran ran = go();
    EXPECT_EQ(ran.exit, 3) << text;
    return ran.err.substr(0, ran.err.find('\n'));
  };
  const auto bent = [&](auto change) {
    Json json = recipe();
    change(json);
    return said(json.dump());
  };
  EXPECT_EQ(said("{\"output\": []}"), "error: release.json:1:12: the key 'output' is not known; did you mean outputs?");
  EXPECT_EQ(said("// a\n{} // b"), "error: release.json:2:1: has no outputs and no gates; name at least one step");
  EXPECT_EQ(said("{\n/* never"), "error: release.json:2: a comment begins there and does not end; close it with */");
  EXPECT_NE(said("{\"a\": \"// no comment\"").find("release.json:1:"), std::string::npos);
  EXPECT_NE(bent([](Json& json) {
              json["outputs"][0]["command"][1] = "${bases}";
            }).find("'${bases}' names nothing that stands before it; did you mean ${base}?"),
            std::string::npos);
  EXPECT_NE(bent([](Json& json) { json["outputs"][0]["command"][1] = "${quants}"; }).find("names nothing"),
            std::string::npos);
  EXPECT_NE(bent([](Json& json) { json["outputs"][0]["command"][0] = "run"; }).find("'run' is no command of a recipe"),
            std::string::npos);
  EXPECT_NE(bent([](Json& json) { json["outputs"][1]["output"] = "long"; }).find("'long' is written twice"),
            std::string::npos);
  EXPECT_NE(bent([](Json& json) {
              json["outputs"][0]["output"] = "other";
              json["outputs"][0]["command"][3] = "long";
            }).find("the command does not name its output 'other'"),
            std::string::npos);
  EXPECT_NE(bent([](Json& json) { json["gates"][0]["name"] = "long"; }).find("the name 'long' stands twice"),
            std::string::npos);
  EXPECT_NE(bent([](Json& json) { json["outputs"][0]["command"].push_back("--overwrite"); }).find("leave it out"),
            std::string::npos);
  EXPECT_NE(bent([](Json& json) { json["sources"]["base"] = 7; }).find("7 stands there, expected a text"),
            std::string::npos);
  write(recipe());
  spill(scratch / "release.manifest.json", "{\"manifest\": 1}");
  EXPECT_EQ(go().exit, 3);
  EXPECT_EQ(slurp(scratch / "release.manifest.json"), "{\"manifest\": 1}");
}

TEST_F(Recipes, AnAdapterAloneHidesItsBase) {
  Json json = recipe();
  json["outputs"][0] = {{"name", "long"}, {"output", "long"}, {"command", {"merge", adapter(), "-o", "${output}"}}};
  write(json);
  const Ran ran = go({"--dry-run"});
  EXPECT_EQ(ran.exit, 3);
  EXPECT_NE(ran.err.find("is an adapter alone, whose base a recipe would not see change"), std::string::npos)
      << ran.err;
}

}  // namespace
}  // namespace ropewalk::tools::test
