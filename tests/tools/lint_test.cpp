// ropewalk lint as it is called: forms of output, exit codes, choosing rules, fixing.
#include "tests/tools/command.h"
#include "tests/tools/sarif.h"

namespace ropewalk::tools::test {
namespace {

const std::string kYarn = R"({
  "model_type": "llama",
  "hidden_size": 4096,
  "num_attention_heads": 32,
  "max_position_embeddings": 4096,
  "rope_theta": 10000.0,
  "rope_scaling": {
    "type": "linear",
    "factor": 4
  }
}
)";

class Lint : public testing::Test {
 protected:
  Lint() { spill(scratch / "config.json", kYarn); }
  Ran lint(std::vector<std::string> words, const RunOptions& options = {}) {
    words.insert(words.begin(), "lint");
    return run(words, options);
  }
  Scratch scratch;
  std::string folder = scratch.path().string(), config = (scratch / "config.json").string();
};

TEST_F(Lint, TextNamesThePlace) {
  const Ran ran = lint({config, "--select", "R20"});
  EXPECT_EQ(ran.exit, 0) << ran.err;  // it hurts two of the newest, not all
  EXPECT_EQ(ran.out.find(config +
                         ":9:15: warning[R20]: /rope_scaling/factor: factor is the integer 4, with which vllm 0.33.0 "
                         "and sglang 0.5.23 stop"),
            0u)
      << ran.out;
  EXPECT_NE(ran.out.find("\n    fix: write 4.0\n"), std::string::npos) << ran.out;
  EXPECT_NE(ran.out.find("\n1 warning\n"), std::string::npos) << ran.out;
  const Ran named = lint({"config.json", "--engine", "vllm@0.10.2", "--select", "R20"}, {.folder = scratch.path()});
  EXPECT_EQ(named.exit, 1);
  EXPECT_EQ(named.out.find("config.json:9:15: error[R20]: /rope_scaling/factor: "), 0u) << named.out;
  EXPECT_NE(named.out.find("\n1 error\n"), std::string::npos);
  EXPECT_NE(lint({config, "--ignore", "R,S,E"}).out.find("no findings"), std::string::npos);
}

TEST_F(Lint, Json) {
  const Ran ran = lint({folder, "--json", "--engine", "vllm", "--select", "bad-number"});
  EXPECT_EQ(ran.exit, 1);
  const Json& found = ran.json()["findings"];
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0]["rule"], "R20");
  EXPECT_EQ(found[0]["severity"], "error");
  EXPECT_EQ(found[0]["line"], 9);
  EXPECT_EQ(found[0]["column"], 15);
  EXPECT_EQ(found[0]["pointer"], "/rope_scaling/factor");
  EXPECT_EQ(found[0]["engines"], Json::array({"vllm 0.33.0"}));
  EXPECT_EQ(ran.json()["errors"], 1);
}

/// What the runner of GitHub Actions takes apart: properties between the command and "::", data after; %, line ends, and
/// in properties ':' and ',' escaped (actions/toolkit, packages/core/src/command.ts).
TEST_F(Lint, GitHub) {
  fs::create_directory(scratch / "a,b:c%");
  spill(scratch / "a,b:c%/config.json", kYarn);
  const Ran ran = lint({"a,b:c%/config.json", "--format", "github", "--engine", "vllm", "--select", "R20"},
                       {.folder = scratch.path()});
  EXPECT_EQ(ran.exit, 1) << ran.err;
  EXPECT_EQ(
      ran.out.find("::error file=a%2Cb%3Ac%25/config.json,line=9,col=15,title=R20::/rope_scaling/factor: factor is "
                   "the integer 4"),
      0u)
      << ran.out;
  EXPECT_NE(ran.out.find("%0Afix: write 4.0%0Aor run vllm 0.33.0 with: --hf-overrides "), std::string::npos) << ran.out;
  EXPECT_EQ(std::count(ran.out.begin(), ran.out.end(), '\n'), 1);
}

/// The fix and the flags of a finding stand in its one line.
TEST_F(Lint, GitHubHasTheFlags) {
  spill(scratch / "config.json", R"({"model_type": "llama", "hidden_size": 4096, "num_attention_heads": 32,
    "num_hidden_layers": 32, "max_position_embeddings": 65536, "rope_theta": 10000.0, "rope_scaling": {"type": "yarn",
    "rope_type": "yarn", "factor": 16.0, "original_max_position_embeddings": 4096, "beta_fast": 4, "beta_slow": 4}})");
  const Ran ran = lint({config, "--format", "github", "--select", "R24"});
  EXPECT_NE(ran.out.find("%0Aor run llama.cpp 0.5.0 with: -c 65536 --yarn-beta-slow 4 --yarn-beta-fast 4\n"),
            std::string::npos)
      << ran.out;
  EXPECT_EQ(std::count(ran.out.begin(), ran.out.end(), '\n'), 1) << ran.out;
  EXPECT_EQ(lint({config, "--select", "r24"}).out, lint({config, "--select", "R24"}).out);
}

/// A command that a fix names is run as it stands: what it writes has the finding no more.
TEST_F(Lint, FixesThatNameACommandCanBeFollowed) {
  struct Followed {
    const char *rope, *engine, *rule;
  };
  for (const Followed& one :
       {Followed{"linear,factor=4", "exllamav2", "E01"}, Followed{"linear,factor=4", "transformers@4.37", "E01"}}) {
    const std::string source = (scratch / "source").string(), fixed = (scratch / "fixed").string();
    fs::remove_all(source), fs::remove_all(fixed);
    ASSERT_EQ(run({"extend", model("tolstoy-4m"), "-o", source, "--rope", one.rope, "--no-sync"}).exit, 0);
    const Json found = lint({source, "--engine", one.engine, "--select", one.rule, "--json"}).json()["findings"];
    ASSERT_EQ(found.size(), 1u) << one.engine;
    const std::string fix = found[0]["fix"], start = "write what is read: ropewalk ";
    ASSERT_EQ(fix.find(start), 0u) << fix;
    std::vector<std::string> words;
    std::istringstream in(fix.substr(start.size()));
    for (std::string word; in >> word;) words.push_back(word == "NEW" ? fixed : word);
    words.push_back("--no-sync");
    const Ran ran = run(words);
    EXPECT_EQ(ran.exit, 0) << fix << "\n" << ran.err;
    EXPECT_EQ(lint({fixed, "--engine", one.engine, "--select", "E01,E02,E03"}).out, "no findings\n") << fix;
  }
}

TEST_F(Lint, ASpecIsNotOnDisk) {
  const Ran ran = lint({model("tolstoy-4m") + "+rope=yarn,factor=4"});
  EXPECT_EQ(ran.exit, 2);
  EXPECT_NE(ran.err.find("lint reads what lies on disk"), std::string::npos) << ran.err;
}

/// Where no config.json does, a GGUF may: NTK-by-parts as longrope lists, which llama.cpp's converter drops.
TEST_F(Lint, AFixThatNamesAGgufCanBeFollowed) {
  const std::string source = (scratch / "source").string(), gguf = (scratch / "new.gguf").string();
  ASSERT_EQ(run({"extend", model("tolstoy-4m"), "-o", source, "--rope", "ntk-by-parts,factor=4", "--no-sync"}).exit, 0);
  const Json found = lint({source, "--engine", "llama.cpp", "--json"}).json()["findings"];
  ASSERT_EQ(found.size(), 1u) << found;  // lists whose fast pairs are divided by 1 but for rounding are no finding
  EXPECT_EQ(found[0]["rule"], "E02");
  EXPECT_EQ(found[0]["fix"], "no config.json makes llama.cpp 0.5.0 run it, a GGUF does: ropewalk convert " + source +
                                 " -o NEW.gguf --type f16");
  ASSERT_EQ(run({"convert", source, "-o", gguf, "--type", "f16", "--no-sync"}).exit, 0);
  EXPECT_EQ(lint({gguf}).out, "no findings\n");
  const Json want = run({"rope", source, "--json"}).json()["targets"][0]["inv_freq"],
             got = run({"rope", gguf, "--json"}).json()["targets"][0]["inv_freq"];
  ASSERT_EQ(got.size(), want.size());
  for (std::size_t pair = 0; pair < got.size(); ++pair)  // two float32 roundings
    EXPECT_NEAR(got[pair].get<double>() / want[pair].get<double>(), 1, 0x1p-22) << pair;
}

TEST_F(Lint, Sarif) {
  const Ran ran = lint({config, "--format", "sarif"});
  EXPECT_EQ(ran.exit, 0) << ran.err;
  check_sarif(ran.json());
  EXPECT_GE(ran.json()["runs"][0]["results"].size(), 2u);
  EXPECT_EQ(ran.json()["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"],
            "file://" + config);
  const std::string report = (scratch / "out.sarif").string(), table = (scratch / "out.csv").string(),
                    junit = (scratch / "out.xml").string();
  EXPECT_EQ(lint({config, "--engine", "vllm", "--report", report, "--report", table, "--report", junit}).exit, 1);
  check_sarif(Json::parse(slurp(report)));
  EXPECT_EQ(slurp(table).find("place,severity,rule,message,fix\r\n"), 0u);
  EXPECT_NE(slurp(junit).find("<failure"), std::string::npos);
}

TEST_F(Lint, ExplainAndList) {
  const Ran ran = lint({"--explain", "R08"});
  EXPECT_EQ(ran.exit, 0);
  EXPECT_EQ(ran.out.find("R08 remote-code (error, by who is hurt): "), 0u) << ran.out;
  EXPECT_NE(ran.out.find("seen in: vllm#2945"), std::string::npos);
  EXPECT_EQ(lint({"--explain", "remote-code"}).out, ran.out);
  EXPECT_NE(lint({"--list-rules"}).out.find("| R08  | remote-code"), std::string::npos) << lint({"--list-rules"}).out;
}

TEST_F(Lint, WronglyCalled) {
  const auto refused = [&](const std::vector<std::string>& words, int exit, const std::string& text) {
    const Ran ran = lint(words);
    EXPECT_EQ(ran.exit, exit) << ran.out;
    EXPECT_NE(ran.err.find(text), std::string::npos) << ran.err;
    EXPECT_EQ(ran.err_lines().size(), 1u);
  };
  refused({}, 2, "SOURCE is missing");
  refused({config, folder}, 2, "lint takes one SOURCE");
  refused({config, "--select", "remote-cod"}, 2, "did you mean remote-code?");
  refused({config, "--ignore", "Z9"}, 2, "which is no rule");
  refused({config, "--select", ""}, 2, "which is no rule");
  refused({"--explain", "R0x"}, 2, "which is no rule");
  for (const std::vector<std::string>& more : std::vector<std::vector<std::string>>{
           {"--format", "sarif"}, {"--engine", "vllm"}, {"-c", "4k"}, {"--select", "R2"}, {"--ignore", "R2"}})
    for (std::vector<std::string> words :
         std::vector<std::vector<std::string>>{{"--list-rules"}, {"--explain", "R20"}}) {
      words.insert(words.end(), more.begin(), more.end());
      refused(words, 2, "do nothing there");
    }
  refused({"--list-rules", "--report", (scratch / "x.sarif").string()}, 2, "unknown kind '.sarif'");
  refused({"--explain", "R20", "--report", (scratch / "x.sarif").string()}, 2, "unknown kind '.sarif'");
  refused({"--explain", "R20", "--report", (scratch / "x.csv").string()}, 2, "no table");
  refused({"--list-rules", "--explain", "R20"}, 2, "both say what is shown");
  refused({config, "--engine", "vlm"}, 2, "did you mean 'vllm'");
  refused({config, "--format", "xml"}, 2, "give text, github or sarif");
  refused({config, "--format", "sarif", "--json"}, 2, "give one of them");
  refused({config, "--dry-run"}, 2, "add --fix");
  refused({(scratch / "none").string()}, 3, "none");
  refused({config, "--report", "x.pdf"}, 2, ".pdf");
}

TEST_F(Lint, NothingLeftToLookAt) {
  EXPECT_EQ(lint({folder, "--select", "remote-code", "--ignore", "R08"}).exit, 2);
  EXPECT_EQ(lint({folder, "--select", "R08,R09", "--ignore", "R08"}).exit, 0);
  EXPECT_NE(lint({folder, "--engine", "all"}).exit, 2);
}

TEST_F(Lint, FixWritesWhatIsSafe) {
  const Ran dry = lint({config, "--fix", "--dry-run"});
  EXPECT_EQ(dry.exit, 0) << dry.err;
  EXPECT_NE(dry.out.find("-    \"factor\": 4\n+    \"factor\": 4.0\n"), std::string::npos) << dry.out;
  EXPECT_EQ(slurp(config), kYarn);
  const Ran ran = lint({config, "--fix", "--engine", "vllm", "--json"});
  EXPECT_EQ(ran.exit, 0) << ran.out;
  std::string want = kYarn;
  want.replace(want.find("\"factor\": 4"), 11, "\"factor\": 4.0");
  EXPECT_EQ(slurp(config), want);
  EXPECT_EQ(ran.json()["fixed"][0]["made"], true);
  for (const Json& one : ran.json()["findings"]) EXPECT_NE(one["rule"], "R20");
  EXPECT_EQ(scratch.names(), (std::vector<std::string>{"config.json"}));
  EXPECT_EQ(lint({config, "--fix"}).out.find("nothing here has a fix"), 0u);
}

TEST_F(Lint, FixLeavesTheHubCacheAlone) {
  const fs::path repository = scratch / "hub/models--org--name";
  fs::create_directories(repository / "refs"), fs::create_directories(repository / "blobs"),
      fs::create_directories(repository / "snapshots/abc");
  spill(repository / "refs/main", "abc");
  spill(repository / "blobs/1", kYarn);
  fs::create_symlink("../../blobs/1", repository / "snapshots/abc/config.json");
  const RunOptions hub{.env = {{"HF_HUB_CACHE", (scratch / "hub").string()}}};
  EXPECT_EQ(lint({"org/name", "--select", "R20"}, hub).exit, 0);
  fs::create_symlink(repository / "snapshots/abc", scratch / "linked");
  for (const std::string& source :
       {std::string("org/name"), (repository / "snapshots/abc/config.json").string(), (scratch / "linked").string()}) {
    const Ran ran = lint({source, "--fix"}, hub);
    EXPECT_EQ(ran.exit, 5) << ran.out;
    EXPECT_NE(ran.err.find("Hub cache"), std::string::npos) << ran.err;
  }
  EXPECT_EQ(slurp(repository / "blobs/1"), kYarn);
}

TEST_F(Lint, FlagsStandUnderAFinding) {
  spill(scratch / "config.json",
        R"({"model_type": "qwen2", "hidden_size": 3584, "num_attention_heads": 28, "max_position_embeddings": 32768,
    "rope_theta": 1000000.0, "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}})");
  const Ran ran = lint({config, "--select", "R22"});
  // llama.cpp reads the rope right and serves context_length unless told (golden yarn-qwen25-recipe)
  EXPECT_NE(ran.out.find("or run llama.cpp 0.5.0 with: -c 131072 --override-kv qwen2.context_length=int:131072\n"),
            std::string::npos)
      << ran.out;
}

// Both ask formats/rope_meaning.h what is meant. A window (R40) is lint's alone: its line lifts that too.
TEST_F(Lint, FlagsAreThoseOfRope) {
  const Json engines = Json::parse(slurp(std::string(ROPEWALK_GOLDEN_DIR) + "/rope/engines.json"));
  int compared = 0;
  for (const Json& one : engines["cases"]) {
    spill(scratch / "config.json", one["config"].dump(1));
    const Ran found = lint({config, "--json"});
    std::map<std::string, std::string> said;
    for (const Json& finding : found.json()["findings"])
      for (const Json& flags : finding["flags"])
        if (finding["rule"] != "R40") said[flags["engine"]] = flags["line"];
    if (said.empty()) continue;
    const Ran rope = run({"rope", config, "--flags", "--json"});
    ASSERT_EQ(rope.exit, 0) << one["id"] << rope.err;
    for (const Json& target : rope.json()["targets"])
      if (const auto line = said.find(target["engine"].get<std::string>()); line != said.end()) {
        EXPECT_EQ(target["flags"]["line"], line->second) << one["id"];
        ++compared;
      }
  }
  EXPECT_GT(compared, 40);
}

TEST_F(Lint, Gguf) {
  const std::string gguf = (scratch / "m.gguf").string();
  ASSERT_EQ(run({"convert", model("tolstoy-4m-yarn-2k"), "-o", gguf, "--type", "f16", "--no-sync"}).exit, 0);
  const Ran ran = lint({gguf});
  EXPECT_EQ(ran.exit, 0) << ran.out;
  EXPECT_EQ(ran.out, "no findings\n");
  const Ran fix = lint({gguf, "--fix"});
  EXPECT_EQ(fix.exit, 4);
  EXPECT_EQ(fix.err, "error: " + gguf +
                         ": --fix changes JSON files in place, never a GGUF; write a corrected copy: "
                         "ropewalk extend MODEL.gguf --rope SPEC -o FIXED.gguf\n");
}

}  // namespace
}  // namespace ropewalk::tools::test
