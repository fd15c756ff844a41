// A new rope in merge and convert: for the engines asked for, as extend writes it.
#include "tests/tools/command.h"
#include "tests/tools/remote_code.h"

namespace ropewalk::tools::test {
namespace {

Json config_of(const fs::path& folder) {
  Json config = Json::parse(slurp(folder / "config.json"));
  for (const char* key : {"dtype", "torch_dtype"}) config.erase(key);  // merge and convert write the tensors' own
  return config;
}

TEST(NewRope, MergeAndConvertWriteWhatExtendWrites) {
  Scratch scratch;
  const std::string base = model("stories260K"), rope = "linear,factor=2,original=512";
  for (const std::string& engine : {std::string("vllm"), std::string("transformers"), std::string()}) {
    std::vector<std::string> end = {"--rope", rope, "--json", "--overwrite"};
    if (!engine.empty()) end.insert(end.end(), {"--engine", engine});
    const auto ran = [&](std::vector<std::string> words) {
      words.insert(words.end(), end.begin(), end.end());
      const Ran one = run(words);
      EXPECT_EQ(one.exit, 0) << one.err;
      return one.json();
    };
    const Json extended = ran({"extend", base, "-o", (scratch / "extended").string()});
    const Json merged = ran({"merge", base, "-o", (scratch / "merged").string()});
    const Json converted = ran({"convert", base, "-o", (scratch / "converted").string(), "--type", "hf:f32"});
    for (const char* name : {"merged", "converted"}) {
      EXPECT_EQ(config_of(scratch / name), config_of(scratch / "extended")) << name << " for " << engine;
      EXPECT_EQ(slurp(scratch / (std::string(name) + "/tokenizer_config.json")),
                slurp(scratch / "extended/tokenizer_config.json"));
    }
    EXPECT_EQ(merged["engines"], extended["engines"]);
    EXPECT_EQ(converted["outputs"][0]["engines"], extended["engines"]);
    EXPECT_EQ(config_of(scratch / "merged")["max_position_embeddings"], engine == "vllm" ? 512 : 1024);
  }
}

/// tolstoy-4m as a Mistral whose queries see the last 256 tokens.
fs::path windowed_model(const Scratch& scratch) {
  const fs::path folder = scratch / "windowed";
  fs::copy(model("tolstoy-4m"), folder);
  Json config = Json::parse(slurp(folder / "config.json"));
  config.update({{"model_type", "mistral"}, {"architectures", {"MistralForCausalLM"}}, {"sliding_window", 256}});
  fs::remove(folder / "config.json");
  spill(folder / "config.json", config.dump(2));
  return folder;
}

// A window shorter than the new context: no command writes it in silence.
TEST(NewRope, ASlidingWindowIsSettledAsExtendSettlesIt) {
  Scratch scratch;
  const std::string base = windowed_model(scratch).string();
  const auto ran = [&](const std::string& command, const std::string& out, const std::vector<std::string>& more) {
    std::vector<std::string> words = {command,         base,    "-o", (scratch / out).string(), "--rope",
                                      "yarn,factor=8", "--json"};
    if (command == "convert") words.insert(words.end(), {"--type", "hf:keep"});
    words.insert(words.end(), more.begin(), more.end());
    return run(words);
  };
  const std::vector<std::string> commands = {"extend", "merge", "convert"};
  for (const std::string& command : commands) {
    const Ran refused = ran(command, "no", {});
    EXPECT_EQ(refused.exit, 4) << command << refused.err;
    EXPECT_NE(refused.err.find("sliding_window: a query sees the last 256 tokens only, and 2048 are to be served"),
              std::string::npos)
        << command << refused.err;
    EXPECT_FALSE(fs::exists(scratch / "no"));
  }
  int n = 0;
  for (const auto& [more, window] :
       std::vector<std::pair<std::vector<std::string>, Json>>{{{"--sliding-window", "none"}, nullptr},
                                                              {{"--sliding-window", "2k"}, 2048},
                                                              {{"--allow-loss", "sliding_window"}, 256}}) {
    std::vector<Json> configs, losses;
    for (const std::string& command : commands) {
      const std::string out = command + std::to_string(n);
      const Ran one = ran(command, out, more);
      ASSERT_EQ(one.exit, 0) << command << one.err;
      configs.push_back(config_of(scratch / out));
      losses.push_back(command == "convert" ? one.json()["outputs"][0]["losses"] : one.json()["losses"]);
    }
    ++n;
    EXPECT_EQ(configs[0]["max_position_embeddings"], 2048);
    EXPECT_EQ(configs[0]["sliding_window"], window);
    EXPECT_EQ(losses[0].size(), more[0] == "--allow-loss" ? 1u : 0u);
    for (std::size_t i = 1; i < commands.size(); ++i) {
      EXPECT_EQ(configs[i], configs[0]) << commands[i];
      EXPECT_EQ(losses[i], losses[0]) << commands[i];
    }
  }
}

// llama.cpp's llamas see everything: a GGUF is right of the model whose window was lifted, and of no other.
TEST(NewRope, AGgufBesideALiftedWindow) {
  Scratch scratch;
  const std::string base = windowed_model(scratch).string();
  const auto ran = [&](const std::vector<std::string>& more) {
    std::vector<std::string> words = {"convert", base,         "-o",     (scratch / "o.gguf").string(),
                                      "--type",  "f16",        "--rope", "yarn,factor=8",
                                      "--json",  "--overwrite"};
    words.insert(words.end(), more.begin(), more.end());
    return run(words);
  };
  EXPECT_EQ(ran({}).exit, 4);
  EXPECT_EQ(ran({"--sliding-window", "1k"}).exit, 4) << "shorter than the 2048 served";
  const Ran lifted = ran({"--sliding-window", "none"});
  ASSERT_EQ(lifted.exit, 0) << lifted.err;
  EXPECT_TRUE(lifted.json()["outputs"][0]["losses"].empty());
}

TEST(NewRope, WordsAboutAWindowThatMeanNothing) {
  Scratch scratch;
  const std::string windowed = windowed_model(scratch).string(), out = (scratch / "out").string();
  const auto refused = [&](std::vector<std::string> words, const char* what) {
    if (words[0] == "convert") words.insert(words.end(), {"--type", "hf:f16"});
    const Ran ran = run(words);
    EXPECT_EQ(ran.exit, 2) << ran.err;
    EXPECT_NE(ran.err.find(what), std::string::npos) << ran.err;
  };
  for (const char* command : {"merge", "convert"}) {
    refused({command, windowed, "-o", out, "--dtype", "f16", "--sliding-window", "none"}, "no rope is given");
    refused({command, windowed, "-o", out, "--dtype", "f16", "--allow-loss", "sliding_window"},
            "--allow-loss is about");
    refused({command, windowed, "-o", out, "--rope", "yarn,factor=2", "--sliding-window", "x"}, "give a number");
    refused({command, windowed, "-o", out, "--rope", "yarn,factor=2", "--allow-loss", "x"}, "is the name of no loss");
    refused({command, model("stories260K"), "-o", out, "--rope", "yarn,factor=2", "--sliding-window", "none"},
            "a llama model has none");
  }
  EXPECT_FALSE(fs::exists(out));
}

TEST(NewRope, RemoteCodeIsLeftOut) {
  Scratch scratch;
  const std::string remote = remote_code_model(scratch).string();
  ASSERT_EQ(run({"merge", remote + "+rope=native", "-o", (scratch / "merged").string()}).exit, 0);
  ASSERT_EQ(run({"convert", remote + "+rope=native", "-o", (scratch / "converted").string(), "--type", "hf:keep"}).exit,
            0);
  ASSERT_EQ(run({"merge", remote, "--dtype", "f32", "-o", (scratch / "with_code").string()}).exit, 0);
  for (const char* name : {"merged", "converted"}) {
    EXPECT_FALSE(config_of(scratch / name).contains("auto_map")) << name;
    EXPECT_FALSE(fs::exists(scratch / (std::string(name) + "/modeling_mistral_yarn.py"))) << name;
    EXPECT_FALSE(fs::exists(scratch / (std::string(name) + "/configuration_mistral.py"))) << name;
    EXPECT_TRUE(fs::exists(scratch / (std::string(name) + "/own.py"))) << "nobody named it";
    EXPECT_EQ(Json::parse(slurp(scratch / (std::string(name) + "/generation_config.json")))["max_length"], 4096);
  }
  EXPECT_TRUE(fs::exists(scratch / "with_code/modeling_mistral_yarn.py")) << "control: its rope is its code's";
}

TEST(NewRope, EnginesThatCannotBeServedAreRefused) {
  Scratch scratch;
  const std::string base = model("stories260K"), out = (scratch / "out").string(), gguf = (scratch / "o.gguf").string();
  const auto refused = [&](std::vector<std::string> words, int exit, const char* what) {
    const Ran ran = run(words);
    EXPECT_EQ(ran.exit, exit) << ran.err;
    EXPECT_NE(ran.err.find(what), std::string::npos) << ran.err;
  };
  refused({"merge", base, "--dtype", "f16", "-o", out, "--engine", "vllm"}, 2, "no rope is given");
  refused({"convert", base, "-o", gguf, "--type", "f16", "--engine", "llama.cpp"}, 2, "no rope is given");
  refused({"convert", base, "-o", gguf, "--type", "f16", "--rope", "yarn,factor=2", "--engine", "vllm"}, 2,
          "reads no config.json out of a GGUF");
  refused({"merge", base, "-o", out, "--rope", "dynamic,factor=2", "--engine", "vllm"}, 4, "transformers 5.23.0 could");
  refused({"merge", base, "-o", out, "--rope", "yarn,factor=2", "--engine", "vlm"}, 2, "did you mean 'vllm'");
  refused({"merge", base, "-o", out, "--rope", R"({"full_attention": {"rope_type": "yarn", "factor": 2}})"}, 2,
          "the rope of a layer type, 'full_attention'");
  EXPECT_TRUE(scratch.names().empty());
  // a folder and a GGUF at once: each is read by those that read it
  const Ran both = run({"convert", base, "-o", (scratch / "{name}-{type}.gguf").string(), "--type", "f16,hf:f16",
                        "--rope", "yarn,factor=2", "--engine", "vllm", "--engine", "llama.cpp", "--json"});
  ASSERT_EQ(both.exit, 0) << both.err;
  const Json outputs = both.json()["outputs"];
  EXPECT_EQ(outputs[0]["engines"].size(), 1u);
  EXPECT_EQ(outputs[0]["engines"][0]["engine"], "llama.cpp");
  EXPECT_EQ(outputs[0]["engines"][0]["right"], true);
  EXPECT_EQ(outputs[1]["engines"].size(), 2u);
}

/// Mistral 7B v0.1 was trained at 8192 tokens and declares 32768: whichever command lays a rope over it says from what.
TEST(NewRope, WhatItCountsFromIsTold) {
  Scratch scratch;
  const std::string path = (scratch / "config.json").string(), source = "synthetic:" + path;
  spill(path, R"({"model_type": "mistral", "hidden_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1,
    "intermediate_size": 64, "num_hidden_layers": 1, "vocab_size": 32000, "rms_norm_eps": 1e-05, "sliding_window": null,
    "torch_dtype": "float16", "rope_theta": 10000.0, "max_position_embeddings": 32768})");
  const Ran ran = run({"inspect", source + "+rope=yarn,factor=16"});
  ASSERT_EQ(ran.exit, 0) << ran.err;
  EXPECT_NE(ran.out.find("YaRN x16 of 8192"), std::string::npos) << ran.out;
  EXPECT_NE((ran.out + ran.err).find("the new rope counts from 8192 tokens: what Mistral 7B v0.1 was trained at"),
            std::string::npos)
      << ran.out << ran.err;
  const Ran quiet = run({"inspect", source + "+rope=yarn,factor=16,original=32768"});
  EXPECT_EQ((quiet.out + quiet.err).find("counts from"), std::string::npos) << "the SPEC says it";
}

}  // namespace
}  // namespace ropewalk::tools::test
