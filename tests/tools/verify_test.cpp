#include <functional>
#include <set>

#include "tests/tools/command.h"
#include "tests/tools/sarif.h"

namespace ropewalk::tools::test {
namespace {

/// Model + adapter as a q8_0 GGUF, made once.
class Verify : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    scratch = new Scratch;
    ASSERT_EQ(run({"convert", source(), "-o", good(), "--type", "q8_0", "--no-sync"}).exit, 0);
  }
  static void TearDownTestSuite() {
    delete scratch;
    scratch = nullptr;
  }
  static std::string source() { return model("tolstoy-4m-yarn-2k") + "+" + adapter(); }
  static std::string good() { return (*scratch / "good.gguf").string(); }
  static Ran verify(const std::string& candidate, std::vector<std::string> more = {}) {
    std::vector<std::string> words = {"verify", candidate,   "--against", source(), "-c",
                                      "512",    "--windows", "1",         "--quiet"};
    words.insert(words.end(), more.begin(), more.end());
    return run(words);
  }
  /// The good file with its keys changed by `change`, tensors as they are.
  static std::string bent(const std::string& name, const std::function<void(std::string&)>& change) {
    std::string bytes = slurp(good());
    change(bytes);
    const fs::path path = *scratch / name;
    spill(path, bytes);
    return path.string();
  }
  static Scratch* scratch;
};
Scratch* Verify::scratch = nullptr;

std::map<std::string, Json> gates_of(const Json& json) {
  std::map<std::string, Json> gates;
  for (const Json& gate : json["gates"])
    if (gate["from"].is_null() && gate["to"].is_null()) gates[gate["name"]] = gate;
  return gates;
}

TEST_F(Verify, AGoodExportPasses) {
  const Ran ran = verify(good(), {"--json"});
  EXPECT_EQ(ran.exit, 0) << ran.out;
  const Json json = ran.json();
  EXPECT_EQ(json["pass"], true);
  EXPECT_EQ(json["level"], "logits");
  EXPECT_TRUE(json["parts_at"].is_null());
  for (const char* name : {"tensors", "tokenizer", "context", "weights", "kl_mean", "top1", "kl_growth"})
    EXPECT_EQ(gates_of(json)[name]["pass"], true) << name;
  EXPECT_EQ(json["weights"].size(), 39u);
  EXPECT_EQ(json["layers"].size(), 4u);
  // q8_0 is not lossless: a comparison that found nothing would not have looked.
  EXPECT_GT(json["logits"]["kl_mean"].get<double>(), 1e-6);
  const Ran text = verify(good());
  EXPECT_NE(text.out.find("\nPASS\n"), std::string::npos) << text.out;
  EXPECT_NE(text.out.find("sha256 "), std::string::npos);
}

// The folder declares YaRN of 256 tokens. vLLM computes that; ExLlamaV2 takes the served length, 2048, for YaRN's original
// context (its rules: formats/engines, tests/golden/rope), which is another rope.
TEST_F(Verify, AnEngineReadsTheCandidate) {
  const std::string folder = model("tolstoy-4m-yarn-2k");
  const auto by = [&](const std::string& engine) {
    return run({"verify", folder, "--against", folder, "-c", "512", "--windows", "1", "--json", "--engine", engine});
  };
  const Ran right = by("vllm@0.24");
  EXPECT_EQ(right.exit, 0) << right.err;
  EXPECT_EQ(right.json()["candidate_read_as"], "vllm 0.24");
  EXPECT_EQ(right.json()["logits"]["kl_mean"], 0);
  const Ran wrong = by("exllamav2");
  EXPECT_EQ(wrong.exit, 1) << wrong.err;
  EXPECT_EQ(gates_of(wrong.json())["rope"]["pass"], false);
  EXPECT_EQ(gates_of(wrong.json())["weights"]["pass"], true);
  EXPECT_EQ(gates_of(wrong.json())["kl_mean"]["pass"], false);
  const Json plain = verify(good(), {"--json"}).json(),
             same = verify(good(), {"--json", "--engine", "llama.cpp@0.5"}).json();
  EXPECT_EQ(same["logits"], plain["logits"]) << "a GGUF's own consumer";
  EXPECT_EQ(same["candidate_read_as"], "llama.cpp 0.5");
  EXPECT_NE(verify(good(), {"--engine", "vllm"}).err.find("what vllm 0.33.0 makes of it is not known here: "),
            std::string::npos);
  EXPECT_EQ(verify(good(), {"--engine", "vllm"}).exit, 4);
  EXPECT_EQ(verify(good(), {"--engine", "ollama"}).exit, 2);
}

// The independent byte editor of scripts/ is what quickstart uses; here the key is renamed in place, so that no engine
// finds it.
TEST_F(Verify, WithoutItsRopeKeysItFailsAndSaysWhere) {
  const std::string broken = bent("no-rope.gguf", [](std::string& bytes) {
    for (const char* key : {"llama.rope.scaling.type", "llama.rope.scaling.factor"}) {
      const auto at = bytes.find(key);
      ASSERT_NE(at, std::string::npos);
      bytes.replace(at, 5, "xxxxx");
    }
  });
  const Ran ran = verify(broken, {"--json"});
  EXPECT_EQ(ran.exit, 1);
  const Json json = ran.json();
  EXPECT_EQ(json["pass"], false);
  EXPECT_EQ(json["level"], "logits");
  EXPECT_TRUE(json["parts_at"].is_number());
  EXPECT_EQ(gates_of(json)["weights"]["pass"], true) << "the weights are the same";
  EXPECT_EQ(gates_of(json)["kl_mean"]["pass"], false);
  const Ran text = verify(broken);
  EXPECT_NE(text.out.find("parts at position "), std::string::npos) << text.out;
  EXPECT_NE(text.out.find("\nFAIL at level structure: rope, "), std::string::npos) << text.out;
}

TEST_F(Verify, AChangedTokenIsTheTokenizersGate) {
  const std::string broken = bent("token.gguf", [](std::string& bytes) {
    const auto at = bytes.find("\xE2\x96\x81prince");
    ASSERT_NE(at, std::string::npos);
    bytes[at + 3] = 'q';
  });
  const Ran ran = verify(broken, {"--json"});
  EXPECT_EQ(ran.exit, 1);
  EXPECT_EQ(ran.json()["level"], "structure") << "stops at the first level that fails";
  EXPECT_EQ(gates_of(ran.json())["tokenizer"]["pass"], false);
  EXPECT_TRUE(ran.json()["logits"].is_null());
  const Json& items = ran.json()["structure"];
  const auto ids = std::find_if(items.begin(), items.end(), [](const Json& item) { return item["name"] == "ids"; });
  ASSERT_NE(ids, items.end());
  const std::string detail = (*ids)["detail"];
  EXPECT_NE(detail.find("' by the source, at line "), std::string::npos) << detail;
  EXPECT_NE(detail.find("\" | \" prince"), std::string::npos) << detail;
  const Json all = verify(broken, {"--json", "--keep-going"}).json();
  EXPECT_EQ(all["level"], "logits");
  EXPECT_EQ(all["pass"], false);
  const Ran text = verify(broken, {"--keep-going"});
  EXPECT_NE(text.out.find("\nFAIL at level structure: tokenizer\n"), std::string::npos) << text.out;
  EXPECT_EQ(gates_of(all)["kl_mean"]["pass"], true) << "ids come from the source: the weights are judged alone";
}

TEST_F(Verify, AChangedWeightIsTheWeightsGate) {
  const std::string broken = bent("weight.gguf", [](std::string& bytes) { bytes[bytes.size() - 100'000] ^= 0x40; });
  const Ran ran = verify(broken, {"--json"});
  EXPECT_EQ(ran.exit, 1);
  EXPECT_EQ(ran.json()["level"], "weights");
  const Json weights = gates_of(ran.json())["weights"];
  EXPECT_EQ(weights["value"], 1.0) << "one tensor";
}

// A mix is held to the limits of its coarsest type (docs/protocols.md), whichever comes first, and said to be off by
// what it is: blocks without a bound are not equal.
TEST_F(Verify, AMixIsHeldToItsCoarsestType) {
  const std::string mix = (*scratch / "mix.gguf").string();
  ASSERT_EQ(run({"convert", source(), "-o", mix, "--type", "q4_k_m", "--no-sync"}).exit, 0);
  const Ran ran = verify(mix, {"--json"});
  EXPECT_EQ(ran.exit, 0) << ran.out;
  const Json json = ran.json();
  std::set<std::string> types;
  for (const Json& tensor : json["weights"]) types.insert(tensor["type"]);
  EXPECT_EQ(types, (std::set<std::string>{"f32", "q4_k", "q6_k"}));
  EXPECT_EQ(gates_of(json)["kl_mean"]["limit"], 0.25);
  EXPECT_EQ(gates_of(json)["top1"]["limit"], 0.55);
  const Ran text = verify(mix, {"--level", "weights"});
  EXPECT_NE(text.out.find("; RMS error at most "), std::string::npos) << text.out;
  EXPECT_NE(text.out.find(" % of a tensor's values (q4_k '"), std::string::npos) << text.out;
  EXPECT_EQ(text.out.find("every value equal"), std::string::npos) << text.out;
  EXPECT_NE(run({"verify", source(), "--against", source(), "--level", "weights"}).out.find("every value equal"),
            std::string::npos);
}

TEST_F(Verify, AShorterContextIsAGate) {
  ASSERT_EQ(
      run({"extend", good(), "-o", (*scratch / "short.gguf").string(), "--rope", "yarn,factor=1.5", "--no-sync"}).exit,
      0);
  const Ran ran = verify((*scratch / "short.gguf").string(), {"--json"});
  EXPECT_EQ(ran.exit, 1);
  EXPECT_EQ(gates_of(ran.json())["context"]["pass"], false) << ran.out;
}

TEST_F(Verify, LevelsStopWhereAsked) {
  EXPECT_EQ(verify(good(), {"--level", "structure", "--json"}).json()["weights"], nullptr);
  const Json json = verify(good(), {"--level", "weights", "--json"}).json();
  EXPECT_EQ(json["level"], "weights");
  EXPECT_TRUE(json["logits"].is_null());
  EXPECT_EQ(json["pass"], true);
}

TEST_F(Verify, GatesFromTheCommandLine) {
  EXPECT_EQ(verify(good(), {"--max", "kl_mean=1e-9"}).exit, 1);
  EXPECT_EQ(verify(good(), {"--max", "kl_mean@256:=1e-9"}).exit, 1);
  EXPECT_EQ(verify(good(), {"--max", "kl_mean@256:=1", "--min", "top1=50%"}).exit, 0);
  EXPECT_EQ(verify(good(), {"--max", "kl_meen=1"}).exit, 2);
}

// A gate that no position can answer is the command's fault, not the model's: nothing is read, not even a source that
// is not there.
TEST_F(Verify, AGateOutsideTheContextIsAUsageError) {
  const auto refused = [&](const std::string& bound, const std::string& gate, const std::string& problem) {
    const Ran ran =
        run({"verify", "/nowhere/candidate.gguf", "--against", "/nowhere/source", "-c", "512", bound, gate});
    EXPECT_EQ(ran.exit, 2) << gate << ": " << ran.err;
    EXPECT_EQ(ran.out, "");
    EXPECT_NE(ran.err.find(problem), std::string::npos) << ran.err;
  };
  refused("--max", "kl_mean@1k:2k=1",
          "gate 'kl_mean@1024:2048' reaches past the context evaluated, whose positions are 0:512");
  refused("--max", "kl_mean@256:1k=1", "reaches past the context");
  refused("--max", "kl_mean@512:=1", "gate 'kl_mean@512:' reaches past the context");
  refused("--max", "ppl_ratio@511:=2", "reaches past the context");  // the last token's loss is the next one's
  refused("--max", "kl_p999@0:256=1", "has no value on a range");
  refused("--max", "kl_mean@256=1", "has one position");
  refused("--max", "kl_mean@0=1", "has one position");
  refused("--max", "kl_meen=1", "gate 'kl_meen' is not known");
  refused("--min", "top1=98", "gate 'top1' has a limit of 98, shares go up to 1");
  EXPECT_EQ(run({"verify", "/nowhere/candidate.gguf", "--against", "/nowhere/source", "-c", "512", "--max",
                 "kl_mean@511:512=1"})
                .exit,
            3)
      << "the last position is within";
  // Without -c the source's own context counts: 2048.
  const Ran ran = run({"verify", good(), "--against", source(), "--max", "kl_mean@2k:=1", "--quiet"});
  EXPECT_EQ(ran.exit, 2) << ran.err;
}

TEST_F(Verify, AGateOfTheSameNameAndRangeReplacesTheDefault) {
  const auto limits = [](const Json& json, const std::string& name) {
    std::vector<double> all;
    for (const Json& gate : json["gates"])
      if (gate["name"] == name && gate["from"].is_null()) all.push_back(gate["limit"]);
    return all;
  };
  const Json standard = verify(good(), {"--json"}).json();
  EXPECT_EQ(limits(standard, "kl_mean"), std::vector<double>{5e-3});
  EXPECT_EQ(limits(standard, "top1"), std::vector<double>{0.9});
  const Json json =
      verify(good(), {"--json", "--max", "kl_mean=1%", "--min", "top1=50%", "--max", "kl_mean@256:512=2%"}).json();
  EXPECT_EQ(limits(json, "kl_mean"), std::vector<double>{0.01}) << "replaced, not added";
  EXPECT_EQ(limits(json, "top1"), std::vector<double>{0.5});
  EXPECT_EQ(limits(json, "ppl_ratio"), std::vector<double>{1.03}) << "the others stand";
  int ranged = 0;
  for (const Json& gate : json["gates"])
    ranged += gate["from"] == 256 && gate["to"] == 512 && gate["limit"] == 0.02 ? 1 : 0;
  EXPECT_EQ(ranged, 1) << "a range of its own is a gate of its own";
  const Json open = verify(good(), {"--json", "--max", "kl_mean@256:=2%"}).json();
  EXPECT_EQ(limits(open, "kl_mean"), std::vector<double>{5e-3});
  EXPECT_TRUE(std::any_of(open["gates"].begin(), open["gates"].end(),
                          [](const Json& gate) { return gate["from"] == 256 && gate["to"].is_null(); }));
}

// A worse loss somewhere is chance or drift: it says nothing of where the two part.
TEST_F(Verify, OnlyADistanceSaysWhereTheyPart) {
  const Ran ran = verify(good(), {"--max", "ppl_ratio=0.9"});
  EXPECT_EQ(ran.exit, 1);
  EXPECT_EQ(ran.out.find("parts at"), std::string::npos) << ran.out;
  EXPECT_NE(ran.out.find("\nFAIL at level logits: ppl_ratio\n"), std::string::npos) << ran.out;
  EXPECT_NE(verify(good(), {"--max", "kl_mean=1e-9"}).out.find("parts at position 0: "), std::string::npos);
}

// Another model altogether: no frequency can be held against another, and no number pretends so.
TEST_F(Verify, AnotherGeometryHasNoWorstFrequency) {
  const Ran ran = run({"verify", model("stories260K"), "--against", source(), "--quiet", "--level", "structure"});
  EXPECT_EQ(ran.exit, 1);
  EXPECT_EQ(ran.out.find("off by"), std::string::npos) << ran.out;
  EXPECT_NE(ran.out.find("4 pairs of channels rotate in a head for 16"), std::string::npos) << ran.out;
}

TEST_F(Verify, ReportsForMachinesAndPeople) {
  const fs::path folder = scratch->path() / "reports";
  fs::create_directory(folder);
  const auto file = [&](const char* name) { return (folder / name).string(); };
  const Ran ran = verify(good(), {"--max", "kl_mean=1e-9", "--report", file("a.xml"), "--report", file("a.md"),
                                  "--report", file("a.csv"), "--report", file("a.json")});
  EXPECT_EQ(ran.exit, 1);
  EXPECT_NE(slurp(file("a.xml")).find("<testcase classname=\"ropewalk.verify\" name=\"kl_mean\"><failure message="),
            std::string::npos)
      << slurp(file("a.xml"));
  EXPECT_NE(slurp(file("a.xml")).find("name=\"tensors\"/>"), std::string::npos);
  EXPECT_NE(slurp(file("a.md")).find("| kl_mean "), std::string::npos);
  EXPECT_NE(slurp(file("a.csv")).find("gate,positions,value,with 95 %,,limit,verdict\r\n"), std::string::npos);
  EXPECT_EQ(Json::parse(slurp(file("a.json")))["pass"], false);
  EXPECT_EQ(verify(good(), {"--report", file("a.xml")}).exit, 5) << "a report is not overwritten either";
  EXPECT_EQ(verify(good(), {"--report", file("a.xml"), "--overwrite"}).exit, 0);
}

TEST_F(Verify, SarifHasEachGateThatDidNotPass) {
  const auto results = [&](const std::string& candidate, std::vector<std::string> more, int exit) {
    const Scratch reports;  // beside a model none is overwritten
    const std::string report = (reports / "x.sarif").string();
    more.insert(more.end(), {"--report", report});
    EXPECT_EQ(verify(candidate, more).exit, exit);
    const Json log = Json::parse(slurp(report));
    check_sarif(log);
    for (const Json& result : log["runs"][0]["results"])
      EXPECT_EQ(result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"], "file://" + candidate);
    return log["runs"][0]["results"];
  };
  EXPECT_EQ(results(good(), {}, 0).size(), 0u) << "nothing to say of what passes";
  const Json failed = results(good(), {"--max", "kl_max@256:=1e-9"}, 1);
  ASSERT_EQ(failed.size(), 1u);
  EXPECT_EQ(failed[0]["ruleId"], "kl_max");
  EXPECT_EQ(failed[0]["level"], "error");
  EXPECT_EQ(failed[0]["message"]["text"].get<std::string>().find("kl_max at positions 256 to end is "), 0u);
  const Json json = verify(good(), {"--json"}).json();
  const double kl = json["logits"]["kl_mean"], confident = gates_of(json)["kl_mean"]["confident"];
  const Json unsure = results(good(), {"--max", "kl_mean=" + std::to_string((kl + confident) / 2)}, 1);
  const auto level = [](const Json& all, const std::string& rule) {
    for (const Json& result : all)
      if (result["ruleId"] == rule) return result["level"].get<std::string>();
    return std::string("none");
  };
  EXPECT_EQ(level(unsure, "kl_mean"), "warning");
  EXPECT_EQ(run({"verify", "--against", source(), "--save-reference", (*scratch / "r").string(), "--report",
                 (*scratch / "y.sarif").string()})
                .exit,
            2)
      << "a saved reference judges nothing";
}

// The weights level has failed it: what comes after it must not take the report away.
TEST_F(Verify, AWeightThatIsNoNumberIsNamedInTheReport) {
  const fs::path folder = copy_of(model("stories260K"), *scratch / "nan");
  std::string bytes = slurp(folder / "model.safetensors");
  const char nan[] = {0, 0, '\xc0', '\x7f'};
  bytes.replace(bytes.size() - 4, 4, nan, 4);
  spill(folder / "model.safetensors", bytes);
  const std::vector<std::string> words = {"verify", folder.string(), "--against", model("stories260K"),
                                          "-c",     "256",           "--json"};
  const Ran stops = run(words);
  EXPECT_EQ(stops.exit, 1) << stops.err;
  EXPECT_TRUE(stops.json()["not_compared"].is_null());
  std::vector<std::string> going = words;
  going.push_back("--keep-going");
  const Ran ran = run(going);
  EXPECT_EQ(ran.exit, 1) << ran.err;
  EXPECT_EQ(ran.json()["pass"], false);
  EXPECT_EQ(gates_of(ran.json())["weights"]["pass"], false);
  EXPECT_TRUE(ran.json()["logits"].is_null());
  EXPECT_NE(ran.json()["not_compared"].get<std::string>().find("' holds NaN in "), std::string::npos) << ran.out;
  going[1] = model("stories260K"), going[3] = folder.string();
  EXPECT_EQ(run(going).exit, 1) << "the source's";
}

// Bit-identical weights in one layout: the sweep itself must say 0.
TEST_F(Verify, AgainstItselfTheDivergenceIsZero) {
  const Json json =
      run({"verify", model("stories260K"), "--against", model("stories260K"), "-c", "256", "--windows", "2", "--json"})
          .json();
  EXPECT_EQ(json["logits"]["kl_max"], 0.0);
  EXPECT_EQ(json["logits"]["top1"], 1.0);
  EXPECT_EQ(json["pass"], true);
  const Json gguf = run({"verify", good(), "--against", good(), "-c", "256", "--windows", "2", "--json"}).json();
  EXPECT_EQ(gguf["logits"]["kl_max"], 0.0);
}

TEST_F(Verify, ABaselineOfTheSameTextIsAGate) {
  const std::string last = (*scratch / "last.json").string();
  spill(last, verify(good(), {"--json"}).out);
  const Json same = verify(good(), {"--baseline", last, "--json"}).json();
  EXPECT_EQ(same["pass"], true);
  EXPECT_EQ(gates_of(same)["baseline kl_mean"]["pass"], true);
  EXPECT_EQ(gates_of(same)["baseline perplexity"]["value"], same["logits"]["perplexity_candidate"]);
  // an earlier run that was better: the same file with half the divergence
  edit_json(last, [](Json& json) { json["logits"]["kl_mean"] = json["logits"]["kl_mean"].get<double>() / 2; });
  const Ran worse = verify(good(), {"--baseline", last, "--json"});
  EXPECT_EQ(worse.exit, 1);
  EXPECT_EQ(gates_of(worse.json())["baseline kl_mean"]["pass"], false);
  EXPECT_EQ(gates_of(worse.json())["baseline top1"]["pass"], true);
  EXPECT_EQ(verify(good(), {"--baseline", last, "--max-worse", "99%"}).exit, 1) << "twice as much is 100 % worse";
  edit_json(last, [](Json& json) { json["logits"]["kl_mean"] = json["logits"]["kl_mean"].get<double>() * 1.1; });
  EXPECT_EQ(verify(good(), {"--baseline", last, "--max-worse", "99%"}).exit, 0);

  // a run that is worse must not become what the next one is held to
  const std::string kept = slurp(last);
  EXPECT_EQ(verify(good(), {"--baseline", last, "--report", last, "--overwrite"}).exit, 5);
  EXPECT_EQ(slurp(last), kept);

  EXPECT_EQ(verify(good(), {"--max-worse", "2%"}).exit, 2);
  for (const std::string share : {"abc", "2"}) {
    const Ran refused = verify(good(), {"--baseline", last, "--max-worse", share});
    EXPECT_EQ(refused.exit, 2);
    EXPECT_EQ(refused.err,
              "error: --max-worse is '" + share + "', expected a share below 100 %; give one such as 2% or 0.02\n");
  }
  EXPECT_EQ(verify(good(), {"--baseline", last, "-f", fixture("goldens/perplexity/doc-1.txt")}).exit, 3)
      << "another text";
  EXPECT_EQ(run({"verify", good(), "--against", source(), "-c", "256", "--windows", "2", "--baseline", last}).exit, 3)
      << "as many tokens at another context";
  spill(last, "{}");
  EXPECT_EQ(verify(good(), {"--baseline", last}).exit, 3);
  EXPECT_EQ(verify(good(), {"--baseline", (*scratch / "none.json").string()}).exit, 3);
}

// Figures of another model, text, window or reader say nothing of this one's; of another type of the same model they do.
TEST_F(Verify, ABaselineOfAnotherRunIsRefused) {
  const std::string last = (*scratch / "other-run.json").string(), coarse = (*scratch / "coarse.gguf").string();
  const Json report = verify(good(), {"--json"}).json();
  const auto refused = [&](const std::string& problem, const Json& baseline) {
    spill(last, baseline.dump());
    const Ran ran = verify(good(), {"--baseline", last});
    EXPECT_EQ(ran.exit, 3) << problem << "\n" << ran.out;
    EXPECT_NE(ran.err.find(last + ": " + problem), std::string::npos) << ran.err;
  };
  refused("is of another run: 'windows' is 2 there and 1 here", [&] {
    return run({"verify", model("tolstoy-4m-yarn-2k"), "--against", model("tolstoy-4m-yarn-2k"), "-c", "512",
                "--windows", "2", "--json"})
        .json();
  }());
  refused("is of another run: 'n_layers' is 5 there and 4 here", [&] {
    return run({"verify", model("stories260K"), "--against", model("stories260K"), "-c", "512", "--windows", "1",
                "--json"})
        .json();
  }());
  const auto with = [&](const char* object, const char* key, const Json& value) {
    Json json = report;
    (*object ? json[object] : json)[key] = value;
    return json;
  };
  refused("is of another run: 'rope' is ", with("run", "rope", "plain"));
  refused("is of another run: 'ids_sha256' is ", with("run", "ids_sha256", "00"));
  refused("is of another run: 'original_context' is null there and 256 here", with("run", "original_context", nullptr));
  refused("is of another run: the text's sha256 is ", with("corpus", "sha256", "00"));
  refused("is of another run: the context is 256 there and 512 here", with("", "context", 256));
  refused("is of another run: whose rules the candidate is read by is ", with("", "candidate_read_as", "vllm 0.24"));
  refused("is of another run: the precision is ", with("device", "precision", "bf16"));
  refused("is of another run: 'unmerged' is true there and false here", with("", "unmerged", true));
  refused("is no report of a verify that compared logits: it has no object 'run'", with("", "run", nullptr));
  refused("has no number 'kl_mean'", with("logits", "kl_mean", "small"));

  // another type of the same model: worse, or better
  ASSERT_EQ(run({"convert", source(), "-o", coarse, "--type", "q4_0", "--no-sync"}).exit, 0);
  spill(last, report.dump());
  const Ran worse = verify(coarse, {"--baseline", last, "--json"});
  EXPECT_EQ(worse.exit, 1);
  EXPECT_EQ(gates_of(worse.json())["baseline kl_mean"]["pass"], false);
  spill(last, worse.out);
  EXPECT_EQ(verify(good(), {"--baseline", last}).exit, 0);
  // other weights of the same shape: said, for their KL is of another source
  const Json same = verify(good(), {"--baseline", last, "--json"}).json();
  Json retrained = report;
  retrained["logits"]["perplexity_source"] = report["logits"]["perplexity_source"].get<double>() * 1.01;
  spill(last, retrained.dump());
  const Json told = verify(good(), {"--baseline", last, "--json"}).json();
  const auto says = [](const Json& json) { return json["warnings"].dump().find("other weights") != std::string::npos; };
  EXPECT_TRUE(says(told));
  EXPECT_FALSE(says(same));
}

// One window of 64: 64 agreeing positions show no more than 95.4 % (0.05^(1/64)), and no 99.9th percentile at all.
TEST_F(Verify, AShortTextShowsWhatItCanShow) {
  const std::string same = model("stories260K");
  const auto against_itself = [&](const std::string& tokens, std::vector<std::string> gates) {
    gates.insert(gates.begin(), {"verify", same, "--against", same, "-c", tokens, "--windows", "1"});
    return run(gates);
  };
  const auto inconclusive = [&](const std::string& bound, const std::string& gate, const std::string& said) {
    const Ran ran = against_itself("64", {bound, gate});
    EXPECT_EQ(ran.exit, 1) << ran.out;
    EXPECT_NE(ran.out.find("\nFAIL at level logits, inconclusive: " + gate.substr(0, gate.find('='))),
              std::string::npos)
        << ran.out;
    const fs::path report = *scratch / "short.xml";
    against_itself("64", {bound, gate, "--report", report.string(), "--overwrite"});
    EXPECT_NE(slurp(report).find(said), std::string::npos) << slurp(report);
  };
  inconclusive("--min", "top1=0.9999", "no text of fewer than 29956 positions can show it, and 64 were compared");
  inconclusive("--max", "kl_p999=1e-6", "no text of fewer than 2995 positions can show it, and 64 were compared");
  EXPECT_EQ(against_itself("64", {"--min", "top1=95%"}).exit, 0);
  // by default they are left out aloud
  const Ran plain = against_itself("64", {});
  EXPECT_EQ(plain.exit, 0) << plain.out;
  for (const char* name : {"kl_p999", "top1"})
    EXPECT_NE(plain.out.find("notice     the default gate on " + std::string(name) +
                             " is left out: no text of fewer than 2995 positions can pass it, and 64 were compared"),
              std::string::npos)
        << plain.out;
  const Json json = against_itself("64", {"--json"}).json();
  EXPECT_EQ(gates_of(json).count("kl_p999") + gates_of(json).count("top1"), 0u);
  EXPECT_EQ(json["warnings"].size(), 2u);
  EXPECT_EQ(gates_of(run({"verify", same, "--against", same, "-c", "512", "--windows", "6", "--json"}).json())
                .count("kl_p999"),
            1u)
      << "3072 positions are enough";
  const Ran never = against_itself("64", {"--min", "top1=100%"});
  EXPECT_EQ(never.exit, 2);
  EXPECT_NE(never.err.find("asks for a share of 1, which no number of positions can show"), std::string::npos);
}

TEST_F(Verify, AFigureTheTextIsTooShortForIsInconclusive) {
  const Json json = verify(good(), {"--json"}).json();
  const double kl = json["logits"]["kl_mean"], confident = gates_of(json)["kl_mean"]["confident"];
  EXPECT_GT(confident, kl);
  const Ran between = verify(good(), {"--max", "kl_mean=" + std::to_string((kl + confident) / 2)});
  EXPECT_EQ(between.exit, 1);
  EXPECT_NE(between.out.find("| inconclusive |"), std::string::npos) << between.out;
  EXPECT_EQ(verify(good(), {"--max", "kl_mean=" + std::to_string(kl / 2)}).out.find("inconclusive"), std::string::npos);
}

TEST_F(Verify, AnEstimateJudgesNothing) {
  const Ran ran = run({"verify", good(), "--against", source(), "-c", "8k", "--windows", "2", "--estimate", "-t", "1"});
  EXPECT_EQ(ran.exit, 0) << ran.err;
  EXPECT_EQ(ran.out.find("estimate   16,384 tokens x 2 models on 1 core: about "), 0u) << ran.out;
  EXPECT_NE(ran.out.find("; -c 1k: "), std::string::npos) << ran.out;
  EXPECT_EQ(ran.out.find("PASS"), std::string::npos);
  EXPECT_NE(ran.out.find("\ncheckpoint "), std::string::npos) << ran.out;
  EXPECT_EQ(verify(good(), {"--estimate", "--checkpoint", "x"}).exit, 2);
  EXPECT_EQ(verify(good(), {"--estimate", "--level", "weights"}).exit, 2);
  EXPECT_EQ(verify(good(), {"--estimate", "--device", "cuda"}).exit, 2);
  EXPECT_EQ(verify(good(), {"--estimate", "--max", "kl_mean=1e-9"}).exit, 2);
}

TEST_F(Verify, IdsAsTheyAre) {
  std::string ids = "[";
  for (int i = 0; i < 300; ++i) ids += (i ? "," : "") + std::to_string(3 + i * 37 % 2000);
  spill(*scratch / "ids.json", ids + "]");
  const Ran ran = run({"verify", good(), "--against", source(), "-c", "128", "--windows", "2", "--tokens",
                       (*scratch / "ids.json").string(), "--json"});
  EXPECT_EQ(ran.exit, 0) << ran.out << ran.err;
  EXPECT_EQ(ran.json()["corpus"]["tokens"], 300);
  EXPECT_EQ(run({"verify", good(), "--against", source(), "-c", "128", "--windows", "3", "--tokens",
                 (*scratch / "ids.json").string()})
                .exit,
            3);
}

}  // namespace
}  // namespace ropewalk::tools::test
