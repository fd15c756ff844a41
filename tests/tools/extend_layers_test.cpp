#include <cmath>

#include "tests/tools/command.h"

// extend of a model with a rope for each kind of layer. Which ropes engines then read:
// tests/formats/rope_layers_test.cpp and, in the real transformers, tests/peers/rope.py.

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
  refused({"--rope", "yarn,to=4k", "--sliding-window", "none"}, 2,
          "of this model config.json's rope alone is rewritten");
  refused({"--rope", "yarn,to=4k", "--rope-encoding", "freqs"}, 2, "--rope-encoding is about GGUFs");
  refused({"--rope", "yarn,to=4k", "--engine", "llama.cpp@2025-02"}, 4, "no config.json makes llama.cpp 2025-02 run");
  refused({"--rope", R"({"global": {"rope_type": "yarn", "factor": 2.0}})"}, 2, "no layers of kind 'global'");
  refused({"--rope", "ntk-by-parts,to=4k"}, 4, "no rope dictionary says NTK-by-parts");
}

/// stories260K's weights under the config.json of another class.
fs::path class_in(const Scratch& scratch, const std::string& type) {
  const fs::path folder = copy_of(model("stories260K"), scratch / type);
  Json config = {
      {"model_type", type},     {"hidden_size", 64}, {"num_attention_heads", 8},         {"num_key_value_heads", 4},
      {"num_hidden_layers", 5}, {"vocab_size", 512}, {"max_position_embeddings", 32768}, {"rope_theta", 1000000.0},
      {"head_dim", 32}};
  spill(folder / "config.json", config.dump(2));
  return folder;
}

/// Classes that ropewalk does not run: the cards of Qwen2.5 and Qwen3, word for word, and gpt-oss' rope.
TEST(ExtendLayers, OtherClassesByTheirConfigAlone) {
  Scratch scratch;
  for (const char* type : {"qwen2", "qwen3", "gpt_oss"}) {
    const std::string source = class_in(scratch, type).string(),
                      out = (scratch / (type + std::string("-long"))).string();
    const Ran ran = run({"extend", source, "-o", out, "--like", "qwen", "-c", "128k", "--json"});
    ASSERT_EQ(ran.exit, 0) << type << ran.err;
    EXPECT_EQ(ran.json()["rope"]["factor"], 4.0);
    EXPECT_EQ(ran.json()["rope"]["original_context"], 32768);
    EXPECT_TRUE(ran.json()["layers"].is_null());
    const Json config = Json::parse(slurp(fs::path(out) / "config.json"));
    EXPECT_EQ(config["max_position_embeddings"], 131072);
    EXPECT_EQ(config["model_type"], type);
    EXPECT_EQ(slurp(fs::path(out) / "model.safetensors"), slurp(fs::path(source) / "model.safetensors"));
    const Json seen = run({"rope", out, "--engine", "transformers", "--engine", "vllm", "--json"}).json();
    for (const Json& target : seen["targets"]) {
      EXPECT_EQ(target["difference"]["pairs"], 0) << target["engine"];
      EXPECT_NEAR(target["attention_factor"].get<double>(), 0.1 * std::log(4.0) + 1, 1e-12);
      EXPECT_EQ(target["context"], 131072) << target["engine"];
    }
  }
  const Ran text = run({"extend", (scratch / "qwen2").string(), "-o", "no", "--rope", "yarn,factor=4", "--dry-run"});
  EXPECT_NE(text.out.find("no: a new rope, context 131072 (dry run: nothing written)"), std::string::npos) << text.out;
  const std::string other = class_in(scratch, "olmo2").string();
  EXPECT_EQ(run({"extend", other, "-o", "no", "--rope", "yarn,factor=4"}).exit, 4) << "its rope was not compared";
}

/// Phi-3.5-mini's shape, whose class takes longrope alone, with the lists of a model extended 32 times.
fs::path phi3_in(const Scratch& scratch) {
  const fs::path folder = copy_of(model("stories260K"), scratch / "phi3");
  Json config = {{"model_type", "phi3"},
                 {"hidden_size", 3072},
                 {"num_attention_heads", 32},
                 {"num_hidden_layers", 32},
                 {"vocab_size", 32064},
                 {"max_position_embeddings", 131072},
                 {"original_max_position_embeddings", 4096},
                 {"rope_theta", 10000.0},
                 {"rope_scaling", {{"type", "longrope"}}}};
  for (int pair = 0; pair < 48; ++pair) {
    config["rope_scaling"]["short_factor"].push_back(1 + pair / 16.0);
    config["rope_scaling"]["long_factor"].push_back(1 + pair);
  }
  spill(folder / "config.json", config.dump(2));
  return folder;
}

/// A method that the class cannot name is written as lists with its attention factor; transformers, vLLM and SGLang load
/// them. The wanted frequencies and factor are what transformers 5.23.0's ROPE_INIT_FUNCTIONS["yarn"] returns for a head of
/// 96 channels (tests/peers/rope.py holds the file against its Phi3RotaryEmbedding).
TEST(ExtendLayers, Phi3IsToldByLists) {
  Scratch scratch;
  const std::string source = phi3_in(scratch).string(), out = (scratch / "long").string();
  const Ran ran = run({"extend", source, "-o", out, "--rope", "yarn,to=64k,original=4096", "--json"});
  ASSERT_EQ(ran.exit, 0) << ran.err;
  const Json config = Json::parse(slurp(fs::path(out) / "config.json"));
  EXPECT_EQ(config["rope_scaling"]["type"], "longrope");
  EXPECT_EQ(config["rope_scaling"]["attention_factor"], 1.2772588722239782);
  const Json seen = run({"rope", out, "--engine", "all", "--json"}).json();
  for (const char* name : {"transformers 5.23.0", "vllm 0.33.0", "sglang 0.5.23"})
    for (const Json& one : seen["targets"]) {
      if (one["engine"] != name) continue;
      ASSERT_TRUE(one["error"].is_null()) << one;
      EXPECT_EQ(one["context"], 65536) << name;
      EXPECT_NEAR(one["attention_factor"].get<double>(), 1.2772588722239782, 1e-7) << name;
      const std::vector<std::pair<std::size_t, double>> wanted = {{0, 1.0},
                                                                  {10, 0.14677992463111877},
                                                                  {20, 0.016229132190346718},
                                                                  {33, 0.0001988864823943004},
                                                                  {47, 7.572046797577059e-06}};
      for (const auto& [pair, frequency] : wanted)
        EXPECT_NEAR(one["inv_freq"][pair].get<double>() / frequency, 1, 20 * 0x1p-24) << name << pair;
    }
  EXPECT_EQ(run({"lint", out}).exit, 0) << run({"lint", out}).out;
  // version 4 of the class takes three keys, from which no attention factor but its own follows
  const auto refused = [&](const std::string& rope, const std::vector<std::string>& more) {
    std::vector<std::string> words = {"extend", source, "-o", (scratch / "no").string(), "--rope", rope};
    words.insert(words.end(), more.begin(), more.end());
    const Ran one = run(words);
    EXPECT_EQ(one.exit, 4) << one.out;
    return one.err;
  };
  const std::string four = refused("yarn,to=64k,original=4096", {"--engine", "transformers@4.57.6"});
  EXPECT_NE(four.find("1.27726 is wanted"), std::string::npos) << four;
  EXPECT_NE(four.find("transformers 5.23.0, vllm 0.33.0"), std::string::npos) << four;
  for (const char* rope : {"native", "linear,to=64k,original=4096"})
    EXPECT_EQ(run({"extend", source, "-o", out, "--overwrite", "--rope", rope, "--engine", "transformers@4.57.6"}).exit,
              0)
        << rope;
  // nobody reads it, so nothing is written, and rope shows no file
  const std::string dynamic = refused("dynamic,factor=4,original=4096", {});
  EXPECT_NE(dynamic.find("no config.json makes any of the newest engines run dynamic NTK x4 of 4096"),
            std::string::npos)
      << dynamic;
  EXPECT_EQ(run({"rope", source + "+rope=dynamic,factor=4,original=4096"}).err, dynamic);
}

/// What a new rope counts from where nobody says it is one rule for extend, its plan and rope, and is said.
TEST(ExtendLayers, TheOriginalContextIsOneRule) {
  Scratch scratch;
  const fs::path folder = class_in(scratch, "qwen3");
  Json config = Json::parse(slurp(folder / "config.json"));
  config["max_position_embeddings"] = 40960;  // Qwen3's card: 32768 and 8192 for what is generated
  spill(folder / "config.json", config.dump(2));
  const std::string source = folder.string(), out = (scratch / "long").string();
  const Json wanted = {{"tokens", 32768},
                       {"from", "what Qwen3 was trained at, which the file looks like; the declared context is 40960"}};
  const Ran ran = run({"extend", source, "-o", out, "--rope", "yarn,to=128k", "--json"});
  ASSERT_EQ(ran.exit, 0) << ran.err;
  EXPECT_EQ(ran.json()["original"], wanted);
  EXPECT_EQ(ran.json()["rope"]["factor"], 4.0) << "as Qwen3's card says";
  EXPECT_EQ(Json::parse(slurp(fs::path(out) / "config.json"))["rope_scaling"]["original_max_position_embeddings"],
            32768);
  EXPECT_EQ(run({"extend", source, "--plan", "-c", "128k", "--json"}).json()["original"]["tokens"], 32768);
  const Ran shown = run({"rope", source + "+rope=yarn,to=128k"});
  EXPECT_NE(shown.out.find("what Qwen3 was trained at"), std::string::npos) << shown.out;
  const Ran text = run({"extend", source, "-o", "no", "--rope", "yarn,to=128k", "--dry-run"});
  EXPECT_NE(text.out.find("\n  original context 32768: what Qwen3 was trained at"), std::string::npos) << text.out;
  const Ran told = run({"extend", source, "-o", "no", "--rope", "yarn,to=128k,original=40960", "--dry-run", "--json"});
  EXPECT_EQ(told.json()["original"], (Json{{"tokens", 40960}, {"from", "the new rope"}}));
  EXPECT_EQ(run({"extend", source, "-o", "no", "--rope", "none", "--dry-run", "--json"}).json()["context"], 40960);
}

/// --plan of every class that extend takes, from config.json alone. Gemma 3 1B: 26 layers, of which every sixth sees
/// all.
TEST(ExtendLayers, PlansOfOtherClasses) {
  Scratch scratch;
  const auto plan = [&](const Json& config, std::vector<std::string> more) {
    spill(scratch / "config.json", config.dump(1));
    std::vector<std::string> words = {"extend", (scratch / "config.json").string(), "--plan", "--json"};
    words.insert(words.end(), more.begin(), more.end());
    const Ran ran = run(words);
    EXPECT_EQ(ran.exit, 0) << ran.err;
    return ran.json();
  };
  const Json qwen = plan({{"model_type", "qwen2"},
                          {"hidden_size", 3584},
                          {"num_attention_heads", 28},
                          {"num_key_value_heads", 4},
                          {"num_hidden_layers", 28},
                          {"max_position_embeddings", 32768},
                          {"rope_theta", 1000000.0},
                          {"vocab_size", 152064},
                          {"sliding_window", 131072},
                          {"use_sliding_window", false}},
                         {"-c", "256k"});
  EXPECT_EQ(qwen["original"], (Json{{"tokens", 32768}, {"from", "max_position_embeddings"}}));
  EXPECT_EQ(qwen["kv_cache"]["f16"], std::uint64_t{2} * 28 * 4 * 128 * 262144 * 2);
  EXPECT_EQ(qwen["kv_cache"]["q8_0"], std::uint64_t{2} * 28 * 4 * 128 * 262144 / 32 * 34);
  for (const Json& row : qwen["plan"])
    if (row["method"] == "YaRN") {
      EXPECT_EQ(row["factor"], 8.0);
      EXPECT_NEAR(row["unseen_angle_ratio"].get<double>(), 1, 1e-9);
      EXPECT_EQ(row["engines"][0]["right"], true) << row;
    }
  const Json gemma = plan({{"model_type", "gemma3_text"},
                           {"hidden_size", 1152},
                           {"num_attention_heads", 4},
                           {"num_key_value_heads", 1},
                           {"num_hidden_layers", 26},
                           {"head_dim", 256},
                           {"max_position_embeddings", 32768},
                           {"sliding_window", 512},
                           {"sliding_window_pattern", 6},
                           {"rope_theta", 1000000.0},
                           {"rope_local_base_freq", 10000.0}},
                          {"-c", "128k"});
  EXPECT_EQ(gemma["kv_cache"]["f16"], std::uint64_t{2} * 256 * 2 * (4 * 131072 + 22 * 512));
  bool seen = false;
  for (const Json& row : gemma["plan"])
    if (row["method"] == "linear (PI)") {
      seen = true;
      EXPECT_EQ(row["factor"], 4.0);
      EXPECT_EQ(row["engines"][0]["right"], true) << row["engines"][0];
    }
  EXPECT_TRUE(seen);
}

/// Keys and values of layers with a window and without, by what transformers 5.23.0's classes make of the file; each
/// expected number of layers is read off its configuration_*.py.
TEST(ExtendLayers, PlansKnowWhichLayersSlide) {
  Scratch scratch;
  const auto kept = [&](const std::string& type, const Json& more) {
    Json config = {{"model_type", type},       {"hidden_size", 512},      {"num_attention_heads", 8},
                   {"num_key_value_heads", 1}, {"num_hidden_layers", 30}, {"max_position_embeddings", 32768},
                   {"head_dim", 64},           {"rope_theta", 1000000.0}};
    for (const auto& item : more.items()) config[item.key()] = item.value();
    spill(scratch / "config.json", config.dump(1));
    const Ran ran = run({"extend", (scratch / "config.json").string(), "--plan", "--json", "-c", "64k"});
    EXPECT_EQ(ran.exit, 0) << ran.err;
    return ran.exit == 0 ? ran.json()["kv_cache"]["f16"].get<std::uint64_t>() / (2 * 64 * 2) : 0;  // tokens, all layers
  };
  const auto tokens = [](std::uint64_t sliding, std::uint64_t window) {
    return sliding * window + (30 - sliding) * 65536;
  };
  const Json window = {{"sliding_window", 1024}};
  EXPECT_EQ(kept("qwen2", window), tokens(0, 0)) << "use_sliding_window is false there";
  EXPECT_EQ(kept("qwen3", {{"sliding_window", 1024}, {"use_sliding_window", true}}), tokens(2, 1024));
  EXPECT_EQ(kept("qwen2", {{"sliding_window", 1024}, {"use_sliding_window", true}, {"max_window_layers", 10}}),
            tokens(20, 1024));
  EXPECT_EQ(kept("qwen2", {{"sliding_window", 1024}, {"use_sliding_window", true}, {"max_window_layers", 0}}),
            tokens(30, 1024));
  EXPECT_EQ(kept("phi3", {{"sliding_window", 1024}, {"layer_types", nullptr}}), tokens(30, 1024));
  EXPECT_EQ(kept("gpt_oss", {{"rope_scaling", {{"rope_type", "default"}}}}), tokens(15, 128));
  EXPECT_EQ(kept("gemma3_text", Json::object()), tokens(25, 4096));
  EXPECT_EQ(kept("gemma3_text", {{"sliding_window", nullptr}}), tokens(0, 0));
  EXPECT_EQ(kept("gemma3_text", {{"sliding_window", 1024}, {"sliding_window_pattern", 3}}), tokens(20, 1024));
  // 2^32 is 0 in 32 bits
  EXPECT_EQ(kept("gemma3_text", {{"sliding_window", 1024}, {"sliding_window_pattern", 4294967296}}), tokens(30, 1024));
  for (const Json& pattern : {Json(0), Json(-6), Json(nullptr), Json("6"), Json(2.5)}) {
    Json config = Json::parse(slurp(scratch / "config.json"));
    config["sliding_window_pattern"] = pattern;
    spill(scratch / "config.json", config.dump(1));
    const Ran ran = run({"extend", (scratch / "config.json").string(), "--plan", "-c", "64k"});
    EXPECT_EQ(ran.exit, 3) << ran.err;
    EXPECT_NE(ran.err.find("a whole number above 0 was expected"), std::string::npos) << ran.err;
  }
}

/// Classes whose rope nobody has compared, and those without one.
TEST(ExtendLayers, OtherClassesAreRefusedByName) {
  Scratch scratch;
  const fs::path folder = copy_of(model("stories260K"), scratch / "model");
  Json config = Json::parse(slurp(folder / "config.json"));
  for (const auto& [type, exit, said] : {std::tuple("stablelm", 4, "it takes llama, mistral, qwen2, qwen3, phi3"),
                                         std::tuple("gpt2", 3, "no rotary embedding")}) {
    config["model_type"] = type;
    spill(folder / "config.json", config.dump(2));
    for (const std::vector<std::string>& more :
         {std::vector<std::string>{"-o", (scratch / "out").string(), "--rope", "yarn,factor=4"},
          {"--plan", "-c", "8k"}}) {
      std::vector<std::string> words = {"extend", folder.string()};
      words.insert(words.end(), more.begin(), more.end());
      const Ran ran = run(words);
      EXPECT_EQ(ran.exit, exit) << ran.err;
      EXPECT_NE(ran.err.find(said), std::string::npos) << ran.err;
    }
    const Ran shown = run({"rope", folder.string() + "+rope=yarn,factor=4"});
    EXPECT_EQ(shown.exit, exit) << "no file that extend does not write";
    EXPECT_NE(shown.err.find(said), std::string::npos) << shown.err;
  }
}

TEST(ExtendLayers, AConfigThatIsNoObject) {
  Scratch scratch;
  const fs::path folder = copy_of(model("stories260K"), scratch / "model");
  for (const char* text : {"[]", "3", "null", "\"x\""}) {
    spill(folder / "config.json", text);
    const Ran ran = run({"extend", folder.string(), "-o", (scratch / "out").string(), "--rope", "yarn,factor=4"});
    EXPECT_EQ(ran.exit, 3) << text << ran.err;
    EXPECT_EQ(run({"extend", folder.string(), "--plan", "-c", "8k"}).exit, 3) << text;
  }
}

/// What a new rope would take from one of two that differ is asked for; what is left of it is told as `rope` does.
TEST(ExtendLayers, ContradictionsOfTheFileAreTold) {
  Scratch scratch;
  const fs::path folder = copy_of(model("stories260K"), scratch / "model");
  Json config = Json::parse(slurp(folder / "config.json"));
  config["max_position_embeddings"] = 2048;
  config["rope_scaling"] = {{"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 512}};
  const auto extend = [&](const Json& more, const std::string& rope) {
    Json changed = config;
    changed.update(more);
    spill(folder / "config.json", changed.dump(2));
    return run({"extend", folder.string(), "-o", (scratch / "out").string(), "--rope", rope, "--dry-run"});
  };
  const Ran clean = extend(Json::object(), "native");
  EXPECT_EQ(clean.exit, 0) << clean.err;
  EXPECT_EQ(clean.err.find("warning"), std::string::npos) << clean.err;
  Json two = config["rope_scaling"];
  two["rope_theta"] = 500000.0;
  struct Case {
    Json more;
    std::string settled, told;
  };
  for (const Case& one :
       std::vector<Case>{{{{"original_max_position_embeddings", 1024}},
                          "yarn,factor=4,original=512",
                          "1024 at the top level and 512 in the rope"},
                         {{{"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 500000.0}}}},
                          "yarn,factor=4,original=512,rope_theta=10000",
                          "both rope_scaling and rope_parameters are given and differ"},
                         {{{"rope_theta", 10000.0}, {"rope_scaling", two}},
                          "yarn,factor=4,rope_theta=10000",
                          "rope_theta is 10000.0 at the top level and 500000.0 in the rope dictionary"}}) {
    EXPECT_EQ(extend(one.more, "native").exit, 3) << one.more;
    const Ran told = extend(one.more, one.settled);
    EXPECT_EQ(told.exit, 0) << told.err;
    EXPECT_NE(told.err.find(one.told), std::string::npos) << told.err;
  }
  spill(folder / "config.json", config.dump(2));
  const Ran newer = run({"extend", folder.string(), "-o", (scratch / "out").string(), "--rope", "native", "--dry-run",
                         "--engine", "vllm@99"});
  EXPECT_NE(newer.err.find("vllm 99 is newer than 0.33.0"), std::string::npos) << newer.err;
}

}  // namespace
}  // namespace ropewalk::tools::test
