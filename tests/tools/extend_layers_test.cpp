#include "tests/tools/command.h"

// extend of a model with a rope for each kind of layer. Which ropes engines then read: tests/formats/rope_layers_test.cpp
// and, in the real transformers, tests/peers/rope.py.

namespace ropewalk::tools::test {
namespace {

/// The weights are stories260K's: what extend does not read it carries.
fs::path gemma_in(const Scratch& scratch) {
  const fs::path folder = copy_of(model("stories260K"), scratch / "gemma");
  std::ofstream(folder / "config.json") << R"({
  "model_type": "gemma3_text",
  "hidden_size": 64, "num_attention_heads": 8, "num_key_value_heads": 4, "num_hidden_layers": 5, "head_dim": 8,
  "max_position_embeddings": 512,
  "sliding_window": 128,
  "layer_types": ["sliding_attention", "sliding_attention", "sliding_attention", "sliding_attention", "full_attention"],
  "rope_parameters": {
    "full_attention": {"rope_type": "default", "rope_theta": 1000000.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}
  }
})";
  std::ofstream(folder / "tokenizer_config.json") << R"({"model_max_length": 512})";
  return folder;
}

TEST(ExtendLayers, TheFullLayersAreScaledAndTheRestIsCarried) {
  Scratch scratch;
  const fs::path source = gemma_in(scratch);
  const Ran ran = run({"extend", source.string(), "-o", (scratch / "long").string(), "--rope", "yarn,to=4k", "--json"});
  ASSERT_EQ(ran.exit, 0) << ran.err;
  const Json& layers = ran.json()["layers"];
  EXPECT_EQ(layers["full_attention"]["method"], "yarn");
  EXPECT_EQ(layers["full_attention"]["factor"], 8.0);
  EXPECT_EQ(layers["sliding_attention"]["method"], "default");
  EXPECT_EQ(ran.json()["context"], 4096);
  const Json config = Json::parse(slurp(scratch / "long/config.json"));
  EXPECT_EQ(config["rope_parameters"]["full_attention"],
            Json::parse(R"({"rope_type": "yarn", "rope_theta": 1e6, "factor": 8.0,
                            "original_max_position_embeddings": 512})"));
  EXPECT_EQ(config["rope_parameters"]["sliding_attention"],
            Json::parse(R"({"rope_type": "default", "rope_theta": 10000.0})"));
  EXPECT_EQ(config["max_position_embeddings"], 4096);
  EXPECT_EQ(config["sliding_window"], 128);
  EXPECT_EQ(Json::parse(slurp(scratch / "long/tokenizer_config.json"))["model_max_length"], 4096);
  EXPECT_EQ(slurp(scratch / "long/model.safetensors"), slurp(source / "model.safetensors"));
  EXPECT_NE(slurp(scratch / "long/README.md").find("full_attention YaRN x8 of 512"), std::string::npos);
  const Ran seen = run({"rope", (scratch / "long").string(), "--engine", "transformers", "--json"});
  ASSERT_EQ(seen.exit, 0) << seen.err;
  EXPECT_EQ(seen.json()["context"], 4096);
}

TEST(ExtendLayers, TheReportSaysWhatEachKindHas) {
  Scratch scratch;
  const fs::path source = gemma_in(scratch);
  const Ran ran =
      run({"extend", source.string(), "-o", (scratch / "long").string(), "--rope", "yarn,to=4k", "--dry-run"});
  ASSERT_EQ(ran.exit, 0) << ran.err;
  for (const char* line :
       {"a rope for each kind of layer, context 4096 (dry run: nothing written)", "  full_attention: YaRN x8 of 512",
        "    512 x 8 = 4096 tokens", "  sliding_attention: plain (theta 10000, attention factor 1), as it was"})
    EXPECT_NE(ran.out.find(line), std::string::npos) << line << "\n" << ran.out;
  EXPECT_FALSE(fs::exists(scratch / "long"));
  const Ran rope = run({"rope", source.string() + "+rope=yarn,to=4k", "--engine", "transformers@4.57"});
  EXPECT_EQ(rope.exit, 0) << rope.err;
  EXPECT_NE(rope.out.find("meant, full_attention     YaRN x8 of 512"), std::string::npos) << rope.out;
}

TEST(ExtendLayers, WhatCannotBe) {
  Scratch scratch;
  const std::string source = gemma_in(scratch).string(), out = (scratch / "out").string();
  const auto refused = [&](const std::vector<std::string>& more, int exit, const std::string& what) {
    std::vector<std::string> words = {"extend", source, "-o", out};
    words.insert(words.end(), more.begin(), more.end());
    const Ran ran = run(words);
    EXPECT_EQ(ran.exit, exit) << ran.err;
    EXPECT_EQ(ran.err_lines().size(), 1u) << ran.err;
    EXPECT_NE(ran.err.find(what), std::string::npos) << ran.err;
    EXPECT_FALSE(fs::exists(out));
  };
  refused({"--rope", "yarn,to=4k", "--sliding-window", "none"}, 2, "some kinds of layers have one and others not");
  refused({"--rope", "yarn,to=4k", "--rope-encoding", "freqs"}, 2, "--rope-encoding is about GGUFs");
  refused({"--rope", "yarn,to=4k", "--engine", "llama.cpp@2025-02"}, 4, "no config.json makes llama.cpp 2025-02 run");
  refused({"--rope", R"({"global": {"rope_type": "yarn", "factor": 2.0}})"}, 2, "no layers of kind 'global'");
  refused({"--rope", "ntk-by-parts,to=4k"}, 4, "no rope dictionary says NTK-by-parts");
}

}  // namespace
}  // namespace ropewalk::tools::test
