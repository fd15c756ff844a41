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

/// max_position_embeddings of a dynamic rope is the original context: what it serves is s times that.
TEST(Extend, ADynamicRopeServesMoreThanTheFileSays) {
  Scratch scratch;
  const std::string source = model("tolstoy-4m"), out = (scratch / "long").string();
  const Ran ran = run({"extend", source, "-o", out, "--rope", "dynamic,factor=4", "--json"});
  ASSERT_EQ(ran.exit, 0) << ran.err;
  EXPECT_EQ(ran.json()["context"], 1024);
  EXPECT_EQ(ran.json()["original"], (Json{{"tokens", 256}, {"from", "the declared context"}}));
  EXPECT_EQ(Json::parse(slurp(fs::path(out) / "config.json"))["max_position_embeddings"], 256);
  EXPECT_EQ(ran.json()["engines"][0]["engine"], "transformers");
  EXPECT_EQ(ran.json()["engines"][0]["context"], 1024);
  const Ran text = run({"extend", source, "-o", out, "--rope", "dynamic,factor=4", "--overwrite"});
  EXPECT_NE(text.out.find(", context 1024, weights by"), std::string::npos) << text.out;
}

}  // namespace
}  // namespace ropewalk::tools::test
