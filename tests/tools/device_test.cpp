// --device, --precision, --attention and --device-memory, and synthetic:CONFIG.json as a SOURCE of a command.
#include <filesystem>
#include <fstream>

#include "tests/tools/command.h"

namespace ropewalk::tools::test {
namespace {

TEST(Device, WhatCannotBeUsedIsRefusedInOneLine) {
  // A device that no machine has: by its number here, by the missing driver there.
  const std::vector<std::pair<std::vector<std::string>, int>> cases = {
      {{"--device", "cuda:99"}, 6},
      {{"--device", "gpu"}, 2},
      {{"--device", "cuda:x"}, 2},
      {{"--device", "cuda:-1"}, 2},
      {{"--precision", "f16"}, 2},
      {{"--device", "cpu", "--precision", "bf16"}, 2},
      {{"--device-memory", "6GB", "--device", "cpu"}, 2},
      {{"--device-memory", "6GB", "--device", "auto"}, 2},
      {{"--precision", "bf16"}, 2},
      {{"--attention", "flash"}, 2},
      {{"--attention", "own", "--device", "cpu"}, 2},
      {{"--device", "cuda:99", "--precision", "f32", "--attention", "cudnn"}, 2}};
  for (const auto& [options, exit] : cases)
    for (std::vector<std::string> words :
         {std::vector<std::string>{"perplexity", model("stories260K"), "-c", "128"},
          {"verify", model("stories260K"), "--against", model("stories260K"), "-c", "128"}}) {
      words.insert(words.end(), options.begin(), options.end());
      const Ran ran = run(words);
      EXPECT_EQ(ran.exit, exit) << options.back() << ": " << ran.err;
      EXPECT_EQ(ran.err_lines().size(), 1u) << ran.err;
      EXPECT_NE(ran.err.find(options.back()), std::string::npos) << ran.err;
    }
}

TEST(Device, ASyntheticModelIsMeasuredAndSaidToBeOne) {
  const std::filesystem::path folder = std::filesystem::path(testing::TempDir()) / "synthetic-source";
  std::filesystem::create_directories(folder);
  const std::string config = (folder / "small.json").string(), ids = (folder / "ids.json").string();
  std::ofstream(config)
      << R"({"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_act": "silu", "hidden_size": 64, "intermediate_size": 176, "num_hidden_layers": 3, "num_attention_heads": 4,)"
      << R"( "num_key_value_heads": 2, "vocab_size": 1000, "max_position_embeddings": 512, "rms_norm_eps": 1e-5})";
  std::ofstream list(ids);
  list << "[1";
  for (int i = 1; i < 600; ++i) list << "," << i * 37 % 1000;
  list << "]";
  list.close();
  const Ran ran = run({"perplexity", "synthetic:" + config, "--tokens", ids, "-c", "256", "--device", "cpu", "--json"});
  ASSERT_EQ(ran.exit, 0) << ran.err;
  const Json json = ran.json();
  EXPECT_EQ(json["device"], (Json{{"name", "cpu"}, {"precision", "f32"}, {"sweeps", Json::array()}}));
  ASSERT_FALSE(json["warnings"].empty());
  EXPECT_EQ(json["warnings"].front().get<std::string>().substr(0, 10), "synthetic:");
  EXPECT_EQ(json["source"], "synthetic:" + config);
  // Random weights know nothing: logits of variance 1 cost e^(ln 1000 + 1/2), give or take what 512 tokens leave open.
  EXPECT_NEAR(json["results"][0]["nll"].get<double>(), 6.9 + 0.5, 0.4);
  EXPECT_EQ(
      run({"perplexity", "synthetic:" + config, "--tokens", ids, "-c", "256", "--device", "cpu", "--json"}).json(),
      json)
      << "the same every time";
  const std::string junit = (folder / "report.xml").string(), matrix = (folder / "matrix.gguf").string();
  EXPECT_EQ(run({"perplexity", "-q", "synthetic:" + config, "--tokens", ids, "-c", "256", "--device", "cpu", "--report",
                 junit})
                .exit,
            0);
  EXPECT_NE(slurp(junit).find("<system-out>warning: synthetic:"), std::string::npos) << slurp(junit);
  const Ran refused = run({"imatrix", "synthetic:" + config, "-f", config, "-c", "256", "-o", matrix});
  EXPECT_EQ(refused.exit, 2);
  EXPECT_NE(refused.err.find("has random weights"), std::string::npos) << refused.err;
  EXPECT_FALSE(std::filesystem::exists(matrix));
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace ropewalk::tools::test
