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
  spill(scratch / "text.txt", slurp(fixture("goldens/perplexity/doc-1.txt")));
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
  spill(scratch / "text.txt", slurp(fixture("goldens/perplexity/doc-1.txt")) + " once upon a time");
  Ran ran = go({"--dry-run"});
  EXPECT_NE(states(ran).find("merged: up to date, q8: would run"), std::string::npos) << states(ran);
  EXPECT_EQ(reason(ran, 3), "'text.txt' has changed");
  edit_json(scratch / "lora/adapter_config.json", [](Json& config) { config["lora_alpha"] = 1; });
  ran = go({"--dry-run"});
  EXPECT_EQ(reason(ran, 2), "'lora' has changed");
  edit_json(scratch / "other/generation_config.json", [](Json& config) { config["temperature"] = 0.5; });
  EXPECT_EQ(reason(go({"--dry-run"}), 4), "'other' has changed");
}

// An output may stand in a folder that is not there yet, and a dry run promises no more than the run keeps.
TEST_F(Recipes, FoldersOfOutputsAreMade) {
  Json json = recipe();
  json["manifest"] = "log/m.json";
  json["outputs"][0]["output"] = "out/a/long";
  json["gates"][0]["command"].push_back("--report");
  json["gates"][0]["command"].push_back("reports/q8.xml");
  write(json);
  EXPECT_EQ(go({"--dry-run"}).exit, 0);
  EXPECT_FALSE(fs::exists(scratch / "out")) << "a dry run makes nothing";
  const Ran ran = go();
  ASSERT_EQ(ran.exit, 0) << ran.err;
  for (const char* path : {"out/a/long/config.json", "log/m.json", "reports/q8.xml"})
    EXPECT_TRUE(fs::exists(scratch / path)) << path;
  fs::remove_all(scratch / "out"), fs::remove_all(scratch / "log"), fs::remove_all(scratch / "reports");
  spill(scratch / "out", "a file");
  for (const auto& more : {std::vector<std::string>{"--dry-run"}, {}}) {
    const Ran refused = go(more);
    EXPECT_EQ(refused.exit, 5);
    EXPECT_NE(refused.err.find("out/a/long: 'out' is not a folder, and this is to stand in it"), std::string::npos)
        << refused.err;
  }
}

TEST_F(Recipes, ADryRunNamesEveryForeignOutput) {
  ASSERT_EQ(go().exit, 0);
  for (const char* name : {"m-f16.gguf", "m-q8_0.gguf"}) spill(scratch / name, "mine");
  const Ran plan = go({"--dry-run"});
  EXPECT_EQ(plan.exit, 5) << "as the run itself";
  EXPECT_EQ(go().exit, 5);
  EXPECT_EQ(states(plan), "long: up to date, quants: would be refused, q8: would run, ppl: would run");
  EXPECT_EQ(
      reason(plan, 1),
      "'m-f16.gguf' has been changed since this recipe wrote it; 'm-q8_0.gguf' has been changed since this recipe "
      "wrote it");
  EXPECT_EQ(go({"--dry-run", "--overwrite"}).exit, 0);
}

// Whoever can write the manifest can write that a gate passed.
TEST_F(Recipes, GatesAreRunAgainWhateverTheManifestSays) {
  Json json = recipe();
  json["gates"][1]["command"].back() = "ppl=0.5";
  write(json);
  ASSERT_EQ(go().exit, 1);
  edit_json(scratch / "release.manifest.json", [](Json& manifest) { manifest["steps"][3]["exit"] = 0; });
  EXPECT_EQ(go().exit, 0) << "the manifest is believed";
  const Ran again = go({"--rerun-gates"});
  EXPECT_EQ(again.exit, 1);
  EXPECT_EQ(states(again), "long: up to date, quants: up to date, q8: done, ppl: failed");
  EXPECT_EQ(reason(again, 3), "--rerun-gates");
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
  const std::string fix =
      "; name another in the recipe, or remove it and give --overwrite: every step is then made anew\n";
  for (const std::string damaged : {"no json", "[]", "{\"manifest\": 2}", "{\"manifest\": 1, \"steps\": 7}", ""}) {
    spill(scratch / "release.manifest.json", damaged);
    const Ran ran = go();
    EXPECT_EQ(ran.exit, 3) << damaged;
    EXPECT_EQ(ran.err.find("error: release.manifest.json"), 0u) << ran.err;
    EXPECT_NE(ran.err.find("manifest"), ran.err.rfind("manifest")) << "says what it is: " << ran.err;
    EXPECT_TRUE(ran.err.ends_with(fix)) << ran.err;
  }
  fs::remove(scratch / "release.manifest.json");
  fs::create_directory(scratch / "release.manifest.json");
  EXPECT_NE(go().err.find("the recipe's manifest cannot be read: is a folder, expected a regular file" + fix),
            std::string::npos)
      << go().err;
}

// A gate is there to judge: what cannot fail is refused when the recipe is read, and says why.
TEST_F(Recipes, AGateThatJudgesNothing) {
  const auto said = [&](const std::vector<std::string>& command) {
    Json json = recipe();
    json["gates"][1]["command"] = command;
    write(json);
    const Ran ran = go({"--dry-run"});
    return std::to_string(ran.exit) + " " + ran.err;
  };
  const auto judges_nothing = [](const std::string& what) {
    return "a gate is to judge, and " + what +
           " judges nothing: it would always pass; see docs/recipes.md for what a gate can be\n";
  };
  const std::vector<std::string> judged = {"m-f16.gguf", "--against", "${long}"};
  const auto of = [](std::vector<std::string> words, const std::vector<std::string>& more) {
    words.insert(words.end(), more.begin(), more.end());
    return words;
  };
  for (const auto& [command, what] : std::vector<std::pair<std::vector<std::string>, std::string>>{
           {{"perplexity", "m-f16.gguf"}, "perplexity without --max or --min"},
           {{"passkey", "m-f16.gguf"}, "passkey without --min"},
           {{"eval", "m-f16.gguf", "rows.jsonl"}, "eval without --max or --min"},
           {of({"verify", "--estimate"}, judged), "verify --estimate"},
           {{"verify", "--against", "${long}", "--save-reference", "r"}, "verify --save-reference"},
           {{"diff", "base", "long"}, "diff without --exit-code"},
           {{"tokenize", "base", "long", "-p", "x"}, "tokenize without --exit-code"},
           {{"lint", "--list-rules"}, "lint --list-rules"},
           {{"inspect", "m-f16.gguf"}, "inspect"},
           {{"adapter", "rescale", "lora", "--scale", "2", "-o", "x"}, "adapter rescale"}}) {
    const std::string line = said(command);
    EXPECT_NE(line.find("3 error: release.json:"), std::string::npos) << line;
    EXPECT_NE(line.find(judges_nothing(what)), std::string::npos) << line;
  }
  EXPECT_NE(said({"verify", "--help"}).find("the command only prints its help; leave that word out"),
            std::string::npos);
  EXPECT_NE(said({"perplexity", "m-f16.gguf", "--maxx", "ppl=1"}).find("3 error: release.json:"), std::string::npos);
  EXPECT_NE(said({"perplexity", "m-f16.gguf", "--maxx", "ppl=1"}).find("unknown option '--maxx'; did you mean --max?"),
            std::string::npos);
  // the controls: what judges is taken, and an output may do what a gate may not
  for (const auto& command : std::vector<std::vector<std::string>>{of({"verify"}, judged),
                                                                   {"diff", "base", "long", "--exit-code"},
                                                                   {"lint", "base"},
                                                                   {"passkey", "m-f16.gguf", "--min", "accuracy=0.1"}})
    EXPECT_EQ(said(command).substr(0, 2), "0 ") << said(command);
}

// A recipe owns what its steps write, reports too: they are skipped, made again and guarded as its outputs are.
TEST_F(Recipes, WhatAGateWritesIsTheRecipes) {
  Json json = recipe();
  const std::vector<std::string> reports = {"--report", "q8.xml", "--report=q8.json", "--checkpoint", "q8.kept"};
  for (const std::string& word : reports) json["gates"][0]["command"].push_back(word);
  json["outputs"].push_back({{"name", "reference"},
                             {"output", "r"},
                             {"command",
                              {"verify", "--against", "${long}", "--save-reference", "${output}", "-c", "64",
                               "--windows", "1", "--report", "r.md"}}});
  json["gates"].push_back(
      {{"name", "again"},
       {"command",
        {"verify", "m-q8_0.gguf", "--reference", "${reference}", "--level", "structure", "--report", "again.json"}}});
  write(json);
  const auto said = [&](const Ran& ran) { return states(ran) + "\n" + ran.err; };
  Ran ran = go();
  ASSERT_EQ(ran.exit, 0) << said(ran);
  EXPECT_FALSE(fs::exists(scratch / "q8.kept")) << "it goes when the gate has ended";
  const Json steps = Json::parse(slurp(scratch / "release.manifest.json"))["steps"];
  EXPECT_EQ(steps[3]["name"], "q8");
  ASSERT_EQ(steps[3]["outputs"].size(), 2u);
  EXPECT_EQ(steps[3]["outputs"][1]["path"], "q8.json");
  EXPECT_EQ(steps[3]["outputs"][1]["sha256"], sha256(slurp(scratch / "q8.json")));
  EXPECT_EQ(steps[3]["inputs"].size(), 2u) << "the model and its source, no report";
  const std::string all =
      "long: up to date, quants: up to date, reference: up to date, q8: up to date, ppl: up to date, again: up to date";
  EXPECT_EQ(states(go()), all);
  // gone, or changed by the recipe's own words: made again in its place
  fs::remove(scratch / "q8.xml");
  ran = go();
  EXPECT_EQ(ran.exit, 0) << said(ran);
  EXPECT_EQ(reason(ran, 3), "'q8.xml' is not there");
  json["gates"][0]["command"].push_back("--keep-going");
  write(json);
  ran = go();
  EXPECT_EQ(ran.exit, 0) << said(ran);
  EXPECT_EQ(reason(ran, 3), "its command has changed");
  EXPECT_EQ(states(go()), all);
  // a gate that fails leaves its report, and runs again over it
  json["gates"][0]["command"].push_back("--max=kl_mean=0");
  write(json);
  for (int again = 0; again < 2; ++again) {
    ran = go();
    EXPECT_EQ(ran.exit, 1) << said(ran);
    EXPECT_EQ(Json::parse(slurp(scratch / "q8.json"))["pass"], false);
  }
  // the control: what somebody else put there is not the recipe's
  json["gates"][0]["command"].erase(json["gates"][0]["command"].size() - 1);
  write(json);
  spill(scratch / "q8.xml", "mine");
  ran = go();
  EXPECT_EQ(ran.exit, 5);
  EXPECT_NE(ran.err.find("q8.xml: has been changed since this recipe wrote it"), std::string::npos) << ran.err;
  EXPECT_EQ(slurp(scratch / "q8.xml"), "mine");
  EXPECT_EQ(go({"--overwrite"}).exit, 0);
}

TEST_F(Recipes, NoStepWritesOverWhatIsReadOrWritten) {
  spill(scratch / "text.txt", slurp(fixture("goldens/perplexity/doc-1.txt")));
  const auto said = [&](auto change, const std::vector<std::string>& more, int exit) {
    Json json = recipe();
    change(json);
    write(json);
    const Ran ran = go(more);
    EXPECT_EQ(ran.exit, exit) << ran.err;
    return ran.err;
  };
  const auto same = [](Json&) {};
  const auto report = [](const char* name) {
    return [name](Json& json) {
      for (const char* word : {"-f", "text.txt", "--report", name}) json["gates"][0]["command"].push_back(word);
    };
  };
  EXPECT_NE(said(same, {"--report", "release.json", "--overwrite"}, 5)
                .find("would replace 'release.json', which is read as RECIPE.json"),
            std::string::npos);
  EXPECT_NE(said(same, {"--report", "release.manifest.json", "--overwrite"}, 2).find("are one file"),
            std::string::npos);
  EXPECT_NE(said(report("g.xml"), {"--report", "g.xml"}, 2).find("are one file"), std::string::npos);
  EXPECT_NE(said(report("base/config.json"), {"--overwrite"}, 5)
                .find("a file in 'base', which is read as SOURCE of step 'long'"),
            std::string::npos);
  EXPECT_NE(said([](Json& json) { json["manifest"] = "base/config.json"; }, {}, 5)
                .find("base/config.json: the manifest would replace"),
            std::string::npos);
  EXPECT_NE(said(
                [&](Json& json) {
                  for (int gate : {0, 1})
                    for (const char* word : {"--report", "g.xml"}) json["gates"][gate]["command"].push_back(word);
                },
                {}, 3)
                .find("'g.xml' is written twice"),
            std::string::npos);
  spill(scratch / "text.txt", "ropewalk, " + slurp(scratch / "text.txt"));
  fs::create_hard_link(scratch / "text.txt", scratch / "text.md");
  EXPECT_NE(
      said(report("g.xml"), {"--report", "text.md", "--overwrite"}, 5).find("which is read as --file of step 'q8'"),
      std::string::npos);
  EXPECT_EQ(slurp(scratch / "text.md").substr(0, 10), "ropewalk, ") << "nor with the error";
  EXPECT_EQ(said(report("g.xml"), {"--report", "all.xml"}, 0).find("error"), std::string::npos) << "the control";
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
