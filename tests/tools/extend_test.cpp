#include <algorithm>
#include <iterator>
#include <set>
#include <sstream>

#include "formats/gguf.h"
#include "formats/rope_presets.h"
#include "tests/tools/command.h"
#include "tests/tools/remote_code.h"

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

TEST(Extend, ShrinkingLowersWhatNamesTheContext) {
  Scratch scratch;
  ASSERT_EQ(run({"extend", model("tolstoy-4m"), "-o", (scratch / "long").string(), "--rope", "yarn,factor=8"}).exit, 0);
  std::ofstream(scratch / "long/generation_config.json") << R"({"max_length": 2048, "top_p": 0.5})";
  const Ran ran =
      run({"extend", (scratch / "long").string(), "-o", (scratch / "short").string(), "--rope", "none", "--json"});
  ASSERT_EQ(ran.exit, 0) << ran.err;
  EXPECT_EQ(Json::parse(slurp(scratch / "short/config.json"))["max_position_embeddings"], 256);
  EXPECT_EQ(Json::parse(slurp(scratch / "short/tokenizer_config.json"))["model_max_length"], 256);
  EXPECT_EQ(Json::parse(slurp(scratch / "short/generation_config.json"))["max_length"], 256);
  const std::string notes = ran.json()["notes"].dump();
  EXPECT_NE(notes.find("tokenizer_config.json: model_max_length lowered to 256"), std::string::npos) << notes;
  EXPECT_NE(notes.find("max_length, the old context, lowered to 256"), std::string::npos) << notes;
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

// An option that would do nothing is refused.
TEST(Extend, OptionsThatWouldDoNothing) {
  Scratch scratch;
  const std::string base = model("stories260K"), gguf = (scratch / "m.gguf").string(), out = (scratch / "out").string();
  const auto refused = [&](const std::vector<std::string>& words, const std::string& what) {
    const Ran ran = run(words);
    EXPECT_EQ(ran.exit, 2) << what;
    EXPECT_NE(ran.err.find(what), std::string::npos) << ran.err;
  };
  for (const std::vector<std::string>& more : {std::vector<std::string>{"--link"},
                                               {"--dry-run"},
                                               {"--no-sync"},
                                               {"--sliding-window", "none"},
                                               {"--rope-encoding", "freqs"},
                                               {"--allow-loss", "sliding_window"}}) {
    std::vector<std::string> words = {"extend", base, "--plan", "-c", "1k"};
    words.insert(words.end(), more.begin(), more.end());
    refused(words, "--plan writes nothing, and " + more[0] + " is given");
  }
  refused({"extend", base, "-o", out, "--rope", "linear,factor=2", "--rope-encoding", "freqs"},
          "--rope-encoding is about GGUFs");
  ASSERT_EQ(run({"convert", base, "-o", gguf, "--type", "f16"}).exit, 0);
  refused({"extend", gguf, "-o", (scratch / "long.gguf").string(), "--rope", "linear,factor=2", "--link"},
          "--link is given, and the keys of a GGUF are in the file of its weights");
  EXPECT_EQ(scratch.names(), std::vector<std::string>{"m.gguf"});
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

TEST(Extend, RemoteCodeBecomesNative) {
  Scratch scratch;
  const std::string remote = remote_code_model(scratch).string(), native = (scratch / "native").string();
  const Ran dry = run({"extend", remote, "-o", native, "--rope", "native", "--json", "--dry-run"});
  EXPECT_FALSE(fs::exists(native));
  const Ran ran = run({"extend", remote, "-o", native, "--rope", "native", "--json"});
  ASSERT_EQ(ran.exit, 0) << ran.err;
  EXPECT_EQ(ran.json()["notes"], dry.json()["notes"]) << "a dry run says the same";
  const Json config = Json::parse(slurp(native + "/config.json"));
  EXPECT_FALSE(config.contains("auto_map"));
  EXPECT_EQ(config["rope_scaling"]["beta_fast"], 128.0);
  EXPECT_NEAR(config["rope_scaling"]["attention_factor"].get<double>(), 1.194081, 5e-7);
  EXPECT_EQ(config["max_position_embeddings"], 4096);
  EXPECT_EQ(Json::parse(slurp(native + "/generation_config.json"))["max_length"], 4096);
  EXPECT_FALSE(fs::exists(native + "/modeling_mistral_yarn.py"));
  EXPECT_FALSE(fs::exists(native + "/configuration_mistral.py"));
  EXPECT_TRUE(fs::exists(native + "/own.py")) << "nobody named it";
  for (const Json& engine : ran.json()["engines"])
    EXPECT_EQ(engine["right"], engine["engine"] != "llama.cpp" && engine["engine"] != "exllamav2") << engine;
  // the same logits, with and without the code
  const Ran same = run({"verify", native, "--against", remote, "-c", "600", "--windows", "1", "--max", "kl_max=0"});
  EXPECT_EQ(same.exit, 0) << same.out << same.err;
  // a GGUF carries it too
  EXPECT_EQ(run({"convert", native, "-o", (scratch / "n.gguf").string(), "--type", "f16"}).exit, 0);
  const Json rope = run({"inspect", (scratch / "n.gguf").string(), "--json"}).json()["rope"];
  EXPECT_NEAR(rope["attention_factor"].get<double>(), 1.194081, 5e-7);
}

TEST(Extend, ForAnEngineByItsRules) {
  Scratch scratch;
  const auto context = [&](const std::string& name, const std::vector<std::string>& engines) {
    std::vector<std::string> words = {"extend", model("stories260K"),           "-o",    (scratch / name).string(),
                                      "--rope", "linear,factor=2,original=512", "--json"};
    for (const std::string& engine : engines) words.insert(words.end(), {"--engine", engine});
    const Ran ran = run(words);
    EXPECT_EQ(ran.exit, 0) << ran.err;
    EXPECT_EQ(ran.json()["engines"].size(), engines.empty() ? 6u : engines.size());
    return Json::parse(slurp(scratch / (name + "/config.json")))["max_position_embeddings"].get<int>();
  };
  EXPECT_EQ(context("any", {}), 1024);
  EXPECT_EQ(context("vllm", {"vllm"}), 512) << "vLLM multiplies it by the factor";
  EXPECT_EQ(context("both", {"transformers", "llama.cpp"}), 1024);
  const auto refused = [&](const std::string& rope, const std::string& engine, int exit) {
    const Ran ran =
        run({"extend", model("stories260K"), "-o", (scratch / "no").string(), "--rope", rope, "--target", engine});
    EXPECT_EQ(ran.exit, exit) << ran.err;
    EXPECT_FALSE(fs::exists(scratch / "no"));
    return ran.err;
  };
  EXPECT_NE(refused("dynamic,factor=2", "vllm", 4).find("transformers 5.23.0 could"), std::string::npos);
  EXPECT_NE(refused("ntk-by-parts,factor=2", "llama.cpp", 4).find("ropewalk convert"), std::string::npos);
  // not the first thing it stops at, a spelling, but what it makes of the method
  const std::string betas = refused("yarn,factor=2,like=yarn-mistral", "exllamav2", 4);
  EXPECT_NE(betas.find("frequencies differ"), std::string::npos) << betas;
  EXPECT_NE(refused("yarn,factor=2", "vlm", 2).find("did you mean 'vllm'"), std::string::npos);
}

/// A recipe's own original context is that of the models it is for.
TEST(Extend, RecipesForLongerModelsAreRefused) {
  Scratch scratch;
  const std::string base = model("tolstoy-4m"), out = (scratch / "x").string();
  const Ran refused = run({"extend", base, "-o", out, "--like", "qwen", "-c", "64k"});
  EXPECT_EQ(refused.exit, 2);
  EXPECT_NE(refused.err.find("qwen is for models trained at 32768 tokens, and this one has 256"), std::string::npos)
      << refused.err;
  EXPECT_EQ(run({"extend", base, "-o", out, "--like", "llama-3.1", "-c", "64k"}).exit, 2);
  const Ran said =
      run({"extend", base, "-o", out, "--like", "qwen", "-c", "1k", "--original", "256", "--dry-run", "--json"});
  ASSERT_EQ(said.exit, 0) << said.err;
  EXPECT_EQ(said.json()["rope"]["factor"], 4.0);
}

TEST(Extend, RecipesAndWhatContradicts) {
  Scratch scratch;
  const std::string base = model("tolstoy-4m");
  const auto rope = [&](std::vector<std::string> more) {
    std::vector<std::string> words = {"extend", base, "-o", (scratch / "x").string(), "--dry-run", "--json"};
    words.insert(words.end(), more.begin(), more.end());
    return run(words);
  };
  const Json like = rope({"--like", "yarn-mistral", "-c", "4k"}).json();
  EXPECT_EQ(like["rope"]["beta_fast"], 128);
  EXPECT_NE(like["arithmetic"].dump().find("0.07 ln 16 + 1 = 1.194081"), std::string::npos) << like["arithmetic"];
  EXPECT_NE(like["arithmetic"].dump().find("256 x 16 = 4096 tokens"), std::string::npos);
  EXPECT_EQ(rope({"--rope", "yarn,factor=8", "--like", "yarn-mistral"}).json()["rope"]["beta_slow"], 2);
  EXPECT_EQ(rope({"--like", "yarn-mistral"}).exit, 2) << "how far?";
  EXPECT_EQ(rope({"--like", "yarn-mistrel", "-c", "4k"}).exit, 2);
  EXPECT_EQ(rope({"--rope", "linear,factor=8", "--like", "yarn-mistral"}).exit, 2);
  EXPECT_EQ(rope({"--rope", "yarn,factor=4,to=4k"}).exit, 2);
  EXPECT_EQ(rope({"--rope", "yarn,factor=4", "-c", "4k"}).exit, 2);
  EXPECT_EQ(rope({"--rope", "yarn,factor=4", "--sliding-window", "x"}).exit, 2);
  EXPECT_EQ(rope({"--rope", "yarn,factor=4", "--sliding-window", "none"}).exit, 2) << "a llama has none";
}

/// What a file says twice, or what no engine's reader knows, is not guessed; a SPEC that says it is written.
TEST(Extend, ContradictionsAreSettledByTheSpec) {
  Scratch scratch;
  const fs::path folder = scratch / "base";
  fs::copy(model("tolstoy-4m"), folder, fs::copy_options::recursive);
  const std::string before = slurp(folder / "config.json");
  const auto extend = [&](const Json& more, const std::string& spec) {
    Json config = Json::parse(before);
    config.merge_patch(more);
    std::ofstream(folder / "config.json") << config.dump(2) << "\n";
    return run({"extend", folder.string(), "-o", (scratch / "out").string(), "--rope", spec, "--json", "--overwrite"});
  };
  const Json two_bases = {{"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 500000.0}}}};
  const Ran refused = extend(two_bases, "yarn,factor=4");
  EXPECT_EQ(refused.exit, 3);
  EXPECT_NE(refused.err.find("add to the new rope rope_theta=10000.0 or rope_theta=500000.0"), std::string::npos)
      << refused.err;
  EXPECT_FALSE(fs::exists(scratch / "out"));
  EXPECT_EQ(extend(two_bases, "yarn,factor=4,rope_theta=500000").json()["rope"]["theta"], 500000);
  const Json ntk = {{"rope_scaling", {{"type", "ntk-by-parts"}, {"factor", 4.0}}}};
  EXPECT_EQ(extend(ntk, "native").exit, 4);
  const Ran replaced = extend(ntk, "ntk-by-parts,factor=4,original=256");
  ASSERT_EQ(replaced.exit, 0) << replaced.err;
  EXPECT_NE(replaced.err.find("the file's own rope is not read (rope type 'ntk-by-parts'"), std::string::npos);
  EXPECT_EQ(Json::parse(slurp(scratch / "out/config.json"))["rope_scaling"]["rope_type"], "longrope");
  const Json su = {{"max_position_embeddings", 1024},
                   {"rope_scaling",
                    {{"type", "su"},
                     {"original_max_position_embeddings", 256},
                     {"short_factor", std::vector<double>(16, 1.0)},
                     {"long_factor", std::vector<double>(16, 2.0)}}}};
  const Ran native = extend(su, "native");
  ASSERT_EQ(native.exit, 0) << native.err;
  EXPECT_EQ(Json::parse(slurp(scratch / "out/config.json"))["rope_scaling"]["type"], "longrope");
  for (const Json& engine : native.json()["engines"])
    EXPECT_TRUE(engine["engine"] != "transformers" || engine["right"] == true) << engine;
}

/// Infinity is what Python writes: a class without a rope is told by that, and of others nothing is written.
TEST(Extend, PythonsNumbers) {
  Scratch scratch;
  const fs::path folder = scratch / "base";
  fs::copy(model("tolstoy-4m"), folder, fs::copy_options::recursive);
  Json config = Json::parse(slurp(folder / "config.json"));
  const auto extend = [&](const char* type) {
    config["model_type"] = type;
    std::string text = config.dump(2);
    text.insert(1, "\n  \"time_step_limit\": [0.0, Infinity],");
    std::ofstream(folder / "config.json") << text;
    return run({"extend", folder.string(), "-o", (scratch / "out").string(), "--rope", "yarn,factor=4"});
  };
  const Ran none = extend("nemotron_h");
  EXPECT_EQ(none.exit, 3);
  EXPECT_NE(none.err.find("model type 'nemotron_h' has no rotary embedding"), std::string::npos) << none.err;
  const Ran llama = extend("llama");
  EXPECT_EQ(llama.exit, 3);
  EXPECT_NE(llama.err.find("Infinity stands there"), std::string::npos) << llama.err;
  EXPECT_FALSE(fs::exists(scratch / "out"));
}

TEST(Extend, WhatWouldBeLostIsAsked) {
  Scratch scratch;
  const fs::path remote = remote_code_model(scratch);
  const auto extend = [&](const std::string& to, std::vector<std::string> more) {
    std::vector<std::string> words = {"extend", remote.string(), "-o", (scratch / to).string(),
                                      "--rope", "yarn,factor=32"};
    words.insert(words.end(), more.begin(), more.end());
    return run(words);
  };
  const Ran window = extend("a", {});
  EXPECT_EQ(window.exit, 4);
  EXPECT_NE(window.err.find("sliding_window: a query sees the last 4096 tokens only"), std::string::npos) << window.err;
  EXPECT_EQ(extend("b", {"--allow-loss", "sliding_window"}).exit, 0);
  EXPECT_EQ(extend("c", {"--sliding-window", "none"}).exit, 0);
  EXPECT_TRUE(Json::parse(slurp(scratch / "c/config.json"))["sliding_window"].is_null());
  EXPECT_EQ(extend("d", {"--sliding-window", "8k"}).exit, 0);
  EXPECT_EQ(Json::parse(slurp(scratch / "d/config.json"))["sliding_window"], 8192);
  // fewer tokens than before is not silent
  const Ran shrunk = run({"extend", (scratch / "c").string(), "-o", (scratch / "e").string(), "--rope", "none"});
  EXPECT_EQ(shrunk.exit, 0);
  EXPECT_NE(shrunk.err.find("the context served shrinks from 8192 to 256 tokens"), std::string::npos) << shrunk.err;
  const Ran made_up =
      run({"extend", "synthetic:" + remote.string(), "-o", (scratch / "f").string(), "--rope", "yarn,factor=32"});
  EXPECT_EQ(made_up.exit, 2);
  EXPECT_FALSE(fs::exists(scratch / "f"));
}

TEST(Extend, GgufReportsWhatItsOwnBytesSay) {
  Scratch scratch;
  const std::string base = (scratch / "base.gguf").string();
  ASSERT_EQ(run({"convert", model("tolstoy-4m"), "-o", base, "--type", "f16"}).exit, 0);
  for (const char* spec : {"yarn,factor=8", "yarn,factor=8,like=yarn-mistral", "ntk-by-parts,factor=4", "linear,to=1k",
                           "yarn,factor=8,truncate=false", "llama3,factor=4"}) {
    const Ran ran =
        run({"extend", base, "-o", (scratch / "out.gguf").string(), "--rope", spec, "--overwrite", "--json"});
    ASSERT_EQ(ran.exit, 0) << spec << ran.err;
    ASSERT_EQ(ran.json()["engines"].size(), 1u);
    EXPECT_EQ(ran.json()["engines"][0]["right"], true) << spec << ran.json()["engines"];
  }
  EXPECT_EQ(
      run({"extend", base, "-o", (scratch / "no.gguf").string(), "--rope", "yarn,factor=8", "--engine", "vllm"}).exit,
      2);
}

// Each version by its own rules, and what is not certain about them is said.
TEST(Extend, GgufVerdictsAreThoseOfTheVersionsAskedFor) {
  Scratch scratch;
  const std::string base = (scratch / "base.gguf").string();
  ASSERT_EQ(run({"convert", model("tolstoy-4m"), "-o", base, "--type", "f16"}).exit, 0);
  const Ran ran = run({"extend", base, "-o", (scratch / "out.gguf").string(), "--rope", "yarn,factor=8", "--engine",
                       "llama.cpp", "--engine", "llama.cpp@2025-02", "--json"});
  ASSERT_EQ(ran.exit, 0) << ran.err;
  const Json engines = ran.json()["engines"];
  ASSERT_EQ(engines.size(), 2u);
  EXPECT_EQ(engines[0]["version"], "0.5.0");
  EXPECT_EQ(engines[1]["version"], "2025-02");
  EXPECT_EQ(engines[1]["right"], true) << engines[1];
  EXPECT_NE(engines[1]["notices"].dump().find("was not run"), std::string::npos) << engines[1];
  EXPECT_EQ(engines[0]["notices"].dump().find("was not run"), std::string::npos) << engines[0];
}

TEST(Extend, HelpNamesEveryRecipe) {
  const std::string help = run({"extend", "--help"}).out;
  const std::size_t from = help.find("\n  --like NAME "), to = help.find("\n  -", from + 1);
  ASSERT_TRUE(from != std::string::npos && to != std::string::npos) << help;
  // its own lines, word by word: a name stands elsewhere in the help, and within other names
  std::string lines = help.substr(from, to - from);
  std::replace(lines.begin(), lines.end(), ',', ' ');
  std::istringstream in(lines);
  const std::set<std::string> words{std::istream_iterator<std::string>(in), {}};
  for (const formats::RopePreset& preset : formats::rope_presets())
    EXPECT_TRUE(words.contains(std::string(preset.name))) << preset.name;
}

// rope_freqs.weight says no context; the key beside it does, in every command.
TEST(Extend, GgufWithDivisorsKnowsItsOriginalContext) {
  Scratch scratch;
  const std::string base = (scratch / "base.gguf").string(), long_one = (scratch / "long.gguf").string();
  ASSERT_EQ(run({"convert", model("tolstoy-4m"), "-o", base, "--type", "f16"}).exit, 0);
  for (const char* spec : {"yarn,factor=8,like=yarn-mistral", "ntk-by-parts,factor=8", "llama3,factor=8"}) {
    ASSERT_EQ(run({"extend", base, "-o", long_one, "--rope", spec, "--overwrite"}).exit, 0);
    EXPECT_EQ(run({"inspect", long_one, "--json"}).json()["rope"]["original_context"], 256) << spec;
    const Json targets = run({"rope", long_one, "--engine", "llama.cpp", "--json"}).json()["targets"];
    for (const Json& target : targets) EXPECT_EQ(target["original_context"], 256) << spec << target["engine"];
    const Ran again = run({"extend", long_one, "-o", (scratch / "no.gguf").string(), "--rope", "yarn,to=4k"});
    EXPECT_EQ(again.exit, 2);
    EXPECT_NE(again.err.find("original=256"), std::string::npos) << again.err;
    EXPECT_EQ(run({"convert", model("tolstoy-4m") + "+rope=" + spec, "-o", long_one, "--overwrite"}).exit, 0);
    EXPECT_EQ(run({"inspect", long_one, "--json"}).json()["rope"]["original_context"], 256) << "convert, " << spec;
  }
}

// A plan needs no weights, and says where the context that it counts from stands.
TEST(Extend, PlanNeedsNoWeights) {
  Scratch scratch;
  const fs::path folder = scratch / "bare";
  fs::create_directories(folder);
  Json config = Json::parse(slurp(model("tolstoy-4m") + "/config.json"));
  const auto plan = [&](std::vector<std::string> more) {
    spill(folder / "config.json", config.dump(2));
    std::vector<std::string> words = {"extend", folder.string(), "--plan", "--json"};
    words.insert(words.end(), more.begin(), more.end());
    const Ran ran = run(words);
    EXPECT_EQ(ran.exit, 0) << ran.err;
    return ran.json();
  };
  EXPECT_EQ(plan({"-c", "2k"})["original"], (Json{{"tokens", 256}, {"from", "max_position_embeddings"}}));
  EXPECT_EQ(run({"extend", (folder / "config.json").string(), "--plan", "-c", "2k"}).exit, 0) << "the file alone";
  // Mistral 7B v0.1 says 32768 and was trained at 8192: two more than a window of 4096
  config.update({{"model_type", "mistral"},
                 {"max_position_embeddings", 32768},
                 {"sliding_window", 4096},
                 {"rope_theta", 10000.0},
                 {"vocab_size", 32000}});
  Json mistral = plan({"-c", "64k"});
  EXPECT_EQ(mistral["original"]["tokens"], 8192);
  EXPECT_NE(mistral["original"]["from"].get<std::string>().find("Mistral 7B v0.1 was trained at"), std::string::npos);
  for (const Json& row : mistral["plan"])
    if (row["method"] == "YaRN") {
      EXPECT_EQ(row["factor"], 8.0);
      EXPECT_EQ(row["spec"], "yarn,to=65536,original=8192") << "what is planned can be written";
    }
  EXPECT_EQ(plan({"-c", "64k", "--original", "16k"})["original"], (Json{{"tokens", 16384}, {"from", "--original"}}));
  EXPECT_EQ(plan({"-c", "16k"})["original"]["tokens"], 8192) << "it says 32768, and was not trained at them";
  config["rope_scaling"] = {{"type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 8192}};
  EXPECT_EQ(plan({"-c", "64k"})["original"], (Json{{"tokens", 8192}, {"from", "original_max_position_embeddings"}}));
  config["rope_scaling"] = {{"type", "linear"}, {"factor", 4.0}};
  EXPECT_EQ(plan({"-c", "64k"})["original"], (Json{{"tokens", 8192}, {"from", "max_position_embeddings / factor"}}));
  EXPECT_EQ(run({"extend", folder.string(), "--plan", "-c", "64k", "--original", "128k"}).exit, 2);
  EXPECT_EQ(
      run({"extend", model("tolstoy-4m"), "-o", (scratch / "no").string(), "--rope", "yarn,to=2k", "--original", "128"})
          .exit,
      2)
      << "the SPEC says it";
  EXPECT_EQ(run({"extend", model("tolstoy-4m"), "-o", (scratch / "no").string(), "--like", "yarn-llama", "-c", "2k",
                 "--original", "128", "--dry-run", "--json"})
                .json()["rope"]["factor"],
            16);
}

// Of a GGUF the keys are enough: the first bytes of one that is being fetched, or a vocabulary alone.
TEST(Extend, PlanOfAGgufsFirstBytes) {
  Scratch scratch;
  const std::string whole = (scratch / "m.gguf").string();
  ASSERT_EQ(run({"convert", model("tolstoy-4m"), "-o", whole, "--type", "f16", "--no-sync"}).exit, 0);
  const auto plan = [&](const std::string& path) {
    const Ran ran = run({"extend", path, "--plan", "-c", "2k", "--json"});
    EXPECT_EQ(ran.exit, 0) << ran.err;
    Json out = ran.json();
    out.erase("source");
    out["rope"].erase("provenance");  // the file's name
    return out;
  };
  const std::string bytes = slurp(whole);
  spill(scratch / "cut.gguf", bytes.substr(0, bytes.size() / 2));
  EXPECT_EQ(plan((scratch / "cut.gguf").string()), plan(whole));
  const Ran words = run({"extend", whole, "--plan", "-c", "2k"});
  EXPECT_NE(words.out.find("ropewalk extend " + whole + " -o OUT.gguf --rope "), std::string::npos) << words.out;
  const Ran written =
      run({"extend", (scratch / "cut.gguf").string(), "-o", (scratch / "no.gguf").string(), "--rope", "yarn,to=2k"});
  EXPECT_EQ(written.exit, 3);
  EXPECT_NE(written.err.find("the file is cut short"), std::string::npos) << written.err;
  spill(scratch / "head.gguf", bytes.substr(0, 100));
  EXPECT_EQ(run({"extend", (scratch / "head.gguf").string(), "--plan", "-c", "2k"}).exit, 3) << "not even the keys";
}

// Divisors of the frequencies are a tensor: a plan without them would be of another rope.
TEST(Extend, PlanOfAGgufWhoseDivisorsAreCutOffIsRefused) {
  Scratch scratch;
  const std::string whole = (scratch / "m.gguf").string();
  ASSERT_EQ(
      run({"convert", model("tolstoy-4m") + "+rope=llama3,factor=8", "-o", whole, "--type", "f16", "--no-sync"}).exit,
      0);
  const auto plan = [](const std::string& path) { return run({"extend", path, "--plan", "-c", "8k", "--json"}); };
  const auto content = [&](const std::string& path) {
    Json out = plan(path).json();
    out.erase("source");
    out["rope"].erase("provenance");
    return out;
  };
  const Json wanted = content(whole);
  EXPECT_EQ(wanted["rope"]["text"], "plain (theta 10000, 16 frequency divisors)");
  std::uint64_t begin = 0, bytes_after = 0;  // of rope_freqs.weight; the data ends with the file
  const std::string bytes = slurp(whole);
  const formats::GgufFile file = formats::read_gguf(whole);
  for (auto one = file.tensors.rbegin(); one != file.tensors.rend(); ++one) {
    const TensorInfo& info = (*one)->info();
    bytes_after += (byte_size(info.dtype, info.elements()).value() + 31) / 32 * 32;
    if (info.name == "rope_freqs.weight") begin = bytes.size() - bytes_after;
  }
  ASSERT_GT(begin, 0u);
  const std::string cut = (scratch / "cut.gguf").string();
  for (const std::uint64_t size : {begin, begin + 63}) {  // 16 floats
    spill(cut, bytes.substr(0, size));
    const Ran refused = plan(cut);
    EXPECT_EQ(refused.exit, 3);
    EXPECT_NE(
        refused.err.find("cut.gguf: the data of 'rope_freqs.weight', which the rope needs, is cut off; fetch more "
                         "of the file"),
        std::string::npos)
        << refused.err;
  }
  spill(cut, bytes.substr(0, begin + 64));
  EXPECT_EQ(content(cut), wanted);
  // what is told of the whole file is told here
  spill(cut, bytes + "more");
  const Ran longer = plan(cut);
  EXPECT_EQ(longer.exit, 0);
  EXPECT_NE(longer.err.find("4 bytes after the last tensor are ignored"), std::string::npos) << longer.err;
  EXPECT_NE(longer.json()["warnings"].dump().find("4 bytes after the last tensor"), std::string::npos);
}

// Keys stand in the first shard, the divisors may in any.
TEST(Extend, PlanOfAShardLooksIntoTheOthers) {
  Scratch scratch;
  const auto plan = [&](const char* name) {
    return run({"extend", (scratch / name).string(), "--plan", "-c", "8k", "--json"});
  };
  ASSERT_EQ(run({"convert", model("tolstoy-4m") + "+rope=llama3,factor=8", "-o", (scratch / "m.gguf").string(),
                 "--type", "f16", "--no-sync", "--split-max-tensors", "20", "--no-tensor-first-split"})
                .exit,
            0);
  const fs::path divisors = scratch / "m-00002-of-00003.gguf", last = scratch / "m-00003-of-00003.gguf";
  ASSERT_TRUE(fs::exists(last));
  const std::string bytes = slurp(divisors);
  spill(divisors, bytes.substr(0, bytes.size() / 2));
  fs::remove(last);
  for (const char* name : {"m-00001-of-00003.gguf", "m-00002-of-00003.gguf"}) {
    const Ran ran = plan(name);
    ASSERT_EQ(ran.exit, 0) << ran.err;
    EXPECT_EQ(ran.json()["rope"]["text"], "plain (theta 10000, 16 frequency divisors)") << name;
  }
  fs::remove(divisors);
  const Ran refused = plan("m-00001-of-00003.gguf");
  EXPECT_EQ(refused.exit, 3);
  EXPECT_NE(refused.err.find("may stand in 'm-00002-of-00003.gguf', which is missing"), std::string::npos)
      << refused.err;
}

TEST(Extend, PlanComparesMethodsAndWritesNothing) {
  Scratch scratch;
  const Ran ran = run({"extend", model("tolstoy-4m"), "--plan", "-c", "2k", "--json"});
  ASSERT_EQ(ran.exit, 0) << ran.err;
  std::map<std::string, Json> plan;
  for (const Json& row : ran.json()["plan"]) plan[row["method"]] = row;
  ASSERT_EQ(plan.size(), 6u);
  EXPECT_NEAR(plan["as it is"]["unseen_angle_ratio"].get<double>(), 8, 1e-9);
  EXPECT_NEAR(plan["YaRN"]["unseen_angle_ratio"].get<double>(), 1, 1e-9);
  EXPECT_NEAR(plan["linear (PI)"]["high_frequency_damage"].get<double>(), 0.875, 1e-12);
  EXPECT_EQ(run({"extend", model("tolstoy-4m"), "--plan"}).exit, 2);
  EXPECT_EQ(run({"extend", model("tolstoy-4m"), "--plan", "-c", "128"}).exit, 2) << "it serves 256 already";
  // 4 layers x 4 heads of 32 channels, keys and values, 2048 tokens, 2 bytes; q8_0: 34 bytes for 32 values
  EXPECT_EQ(ran.json()["kv_cache"]["f16"], 4 * 4 * 32 * 2 * 2048 * 2);
  EXPECT_EQ(ran.json()["kv_cache"]["q8_0"], 4 * 4 * 2 * 2048 * 34);
  const auto right = [&](const char* method) {
    std::string names;
    for (const Json& engine : plan[method]["engines"])
      if (engine["right"] == true) names += engine["engine"].get<std::string>() + " ";
    return names;
  };
  EXPECT_EQ(right("YaRN"), "transformers vllm sglang llama.cpp exllamav3 ");
  EXPECT_EQ(right("dynamic NTK"), "transformers ");
  // the method it ends with is one that the engines read, and the command names those that were asked for
  const auto advice = [](std::vector<std::string> more) {
    std::vector<std::string> words = {"extend", model("tolstoy-4m"), "--plan"};
    words.insert(words.end(), more.begin(), more.end());
    const std::string out = run(words).out;
    const std::size_t at = out.find("to write one: ");
    return at == std::string::npos ? out : out.substr(at + 14);
  };
  const std::string command = "ropewalk extend " + model("tolstoy-4m") + " -o OUT --rope ";
  EXPECT_EQ(advice({"-c", "2k"}), command + "yarn,to=2048\nexllamav2 0.3.2 does not run it: see its row\n");
  EXPECT_EQ(advice({"-c", "2k", "--engine", "vllm@0.24", "--engine", "llama.cpp"}),
            command + "yarn,to=2048 --engine vllm@0.24 --engine llama.cpp\n");
  const std::string both = advice({"-c", "2k", "--engine", "exllamav2", "--engine", "vllm@0.10"});
  EXPECT_TRUE(both.ends_with(" --engine exllamav2 --engine vllm@0.10\n")) << both;
  EXPECT_EQ(both.find("yarn"), std::string::npos) << both;
  EXPECT_NE(advice({"-c", "256"}).find("\nas it is: the model serves 256 tokens without a change"), std::string::npos);
  // Phi-3.5 mini: YaRN is read by one engine, linear by all
  const std::string phi = (scratch / "phi.json").string();
  const Json phi_config = {{"model_type", "phi3"},
                           {"hidden_size", 3072},
                           {"num_attention_heads", 32},
                           {"num_hidden_layers", 32},
                           {"max_position_embeddings", 4096},
                           {"original_max_position_embeddings", 4096},
                           {"rope_theta", 10000.0}};
  std::ofstream(phi) << phi_config.dump();
  const std::string linear = run({"extend", phi, "--plan", "-c", "64k"}).out;
  EXPECT_NE(linear.find(" --rope linear,to=65536\n"), std::string::npos) << linear;
  // every row's SPEC can be written, over a model that is scaled already too
  for (const std::string& base : {model("tolstoy-4m"), model("tolstoy-4m-yarn-2k")}) {
    const Json rows = run({"extend", base, "--plan", "-c", "4k", "--json"}).json()["plan"];
    EXPECT_EQ(rows[0]["method"], "as it is");
    EXPECT_NEAR(rows[0]["unseen_angle_ratio"].get<double>(), base == model("tolstoy-4m") ? 16 : 2, 0.01);
    for (std::size_t row = 1; row < rows.size(); ++row)
      EXPECT_EQ(run({"extend", base, "-o", "never", "--dry-run", "--rope", rows[row]["spec"].get<std::string>()}).exit,
                0)
          << rows[row]["spec"];
  }
}

}  // namespace
}  // namespace ropewalk::tools::test
