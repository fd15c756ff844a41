#include <functional>

#include "tests/tools/command.h"

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
    std::vector<std::string> words = {"verify", candidate, "--against", source(), "-c", "512", "--windows", "2", "--quiet"};
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
    if (gate["from"] == 0 && gate["to"] == 0) gates[gate["name"]] = gate;
  return gates;
}

TEST_F(Verify, AGoodExportPasses) {
  const Ran ran = verify(good(), {"--json"});
  EXPECT_EQ(ran.exit, 0) << ran.out;
  const Json json = ran.json();
  EXPECT_EQ(json["pass"], true);
  EXPECT_EQ(json["level"], "logits");
  EXPECT_TRUE(json["parts_at"].is_null());
  for (const char* name : {"tensors", "tokenizer", "context", "weights", "kl_mean", "top1", "kl_growth"}) EXPECT_EQ(gates_of(json)[name]["pass"], true) << name;
  EXPECT_EQ(json["weights"].size(), 39u);
  EXPECT_EQ(json["layers"].size(), 4u);
  // q8_0 is not lossless: a comparison that found nothing would not have looked.
  EXPECT_GT(json["logits"]["kl_mean"].get<double>(), 1e-6);
  const Ran text = verify(good());
  EXPECT_NE(text.out.find("\nPASS\n"), std::string::npos) << text.out;
  EXPECT_NE(text.out.find("sha256 "), std::string::npos);
}

// The independent byte editor of scripts/ is what quickstart uses; here the key is renamed in place, so that no engine finds it.
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
  EXPECT_NE(text.out.find("FAIL at level logits: the rope differs"), std::string::npos) << text.out;
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
  const Json all = verify(broken, {"--json", "--keep-going"}).json();
  EXPECT_EQ(all["level"], "logits");
  EXPECT_EQ(all["pass"], false);
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

TEST_F(Verify, AShorterContextIsAGate) {
  ASSERT_EQ(run({"extend", good(), "-o", (*scratch / "short.gguf").string(), "--rope", "yarn,factor=1.5", "--no-sync"}).exit, 0);
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

TEST_F(Verify, ReportsForMachinesAndPeople) {
  const fs::path folder = scratch->path() / "reports";
  fs::create_directory(folder);
  const auto file = [&](const char* name) { return (folder / name).string(); };
  const Ran ran = verify(good(), {"--max", "kl_mean=1e-9", "--report", file("a.xml"), "--report", file("a.md"), "--report", file("a.csv"), "--report", file("a.json")});
  EXPECT_EQ(ran.exit, 1);
  EXPECT_NE(slurp(file("a.xml")).find("<testcase classname=\"ropewalk.verify\" name=\"kl_mean\"><failure message="), std::string::npos) << slurp(file("a.xml"));
  EXPECT_NE(slurp(file("a.xml")).find("name=\"tensors\"/>"), std::string::npos);
  EXPECT_NE(slurp(file("a.md")).find("| kl_mean "), std::string::npos);
  EXPECT_NE(slurp(file("a.csv")).find("gate,positions,value,,limit,verdict\r\n"), std::string::npos);
  EXPECT_EQ(Json::parse(slurp(file("a.json")))["pass"], false);
  EXPECT_EQ(verify(good(), {"--report", file("a.xml")}).exit, 5) << "a report is not overwritten either";
  EXPECT_EQ(verify(good(), {"--report", file("a.xml"), "--overwrite"}).exit, 0);
}

// Bit-identical weights in one layout: the sweep itself must say 0.
TEST_F(Verify, AgainstItselfTheDivergenceIsZero) {
  const Json json = run({"verify", model("stories260K"), "--against", model("stories260K"), "-c", "256", "--json"}).json();
  EXPECT_EQ(json["logits"]["kl_max"], 0.0);
  EXPECT_EQ(json["logits"]["top1"], 1.0);
  EXPECT_EQ(json["pass"], true);
  const Json gguf = run({"verify", good(), "--against", good(), "-c", "256", "--json"}).json();
  EXPECT_EQ(gguf["logits"]["kl_max"], 0.0);
}

TEST_F(Verify, IdsAsTheyAre) {
  std::string ids = "[";
  for (int i = 0; i < 300; ++i) ids += (i ? "," : "") + std::to_string(3 + i * 37 % 2000);
  spill(*scratch / "ids.json", ids + "]");
  const Ran ran = run({"verify", good(), "--against", source(), "-c", "128", "--windows", "2", "--tokens", (*scratch / "ids.json").string(), "--json"});
  EXPECT_EQ(ran.exit, 0) << ran.out << ran.err;
  EXPECT_EQ(ran.json()["corpus"]["tokens"], 300);
  EXPECT_EQ(run({"verify", good(), "--against", source(), "-c", "128", "--windows", "3", "--tokens", (*scratch / "ids.json").string()}).exit, 3);
}

}  // namespace
}  // namespace ropewalk::tools::test
