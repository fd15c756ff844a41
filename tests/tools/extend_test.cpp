#include "tests/tools/command.h"

namespace ropewalk::tools::test {
namespace {

TEST(Extend, FolderGetsANewConfigAndTheSameWeights) {
  Scratch scratch;
  const Ran ran =
      run({"extend", model("tolstoy-4m"), "-o", (scratch / "long").string(), "--rope", "yarn,factor=8", "--json"});
  ASSERT_EQ(ran.exit, 0) << ran.err;
  EXPECT_EQ(ran.json()["rope"]["method"], "yarn");
  EXPECT_EQ(ran.json()["context"], 2048);
  const Json config = Json::parse(slurp(scratch / "long/config.json"));
  EXPECT_EQ(config["max_position_embeddings"], 2048);
  EXPECT_EQ(config["rope_scaling"]["factor"], 8.0);
  EXPECT_EQ(config["rope_scaling"]["original_max_position_embeddings"], 256);
  EXPECT_EQ(config["hidden_size"], 256) << "the rest stays";
  EXPECT_EQ(Json::parse(slurp(scratch / "long/tokenizer_config.json"))["model_max_length"], 2048);
  for (const char* name : {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "tokenizer.model",
                           "model.safetensors.index.json"})
    EXPECT_EQ(slurp(scratch / (std::string("long/") + name)), slurp(model("tolstoy-4m") + "/" + name)) << name;
  for (const Json& name : ran.json()["written"]) EXPECT_TRUE(fs::exists(scratch / ("long/" + name.get<std::string>())));
}

TEST(Extend, LinksOnlyWhenAsked) {
  Scratch scratch;
  copy_of(model("stories260K"), scratch / "base");
  const auto extend = [&](const std::string& to, std::vector<std::string> more) {
    std::vector<std::string> words = {"extend", (scratch / "base").string(), "-o",    (scratch / to).string(),
                                      "--rope", "linear,factor=2",           "--json"};
    words.insert(words.end(), more.begin(), more.end());
    return run(words).json()["weights"].get<std::string>();
  };
  EXPECT_NE(extend("copied", {}), "link");
  EXPECT_FALSE(fs::equivalent(scratch / "base/model.safetensors", scratch / "copied/model.safetensors"));
  EXPECT_EQ(extend("linked", {"--link"}), "link");
  EXPECT_TRUE(fs::equivalent(scratch / "base/model.safetensors", scratch / "linked/model.safetensors"));
}

// The same rope by three roads: extend a folder and convert it, convert with +rope, extend the GGUF. All compute the
// same.
TEST(Extend, GgufAndFolderAgree) {
  Scratch scratch;
  const std::string base = model("tolstoy-4m");
  ASSERT_EQ(run({"extend", base, "-o", (scratch / "long").string(), "--rope", "yarn,to=2k"}).exit, 0);
  ASSERT_EQ(run({"convert", base, "-o", (scratch / "short.gguf").string(), "--type", "f16"}).exit, 0);
  ASSERT_EQ(
      run({"extend", (scratch / "short.gguf").string(), "-o", (scratch / "long.gguf").string(), "--rope", "yarn,to=2k"})
          .exit,
      0);
  ASSERT_EQ(run({"convert", base + "+rope=yarn,to=2k", "-o", (scratch / "direct.gguf").string(), "--type", "f16"}).exit,
            0);
  const auto rope = [&](const std::string& source) {
    const Json json = run({"inspect", source, "--json"}).json();
    EXPECT_EQ(json["context"], 2048) << source;
    return std::vector<Json>{json["rope"]["method"], json["rope"]["factor"], json["rope"]["original_context"],
                             json["rope"]["attention_factor"]};
  };
  const auto expected = rope((scratch / "long").string());
  EXPECT_EQ(rope((scratch / "long.gguf").string()), expected);
  EXPECT_EQ(rope((scratch / "direct.gguf").string()), expected);
  const Ran same = run({"verify", (scratch / "long.gguf").string(), "--against", (scratch / "long").string(), "-c",
                        "512", "--windows", "1", "--max", "kl_max=1e-7"});
  EXPECT_EQ(same.exit, 0) << same.out;
  EXPECT_EQ(run({"verify", (scratch / "short.gguf").string(), "--against", (scratch / "long").string(), "-c", "512",
                 "--windows", "1"})
                .exit,
            1)
      << "control";
}

TEST(Extend, PlanComparesMethodsAndWritesNothing) {
  const Ran ran = run({"extend", model("tolstoy-4m"), "--plan", "-c", "2k", "--json"});
  ASSERT_EQ(ran.exit, 0) << ran.err;
  std::map<std::string, Json> plan;
  for (const Json& row : ran.json()["plan"]) plan[row["method"]] = row;
  ASSERT_EQ(plan.size(), 6u);
  EXPECT_NEAR(plan["as it is"]["unseen_angle_ratio"].get<double>(), 8, 1e-9);
  EXPECT_NEAR(plan["YaRN"]["unseen_angle_ratio"].get<double>(), 1, 1e-9);
  EXPECT_NEAR(plan["linear (PI)"]["high_frequency_damage"].get<double>(), 0.875, 1e-12);
  EXPECT_EQ(run({"extend", model("tolstoy-4m"), "--plan"}).exit, 2);
}

}  // namespace
}  // namespace ropewalk::tools::test
