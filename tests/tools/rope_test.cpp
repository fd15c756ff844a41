#include <cmath>
#include <numbers>

#include "tests/tools/command.h"
#include "tools/rope_chart.h"

namespace ropewalk::tools::test {
namespace {

/// A config.json in a folder of its own, Llama-2 7B's shape.
std::string config_in(const fs::path& folder, const Json& more) {
  fs::create_directories(folder);
  Json config = {{"model_type", "llama"},           {"hidden_size", 4096},
                 {"num_attention_heads", 32},       {"num_hidden_layers", 32},
                 {"max_position_embeddings", 4096}, {"rope_theta", 10000.0}};
  for (const auto& item : more.items()) config[item.key()] = item.value();
  std::ofstream(folder / "config.json") << config.dump(2) << "\n";
  return (folder / "config.json").string();
}
std::string yarn_llama(const Scratch& scratch) {
  return config_in(
      scratch / "yarn-llama",
      {{"max_position_embeddings", 65536},
       {"rope_scaling",
        {{"factor", 16.0}, {"original_max_position_embeddings", 4096}, {"type", "yarn"}, {"finetuned", true}}}});
}
std::string qwen(const Scratch& scratch, bool scaled) {
  Json more = {{"model_type", "qwen2"}, {"max_position_embeddings", 32768}, {"rope_theta", 1000000.0}};
  if (scaled) more["rope_scaling"] = {{"factor", 4.0}, {"original_max_position_embeddings", 32768}, {"type", "yarn"}};
  return config_in(scratch / (scaled ? "qwen-yarn" : "qwen"), more);
}

const Json& target(const Ran& ran, const std::string& engine) {
  for (const Json& one : ran.json()["targets"])
    if (one["engine"] == engine) return one;
  throw std::runtime_error("no target " + engine);
}

// Correction range of Llama-2 at 32/1 rotations in 4096 tokens: raw 20.944 and 45.027, used 20 to 46.
TEST(Rope, BandsOfYarnLlama) {
  Scratch scratch;
  const Ran ran = run({"rope", yarn_llama(scratch), "--json"});
  ASSERT_EQ(ran.exit, 0) << ran.err;
  const Json& meant = ran.json()["meant"][0];
  ASSERT_EQ(meant["pairs"].size(), 64u);
  for (int pair = 0; pair < 64; ++pair)
    EXPECT_EQ(meant["pairs"][pair]["band"], pair <= 20 ? "untouched" : pair < 46 ? "blended" : "interpolated") << pair;
  // pair 32 turns once in 2 pi sqrt(10000) tokens
  EXPECT_NEAR(meant["pairs"][32]["wavelength"].get<double>(), 200 * std::numbers::pi, 1e-9);
  EXPECT_NEAR(meant["pairs"][32]["turns"].get<double>(), 4096 / (200 * std::numbers::pi), 1e-12);
  EXPECT_NEAR(meant["pairs"][63]["before"].get<double>() / meant["pairs"][63]["after"].get<double>(), 16, 1e-9);
  EXPECT_NEAR(meant["unseen_angle_ratio"].get<double>(), 1, 1e-9);
  EXPECT_EQ(meant["high_frequency_damage"], 0.0);
  EXPECT_EQ(meant["original_context"], 4096);
  EXPECT_NEAR(ran.json()["targets"][0]["attention_factor"].get<double>(), 1.277258872, 1e-9);
  EXPECT_EQ(ran.json()["context"], 65536);

  const Ran text = run({"rope", yarn_llama(scratch)});
  EXPECT_NE(text.out.find("21 untouched (0-20), 25 blended (21-45), 18 interpolated (46-63)"), std::string::npos)
      << text.out;
  EXPECT_NE(text.out.find("config.json:9:15 /rope_scaling/factor"), std::string::npos) << text.out;
  EXPECT_NE(text.out.find("default of transformers 5.23.0"), std::string::npos);
}

// No scaling at 16 times the context: 16; NTK-aware with alpha 16: 16^0.27 = 2.11 (the YaRN paper's reference figures).
TEST(Rope, UnseenAngles) {
  Scratch scratch;
  const std::string plain = config_in(scratch / "plain", {});
  const Json none = run({"rope", plain + "+rope=none", "-c", "64k", "--json"}).json();
  EXPECT_EQ(none["meant"][0]["pairs"][63]["band"], "untouched");
  const auto ratio = [&](const std::string& spec) {
    return run({"rope", plain + "+rope=" + spec, "-c", "64k", "--json"})
        .json()["meant"][0]["unseen_angle_ratio"]
        .get<double>();
  };
  EXPECT_NEAR(ratio("none"), 16, 1e-9);
  // pair 46 is the first that never turns once in 4096 tokens
  EXPECT_NEAR(ratio("ntk,alpha=16"), std::pow(16, 1 - 92.0 / 126), 1e-9);
  EXPECT_NEAR(ratio("linear,factor=16"), 1, 1e-9);
  EXPECT_NEAR(ratio("yarn,factor=16"), 1, 1e-9);
  EXPECT_GT(run({"rope", plain + "+rope=linear,factor=16", "--json"})
                .json()["meant"][0]["high_frequency_damage"]
                .get<double>(),
            0.93);
}

/// -c says what is asked for, not what the model was trained on.
TEST(Rope, ServedContextIsNotTheOriginalOne) {
  Scratch scratch;
  const std::string plain = config_in(scratch / "plain", {});
  const std::string linear = config_in(scratch / "linear", {{"max_position_embeddings", 16384},
                                                            {"rope_scaling", {{"type", "linear"}, {"factor", 4.0}}}});
  const auto meant = [](const std::string& source, const std::string& context) {
    const Ran ran = run({"rope", source, "-c", context, "--json"});
    EXPECT_EQ(ran.exit, 0) << source << ran.out;
    return ran.json()["meant"][0];
  };
  for (const std::string context : {"4k", "16k", "64k"}) {
    for (const std::string& source : {plain, plain + "+rope=none", linear, plain + "+rope=linear,factor=4",
                                      plain + "+rope=ntk,alpha=4", plain + "+rope=ntk,alpha=2,original=4k,to=16k"})
      EXPECT_EQ(meant(source, context)["original_context"], 4096) << source << " at " << context;
    EXPECT_EQ(meant(plain + "+rope=ntk,alpha=4,original=1k", context)["original_context"], 1024);
  }
  EXPECT_NEAR(meant(plain, "64k")["unseen_angle_ratio"].get<double>(), 16, 1e-9);
  EXPECT_NEAR(meant(linear, "64k")["unseen_angle_ratio"].get<double>(), 4, 1e-9);
  const Json ntk = meant(plain + "+rope=ntk,alpha=4", "16k");
  EXPECT_NEAR(ntk["pairs"][63]["before"].get<double>(), std::pow(1e4, -126.0 / 128), 1e-15) << "the base's theta";
  EXPECT_NEAR(ntk["pairs"][63]["before"].get<double>() / ntk["pairs"][63]["after"].get<double>(), 4, 1e-9);

  const Ran flags = run({"rope", plain, "--flags", "-c", "64k", "--engine", "transformers", "--engine", "exllamav3"});
  const std::string past = "at 65536 tokens pair 46 turns 16 times as far as 4096 tokens of training took it";
  EXPECT_NE(flags.out.find(past), std::string::npos) << flags.out;
  const Ran lint = run({"lint", plain, "-c", "64k"});
  EXPECT_NE(lint.out.find(past), std::string::npos) << lint.out;
  EXPECT_EQ(run({"rope", plain, "--flags", "-c", "4k"}).out.find("training"), std::string::npos);
}

// The row of goldens/rope's table: transformers 4.51 takes M / L for the factor, vLLM from 0.31 serves M.
TEST(Rope, EnginesSideBySide) {
  Scratch scratch;
  const Ran ran = run({"rope", qwen(scratch, true), "--engine", "all", "--engine", "transformers@4.51.3", "--engine",
                       "vllm@0.24", "--engine", "vllm", "--json"});
  ASSERT_EQ(ran.exit, 0) << ran.err;
  EXPECT_EQ(ran.json()["targets"].size(), 8u) << "each engine once";
  EXPECT_EQ(target(ran, "vllm 0.33.0")["context"], 32768);
  EXPECT_EQ(target(ran, "vllm 0.24")["context"], 131072);
  EXPECT_EQ(target(ran, "sglang 0.5.23")["context"], 32768);
  const Json& old = target(ran, "transformers 4.51.3");
  EXPECT_EQ(old["factor"], 1.0);
  EXPECT_EQ(old["attention_factor"], 1.0);
  EXPECT_EQ(old["difference"]["first_pair"], 24);  // the range is 23 to 40, and pair 23 is untouched
  EXPECT_EQ(old["difference"]["pairs"], 40);
  EXPECT_NEAR(old["difference"]["worst_ratio"].get<double>(), 4, 1e-9);
  EXPECT_EQ(target(ran, "transformers 5.23.0")["difference"]["pairs"], 0);
  EXPECT_EQ(target(ran, "vllm 0.33.0")["inv_freq"], target(ran, "sglang 0.5.23")["inv_freq"]);

  const Ran text = run({"rope", qwen(scratch, true), "--engine", "vllm", "--engine", "transformers@4.51.3"});
  EXPECT_NE(text.out.find("frequencies where they part"), std::string::npos);
  EXPECT_NE(text.out.find("meant, vllm 0.33.0"), std::string::npos) << text.out;
  const std::size_t meant = text.out.find("\n| meant "), first = text.out.find("\n| vllm 0.33.0 ");
  ASSERT_NE(meant, std::string::npos) << text.out;
  EXPECT_LT(meant, first) << "what is meant heads the table";
  EXPECT_NE(text.out.substr(meant, 90).find("1.1386"), std::string::npos) << text.out;
  const Ran alike = run({"rope", qwen(scratch, false), "--engine", "vllm", "--engine", "sglang"});
  EXPECT_NE(alike.out.find("every pair turns alike in all that read the file"), std::string::npos) << alike.out;
}

/// A line of its own would be a command to who runs it in a workflow, and escapes drive a terminal.
TEST(Rope, TextsOfTheFileStayInTheirLine) {
  Scratch scratch;
  const std::string name = "ya\033[31mrn\n::error::x";
  const std::vector<Json> files = {
      {{"rope_scaling", {{"type", name}, {"rope_type", name}, {"factor", 4.0}}}},
      {{"model_type", name}, {"rope_scaling", {{"type", "yarn"}, {"factor", 4.0}, {name, 1}}}},
      {{"model_type", "a_layered_one"},
       {"layer_types", {name}},
       {"rope_parameters", {{name, {{"rope_type", "yarn"}, {"factor", 4.0}, {name, 1}}}}}}};
  for (std::size_t i = 0; i < files.size(); ++i) {
    const std::string config = config_in(scratch / std::to_string(i), files[i]);
    std::string all;
    for (const char* more : {"--flags", "--engine=all", "--engine=vllm@0.10"}) {
      const Ran ran = run({"rope", config, more});
      all += ran.out + ran.err;
    }
    EXPECT_NE(all.find("::error::x"), std::string::npos) << i;  // it is said, in the middle of a line
    EXPECT_EQ(all.find("\n::error::x"), std::string::npos) << all;
    EXPECT_EQ(all.find('\033'), std::string::npos) << i;
  }
}

TEST(Rope, NumbersThatNoModelHasAreShort) {
  Scratch scratch;
  const std::string config = config_in(
      scratch / "huge", {{"rope_scaling", {{"rope_type", "yarn"}, {"factor", 4.0}, {"attention_factor", 1e38}}}});
  for (const char* more : {"--engine=transformers", "--context=4096"}) {
    const Ran ran = run({"rope", config, more});
    EXPECT_NE(ran.out.find("1e+38"), std::string::npos) << ran.out;
    EXPECT_EQ(ran.out.find(std::string(20, '0')), std::string::npos) << ran.out;
  }
}

TEST(Rope, FlagsAreForTheFileAsItIs) {
  Scratch scratch;
  const std::string spec = "+rope=yarn,factor=4,original=32k";
  const Ran ran =
      run({"rope", qwen(scratch, false) + spec, "--flags", "--engine", "llama.cpp", "--engine", "exllamav2"});
  ASSERT_EQ(ran.exit, 0) << ran.err;
  EXPECT_NE(ran.out.find(
                "llama.cpp 0.5.0:\n  -c 131072 --rope-scaling yarn --rope-scale 4 --yarn-orig-ctx 32768\n  without: "),
            std::string::npos)
      << ran.out;
  EXPECT_NE(ran.out.find("exllamav2 0.3.2:\n  none: "), std::string::npos) << ran.out;
  // the table instead is of the file that extend would write
  const Ran table = run({"rope", qwen(scratch, false) + spec, "--engine", "llama.cpp", "--json"});
  EXPECT_EQ(target(table, "llama.cpp 0.5.0")["difference"]["pairs"], 0);
  EXPECT_EQ(target(table, "llama.cpp 0.5.0")["context"], 131072);
  const Ran all = run({"rope", qwen(scratch, true), "--flags", "--json"});
  EXPECT_EQ(all.json()["targets"].size(), 6u);
  EXPECT_EQ(target(all, "transformers 5.23.0")["flags"]["line"], "");
  EXPECT_EQ(target(all, "vllm 0.33.0")["flags"]["line"],
            R"(--hf-overrides '{"max_position_embeddings":131072}' --max-model-len 131072)");
}

TEST(Rope, ReportsOfFlagsAreTables) {
  Scratch scratch;
  const std::string csv = (scratch / "f.csv").string();
  ASSERT_EQ(run({"rope", qwen(scratch, true), "--flags", "--engine", "vllm", "--report", csv}).exit, 0);
  EXPECT_EQ(slurp(csv).rfind("engine,possible,flags,reason\r\nvllm 0.33.0,yes,\"--hf-overrides '", 0), 0u)
      << slurp(csv);
}

// A .csv holds one table, whatever the text shows: every pair.
TEST(Rope, ReportsOfPairsAreOneTable) {
  Scratch scratch;
  const std::string csv = (scratch / "f.csv").string(), config = yarn_llama(scratch);
  const auto lines = [&](std::vector<std::string> more) {
    std::vector<std::string> words = {"rope", config, "--report", csv, "--overwrite"};
    words.insert(words.end(), more.begin(), more.end());
    EXPECT_EQ(run(words).exit, 0);
    std::vector<std::string> all;
    std::istringstream in(slurp(csv));
    for (std::string line; std::getline(in, line);) all.push_back(line.substr(0, line.size() - 1));
    return all;
  };
  const std::vector<std::string> meant = lines({});
  ASSERT_EQ(meant.size(), 65u);
  EXPECT_EQ(meant[0], "pair,wavelength,turns,frequency before,after,slower by,band");
  const std::vector<std::string> engines = lines({"--engine", "transformers", "--engine", "transformers@4.43"});
  ASSERT_EQ(engines.size(), 65u);
  EXPECT_EQ(engines[0], "layers,pair,meant,transformers 5.23.0,transformers 4.43");
  EXPECT_EQ(engines[1], "all,0,1,1,1");
  for (const std::string& line : engines) EXPECT_EQ(std::count(line.begin(), line.end(), ','), 4) << line;
}

TEST(Rope, TokenizerLimitIsVllms) {
  Scratch scratch;
  const std::string config = yarn_llama(scratch);
  std::ofstream(scratch / "yarn-llama/tokenizer_config.json") << R"({"model_max_length": 4096})";
  const Ran ran = run({"rope", config, "--engine", "vllm", "--flags", "--json"});
  EXPECT_EQ(target(ran, "vllm 0.33.0")["context"], 4096);
  EXPECT_EQ(target(ran, "vllm 0.33.0")["flags"]["line"], "VLLM_ALLOW_LONG_MAX_MODEL_LEN=1 --max-model-len 65536");
}

TEST(Rope, GgufAsLlamaCppReadsIt) {
  Scratch scratch;
  const std::string gguf = (scratch / "m.gguf").string();
  ASSERT_EQ(run({"convert", model("tolstoy-4m-yarn-2k"), "-o", gguf, "--type", "f16"}).exit, 0);
  const Ran folder = run({"rope", model("tolstoy-4m-yarn-2k"), "--json"}), file = run({"rope", gguf, "--json"});
  ASSERT_EQ(file.exit, 0) << file.err;
  EXPECT_EQ(file.json()["read_as"], "llama.cpp 0.5.0");
  const Json &a = folder.json()["meant"][0]["pairs"], &b = file.json()["meant"][0]["pairs"];
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t pair = 0; pair < a.size(); ++pair)
    EXPECT_NEAR(b[pair]["after"].get<double>() / a[pair]["after"].get<double>(), 1, 3.6e-7) << pair;
  const Ran flags = run({"rope", gguf, "-c", "512", "--flags"});
  EXPECT_NE(flags.out.find("llama.cpp 0.5.0:\n  -c 512\n"), std::string::npos) << flags.out;
  EXPECT_NE(flags.out.find("vllm 0.33.0:\n  none: a GGUF is llama.cpp's"), std::string::npos) << flags.out;
  EXPECT_NE(run({"rope", gguf}).out.find("llama.rope.scaling.factor"), std::string::npos);
}

// The converter's files do not say what their divisors scale; ours do.
TEST(Rope, DivisorsDoNotSayTheOriginalContext) {
  Scratch scratch;
  const auto rope_of = [&](const char* name, const std::string& source, const char* option, const char* value) {
    const std::string gguf = (scratch / name).string();
    EXPECT_EQ(run({"convert", source, "-o", gguf, "--type", "f16", option, value}).exit, 0);
    return run({"rope", gguf}).out;
  };
  const std::string yarn = model("tolstoy-4m-yarn-2k");
  EXPECT_NE(rope_of("compat.gguf", model("tolstoy-4m") + "+rope=llama3,factor=8", "--compat", "llama.cpp@0.5")
                .find("not known: rope_freqs.weight does not say it"),
            std::string::npos);
  EXPECT_EQ(rope_of("freqs.gguf", yarn, "--rope-encoding", "freqs").find("not known"), std::string::npos);
  EXPECT_EQ(rope_of("keys.gguf", yarn, "--rope-encoding", "keys").find("not known"), std::string::npos);
}

TEST(Rope, ANameWithANul) {
  Scratch scratch;
  const std::string path = (scratch / "config.json").string();
  std::ofstream(path) << R"({"model_type": "llama", "hidden_size": 64, "num_attention_heads": 4,
    "max_position_embeddings": 512, "rope_scaling": {"rope_type": "ya\u0000rn", "factor": 2.0}})";
  const Ran ran = run({"rope", path});
  EXPECT_NE(ran.exit, 0);
  EXPECT_NE(ran.err.find("'ya\\x00rn'"), std::string::npos) << ran.err;
  EXPECT_NE(ran.err.find("known are default, linear"), std::string::npos) << ran.err;
}

TEST(Rope, FilesThatNobodyCanRead) {
  Scratch scratch;
  const std::string bad = config_in(scratch / "bad", {{"rope_scaling", {{"type", "yarn"}, {"factor", "16"}}}});
  const Ran alone = run({"rope", bad});
  EXPECT_EQ(alone.exit, 3);
  EXPECT_NE(alone.err.find("config.json:10:15"), std::string::npos) << alone.err;
  EXPECT_EQ(run({"rope", bad, "--flags"}).exit, 3);
  const Ran asked = run({"rope", bad, "--engine", "vllm", "--engine", "transformers@4.37", "--json"});
  ASSERT_EQ(asked.exit, 0) << asked.err;
  EXPECT_TRUE(asked.json()["meant"].is_null());
  EXPECT_TRUE(target(asked, "vllm 0.33.0")["error"].is_object());
  for (const char* text : {"3", "[]", "null", "\"x\"", "{}", "{\"rope_scaling\": [1]}"}) {
    std::ofstream(scratch / "hostile.json") << text;
    EXPECT_EQ(run({"rope", (scratch / "hostile.json").string()}).exit, 3) << text;
    const bool model = std::string(text).find("rope_scaling") != std::string::npos;  // others are no config.json at all
    EXPECT_EQ(run({"rope", (scratch / "hostile.json").string(), "--engine", "all"}).exit, model ? 0 : 3) << text;
  }
}

/// Where there is no rule it is ropewalk that does not know, not the engine that fails.
TEST(Rope, NotFollowedIsNoError) {
  Scratch scratch;
  const std::string gemma = config_in(
      scratch / "gemma", {{"model_type", "gemma3_text"},
                          {"head_dim", 256},
                          {"layer_types", {"sliding_attention", "full_attention"}},
                          {"num_hidden_layers", 2},
                          {"rope_parameters",
                           {{"full_attention", {{"rope_type", "linear"}, {"factor", 8.0}, {"rope_theta", 1e6}}},
                            {"sliding_attention", {{"rope_type", "default"}, {"rope_theta", 10000.0}}}}}});
  const Ran table = run({"rope", gemma, "--engine", "all"});
  ASSERT_EQ(table.exit, 0) << table.err;
  EXPECT_NE(table.out.find("| exllamav2 0.3.2     | -       | not known |"), std::string::npos) << table.out;
  EXPECT_EQ(table.out.find(" error "), std::string::npos) << table.out;
  const Ran flags = run({"rope", gemma, "--flags", "--engine", "exllamav2"});
  EXPECT_EQ(flags.out.find("exllamav2 0.3.2:\n  not known: the two rotary tables of gemma3 in exllamav2\n"), 0u)
      << flags.out;
  for (const char* type : {"bert", "nemotron_h"}) {
    const Ran none = run({"rope", config_in(scratch / type, {{"model_type", type}})});
    EXPECT_EQ(none.exit, 3);
    EXPECT_NE(none.err.find(std::string("not followed: model type '") + type + "' has no rotary embedding"),
              std::string::npos)
        << none.err;
  }
  // keys that turn some layers otherwise
  for (const char* key : {"compress_rope_theta", "swa_rope_theta", "global_head_dim"}) {
    const Ran none =
        run({"rope", config_in(scratch / key, {{"model_type", "frobnicator"}, {key, 512}, {"head_dim", 128}})});
    EXPECT_EQ(none.exit, 3);
    EXPECT_NE(none.err.find(std::string(key) + " changes it"), std::string::npos) << none.err;
  }
  EXPECT_EQ(run({"rope", config_in(scratch / "step", {{"model_type", "step3p7"}})}).exit, 3);
  // Olmo 3.1 32B: Olmo3RotaryEmbedding of transformers 5.23.0 was run; others are not followed
  const std::string olmo = config_in(scratch / "olmo", {{"model_type", "olmo3"},
                                                        {"hidden_size", 5120},
                                                        {"num_attention_heads", 40},
                                                        {"max_position_embeddings", 65536},
                                                        {"rope_theta", 500000},
                                                        {"layer_types", {"sliding_attention", "full_attention"}},
                                                        {"rope_scaling",
                                                         {{"rope_type", "yarn"},
                                                          {"factor", 8.0},
                                                          {"attention_factor", 1.2079441541679836},
                                                          {"original_max_position_embeddings", 8192}}}});
  const Ran kinds = run({"rope", olmo, "--engine", "transformers", "--engine", "vllm", "--json"});
  ASSERT_EQ(kinds.exit, 0) << kinds.err;
  const Json& layers = target(kinds, "transformers 5.23.0")["layers"];
  EXPECT_FLOAT_EQ(layers["full_attention"]["inv_freq"][63].get<float>(), 3.068925877869333e-07f);
  EXPECT_FLOAT_EQ(layers["full_attention"]["attention_factor"].get<float>(), 1.2079441f);
  EXPECT_FLOAT_EQ(layers["sliding_attention"]["inv_freq"][63].get<float>(), 2.4551407022954663e-06f);
  EXPECT_EQ(layers["sliding_attention"]["attention_factor"], 1.0);
  EXPECT_EQ(target(kinds, "vllm 0.33.0")["error"]["pointer"], "/rope_scaling") << kinds.out;
  // classes whose own names are followed are not said to be read by Llama's rules
  const Ran neox = run({"rope", config_in(scratch / "neox", {{"model_type", "gpt_neox"}, {"rotary_pct", 0.25}})});
  EXPECT_EQ(neox.exit, 0) << neox.err;
  EXPECT_EQ(neox.err, "");
  const Ran other = run({"rope", config_in(scratch / "frob", {{"model_type", "frobnicator"}}), "--flags"});
  EXPECT_NE(other.out.find("transformers 5.23.0 has no such class"), std::string::npos) << other.out;
}

/// Python's json writes NaN and Infinity, and transformers reads them: nvidia's Nemotron has a time_step_limit up to
/// Infinity.
TEST(Rope, PythonsNumbers) {
  Scratch scratch;
  const auto with = [&](const std::string& more) {
    fs::create_directories(scratch / "python");
    spill(scratch / "python/config.json",
          R"({"model_type": "qwen2", "hidden_size": 4096, "num_attention_heads": 32, "num_hidden_layers": 2,
 "max_position_embeddings": 4096, )" +
              more + "}");
    return (scratch / "python").string();
  };
  const std::string limit = R"("time_step_limit": [0.0, Infinity])";
  const Ran rope = run({"rope", with(limit), "--json"});
  EXPECT_EQ(rope.exit, 0) << rope.err;
  EXPECT_NE(rope.err.find("the file holds NaN or Infinity"), std::string::npos) << rope.err;
  EXPECT_EQ(rope.json()["context"], 4096);
  EXPECT_EQ(run({"extend", with(limit), "--plan", "-c", "8k"}).exit, 0);
  const std::string factor = R"("rope_scaling": {"rope_type": "yarn", "factor": NaN})";
  const Ran refused = run({"rope", with(factor)});
  EXPECT_EQ(refused.exit, 3);
  EXPECT_NE(refused.err.find("config.json:2:83: factor is NaN, a number was expected"), std::string::npos)
      << refused.err;
  const Ran plan = run({"extend", with(factor), "--plan", "-c", "8k"});
  EXPECT_EQ(plan.exit, 3);
  EXPECT_NE(plan.err.find("factor is NaN, a number was expected"), std::string::npos) << plan.err;
  // keys of one class each, which are no less of the rope
  for (const char* key : {"rotary_emb_base", "rotary_pct", "rope_ratio", "qk_rope_head_dim", "rotary_dim"}) {
    spill(scratch / "python/config.json",
          R"({"model_type": "gpt_neox", "hidden_size": 512, "num_attention_heads": 8,
              "max_position_embeddings": 2048, ")" +
              std::string(key) + R"(": Infinity})");
    const Ran own = run({"rope", (scratch / "python").string()});
    EXPECT_EQ(own.exit, 3) << key;
    EXPECT_NE(own.err.find(std::string(key) + " is Infinity, a number was expected"), std::string::npos) << own.err;
  }
  // what Python refuses
  for (const char* more : {R"("loss": 1NaN)", R"("loss": -NaN)", R"("loss": NaN5)", R"("loss": [1 NaN])",
                           R"("loss": 1-Infinity)", R"("loss": --Infinity)"}) {
    const Ran python = run({"rope", with(more)});
    EXPECT_EQ(python.exit, 3) << more;
    EXPECT_EQ(python.err.find("holds NaN or Infinity"), std::string::npos) << python.err;
  }
  EXPECT_EQ(run({"rope", with(R"("loss": [NaN,-Infinity , Infinity])")}).exit, 0);
}

/// xllamacpp 2026.10, run: "the slot context (1024) exceeds the training context of the model (256) - capping" for
/// linear and NTK, and not for a YaRN whose factor is a flag.
TEST(Rope, LlamaServersCapIsLifted) {
  Scratch scratch;
  const std::string base = config_in(scratch / "base", {});
  const auto flags = [&](const std::string& rope) {
    return run({"rope", base + "+rope=" + rope, "--flags", "--engine", "llama.cpp"}).out;
  };
  const std::string add = " --override-kv llama.context_length=int:16384\n";
  EXPECT_NE(flags("linear,factor=4").find(add), std::string::npos) << flags("linear,factor=4");
  EXPECT_NE(flags("ntk,alpha=4,to=16k").find(add), std::string::npos) << flags("ntk,alpha=4,to=16k");
  EXPECT_EQ(flags("yarn,factor=4").find("override-kv"), std::string::npos) << flags("yarn,factor=4");
}

/// A rope is shown, and that transformers 5.23.0 raises ValueError of the file is said beside it.
TEST(Rope, AFileThatItsReaderDoesNotLoad) {
  Scratch scratch;
  const auto told = [&](const Json& more) { return run({"rope", config_in(scratch / "kinds", more)}); };
  const Ran bad = told({{"num_hidden_layers", 2}, {"layer_types", {"full_attention", "no_such_attention"}}});
  EXPECT_EQ(bad.exit, 0);
  EXPECT_NE(bad.err.find("transformers 5.23.0 itself does not load this file: "), std::string::npos) << bad.err;
  const Ran good = told({{"num_hidden_layers", 2}, {"layer_types", {"full_attention", "full_attention"}}});
  EXPECT_EQ(good.err.find("does not load"), std::string::npos) << good.err;
}

/// Nobody can say what is meant: who reads it all the same is in the message. su is longrope's name of old.
TEST(Rope, TypesThatTransformersDoesNotKnow) {
  Scratch scratch;
  const auto told = [&](const Json& rope, std::vector<std::string> more = {}) {
    std::vector<std::string> words = {"rope", config_in(scratch / "type", {{"rope_scaling", rope}})};
    words.insert(words.end(), more.begin(), more.end());
    return run(words);
  };
  const Ran ntk = told({{"type", "ntk"}, {"factor", 4.0}});
  EXPECT_EQ(ntk.exit, 4);
  EXPECT_NE(ntk.err.find("--engine all shows what others make of it: vllm 0.33.0 reads linear x"), std::string::npos)
      << ntk.err;
  EXPECT_NE(ntk.err.find("llama.cpp 0.5.0 and exllamav2 0.3.2 read plain"), std::string::npos) << ntk.err;
  const Ran cased = told({{"type", "YaRN"}, {"factor", 4.0}});
  EXPECT_NE(cased.err.find("did you mean 'yarn'?"), std::string::npos) << cased.err;
  const Ran turned = told({{"type", "x\u202ey\u2066"}, {"factor", 4.0}});
  EXPECT_EQ(turned.err.find("\u202e"), std::string::npos) << turned.err;
  EXPECT_EQ(turned.err.find("\u2066"), std::string::npos) << turned.err;
  const Json su = {{"type", "su"},
                   {"original_max_position_embeddings", 2048},
                   {"short_factor", std::vector<double>(64, 1.0)},
                   {"long_factor", std::vector<double>(64, 2.0)}};
  const Ran old = told(su, {"--json"});
  ASSERT_EQ(old.exit, 0) << old.err;
  EXPECT_NE(old.err.find("rope type su is longrope's name of old"), std::string::npos) << old.err;
  EXPECT_NE(old.err.find("itself does not load this file: KeyError: 'su'"), std::string::npos) << old.err;
  const Ran flags = told(su, {"--flags", "--engine", "transformers"});
  EXPECT_NE(flags.out.find("rope_parameters={\"rope_type\": \"longrope\""), std::string::npos) << flags.out;
  const Ran foreign =
      run({"rope", config_in(scratch / "code", {{"auto_map", {{"AutoModelForCausalLM", "modeling_foo.Foo"}}},
                                                {"rope_scaling", {{"type", "linear"}, {"factor", 4.0}}}})});
  EXPECT_EQ(foreign.exit, 0);
  EXPECT_NE(foreign.err.find("auto_map names modeling_foo.Foo, which ropewalk does not know"), std::string::npos)
      << foreign.err;
  const Ran huge = told({{"type", "yarn"}, {"factor", 4.0}, {"attention_factor", 1e308}});
  EXPECT_EQ(huge.exit, 3);
  EXPECT_NE(huge.err.find("attention_factor is 1e+308, a number above 0 that float32 holds"), std::string::npos);
  // a new class is read by Llama's rules, but no flag makes transformers load it
  const Ran unknown = run(
      {"rope", config_in(scratch / "frob", {{"model_type", "frobnicator"}}), "--flags", "--engine", "transformers"});
  EXPECT_EQ(unknown.out.find("transformers 5.23.0:\n  none: transformers 5.23.0 has no such class"), 0u) << unknown.out;
}

/// MiniMax M2: 64 of 128 channels rotate in transformers 5.23.0, and rotary_dim alone says so.
TEST(Rope, RotaryDimOfAClassThatWasNotCompared) {
  Scratch scratch;
  const auto rope = [&](const Json& more) {
    Json config = {{"model_type", "minimax_m2"}, {"head_dim", 128}};
    config.update(more);
    return run({"rope", config_in(scratch / "minimax", config)});
  };
  const Ran refused = rope({{"rotary_dim", 64}});
  EXPECT_EQ(refused.exit, 3);
  EXPECT_NE(refused.err.find("rotary_dim changes it"), std::string::npos) << refused.err;
  EXPECT_EQ(rope({{"rotary_dim", 128}}).exit, 0);
  const Ran share = rope({{"rotary_dim", 64}, {"partial_rotary_factor", 0.5}});
  EXPECT_EQ(share.exit, 0) << share.err;
  EXPECT_NE(share.out.find("32 untouched (0-31)"), std::string::npos) << share.out;
}

/// A divisor that float32 does not hold makes 1 / inf = 0 in every engine.
TEST(Rope, DivisorsThatFloat32DoesNotHold) {
  Scratch scratch;
  Json lists = {{"rope_type", "longrope"}, {"original_max_position_embeddings", 4096}};
  for (const char* key : {"short_factor", "long_factor"}) lists[key] = Json::array();
  for (int pair = 0; pair < 64; ++pair) lists["short_factor"].push_back(1.0), lists["long_factor"].push_back(2.0);
  lists["long_factor"][5] = 1e308;
  for (const char* type : {"llama", "qwen2"}) {
    const Ran ran = run({"rope", config_in(scratch / type, {{"model_type", type}, {"rope_scaling", lists}})});
    EXPECT_EQ(ran.exit, 3) << ran.out;
    EXPECT_NE(ran.err.find("1e+308"), std::string::npos) << ran.err;
  }
}

/// Rows of the tables fit a terminal of 120 columns.
TEST(Rope, TablesFitATerminal) {
  Scratch scratch;
  const std::string gemma = config_in(scratch / "gemma", {{"model_type", "gemma3_text"},
                                                          {"head_dim", 256},
                                                          {"max_position_embeddings", 131072},
                                                          {"sliding_window", 512},
                                                          {"rope_scaling", {{"rope_type", "linear"}, {"factor", 8.0}}},
                                                          {"rope_theta", 1000000.0},
                                                          {"rope_local_base_freq", 10000.0},
                                                          {"vocab_size", 262144}});
  const std::string mistral =
      config_in(scratch / "mistral",
                {{"model_type", "mistral"},
                 {"num_key_value_heads", 8},
                 {"intermediate_size", 14336},
                 {"vocab_size", 32000},
                 {"rms_norm_eps", 1e-5},
                 {"rope_scaling", {{"type", "yarn"}, {"factor", 8.0}, {"original_max_position_embeddings", 512}}}});
  const std::vector<std::vector<std::string>> all = {{"rope", yarn_llama(scratch), "--engine", "all"},
                                                     {"rope", gemma, "--engine", "all"},
                                                     {"extend", model("tolstoy-4m-yarn-2k"), "--plan", "-c", "8k"},
                                                     {"extend", gemma, "--plan", "-c", "256k"},
                                                     {"extend", mistral, "--plan", "-c", "256k"}};
  for (const std::vector<std::string>& words : all) {
    const Ran ran = run(words);
    ASSERT_EQ(ran.exit, 0) << ran.err;
    std::istringstream in(ran.out);
    for (std::string line; std::getline(in, line);) EXPECT_TRUE(!line.starts_with("|") || line.size() <= 120) << line;
  }
}

// A width that no model has: refused before tables of it are made.
TEST(Rope, AHeadOfAMillionChannels) {
  Scratch scratch;
  const std::string wide = config_in(scratch / "wide", {{"head_dim", 1000000}});
  const Ran ran = run({"rope", wide, "--flags"});
  EXPECT_EQ(ran.exit, 3);
  EXPECT_NE(ran.err.find("a width of 1000000.0 channels"), std::string::npos) << ran.err;
}

// Without a word about a model there is nothing to compute: what a file of another kind is taken for, were it not
// refused.
TEST(Rope, AFileOfAnotherKindIsRefused) {
  for (const char* name : {"tokenizer_config.json", "generation_config.json", "model.safetensors.index.json"}) {
    const std::string file = model("tolstoy-4m") + "/" + name;
    for (const char* command : {"rope", "lint"}) {
      if (std::string(command) == "rope" && std::string(name).ends_with(".index.json")) continue;  // the model's own
      const Ran ran = run({command, file});
      EXPECT_EQ(ran.exit, 3) << command << " " << name << ran.out;
      EXPECT_EQ(ran.err, "error: " + file +
                             ": is no config.json: neither model_type nor hidden_size is there; give a model's folder "
                             "or its config.json\n");
    }
  }
  EXPECT_EQ(run({"lint", model("tolstoy-4m") + "/config.json"}).exit, 0);
  EXPECT_EQ(run({"rope", model("tolstoy-4m") + "/config.json"}).exit, 0);
}

TEST(Rope, Usage) {
  Scratch scratch;
  EXPECT_EQ(run({"rope"}).exit, 2);
  EXPECT_EQ(run({"rope", "a", "b"}).exit, 2);
  EXPECT_EQ(run({"rope", yarn_llama(scratch), "--engine", "vlm"}).exit, 2);
  EXPECT_EQ(run({"rope", yarn_llama(scratch), "--list-engines"}).exit, 2);
  const Ran list = run({"rope", "--list-engines"});
  EXPECT_EQ(list.exit, 0);
  EXPECT_NE(list.out.find("exllamav3"), std::string::npos);
  std::ofstream(scratch / "there.svg") << "x";
  EXPECT_EQ(run({"rope", yarn_llama(scratch), "--svg", (scratch / "there.svg").string()}).exit, 5);
  EXPECT_EQ(slurp(scratch / "there.svg"), "x");
}

// The drawing --------------------------------------------------------------------------------------------------------

/// Tags open and close in order, attributes are quoted, text has no bare '<' or '&': "" or the first fault.
std::string xml_fault(const std::string& text) {
  std::vector<std::string> open;
  for (std::size_t at = 0; at < text.size();) {
    if (text[at] == '&') {
      const std::size_t end = text.find(';', at);
      if (end == std::string::npos || end - at > 6) return "bare & at " + std::to_string(at);
    }
    if (text[at] != '<') {
      ++at;
      continue;
    }
    const std::size_t end = text.find('>', at);
    if (end == std::string::npos) return "open tag at " + std::to_string(at);
    const std::string tag = text.substr(at + 1, end - at - 1);
    if (tag.find('<') != std::string::npos) return "bare < in " + tag;
    if (std::count(tag.begin(), tag.end(), '"') % 2 != 0) return "quotes in " + tag;
    if (tag[0] == '/') {
      if (open.empty() || open.back() != tag.substr(1)) return "closes " + tag;
      open.pop_back();
    } else if (tag.back() != '/') {
      open.push_back(tag.substr(0, tag.find(' ')));
    }
    at = end + 1;
  }
  return open.empty() ? "" : "left open: " + open.back();
}

std::vector<std::pair<double, double>> points_of(const std::string& svg, const std::string& id) {
  const std::size_t at = svg.find("<polyline id=\"" + id + "\""), from = svg.find("points=\"", at) + 8;
  std::vector<std::pair<double, double>> points;
  if (at == std::string::npos) return points;
  std::istringstream in(svg.substr(from, svg.find('"', from) - from));
  char comma = 0;
  for (double x = 0, y = 0; in >> x >> comma >> y;) points.emplace_back(x, y);
  return points;
}
/// The y of a text label's axis mark: labels stand 4 below it.
double y_of_label(const std::string& svg, const std::string& label) {
  const std::size_t at = svg.find(">" + label + "</text>"), from = svg.rfind("y=\"", at) + 3;
  return at == std::string::npos ? NAN : std::stod(svg.substr(from)) - 4;
}

TEST(RopeDrawing, CurvesStandWhereTheAxesSay) {
  Scratch scratch;
  const std::string file = (scratch / "rope.svg").string();
  ASSERT_EQ(run({"rope", yarn_llama(scratch), "--svg", file}).exit, 0);
  const std::string svg = slurp(file);
  EXPECT_EQ(xml_fault(svg), "");
  EXPECT_EQ(svg.find("<script"), std::string::npos);
  const auto before = points_of(svg, "before"), after = points_of(svg, "curve-0"), slow = points_of(svg, "slow-0");
  ASSERT_EQ(before.size(), 64u);
  ASSERT_EQ(after.size(), 64u);
  ASSERT_EQ(slow.size(), 64u);
  EXPECT_TRUE(points_of(svg, "curve-1").empty());
  // pair 0 turns by 1 radian per token, pair 32 by 0.01, pair 48 by 0.001 before and 1/16 of it after
  EXPECT_NEAR(before[0].second, y_of_label(svg, "1"), 0.01);
  EXPECT_NEAR(before[32].second, y_of_label(svg, "1e-2"), 0.01);
  EXPECT_NEAR(before[48].second, y_of_label(svg, "1e-3"), 0.01);
  const double decade = y_of_label(svg, "1e-2") - y_of_label(svg, "1e-1");
  EXPECT_NEAR(after[48].second - before[48].second, decade * std::log10(16.0), 0.02);
  EXPECT_NEAR(slow[0].second, y_of_label(svg, "1x"), 0.01);
  EXPECT_NEAR(slow[63].second, y_of_label(svg, "16x"), 0.01);
  EXPECT_LT(before[0].first, before[63].first);
  ASSERT_EQ(run({"rope", yarn_llama(scratch), "--svg", file, "--overwrite"}).exit, 0);
  EXPECT_EQ(slurp(file), svg) << "the same bytes";
}

TEST(RopeDrawing, OnePairIsADash) {
  Scratch scratch;
  const std::string path = (scratch / "config.json").string(), file = (scratch / "rope.svg").string();
  std::ofstream(path) << R"({"model_type": "llama", "hidden_size": 8, "num_attention_heads": 4,
    "max_position_embeddings": 512})";
  const Ran ran = run({"rope", path, "--svg", file});
  ASSERT_EQ(ran.exit, 0) << ran.err;
  const std::string svg = slurp(file);
  EXPECT_EQ(xml_fault(svg), "");
  EXPECT_EQ(svg.find("nan"), std::string::npos);
  EXPECT_EQ(svg.find("inf\""), std::string::npos);
  const auto curve = points_of(svg, "curve-0");
  ASSERT_EQ(curve.size(), 2u);
  EXPECT_LT(curve[0].first, curve[1].first);
  EXPECT_NEAR(curve[0].second, y_of_label(svg, "1"), 0.01);  // 1 radian per token
}

TEST(RopeDrawing, ARopeThatFollowsTheLengthSaysWhich) {
  Scratch scratch;
  const std::string file = (scratch / "rope.svg").string();
  const std::string dynamic =
      config_in(scratch / "dynamic", {{"rope_scaling", {{"rope_type", "dynamic"}, {"factor", 4.0}}}});
  ASSERT_EQ(run({"rope", dynamic, "--sequence-length", "12345", "--svg", file}).exit, 0);
  EXPECT_NE(slurp(file).find(" in a sequence of 12345 tokens"), std::string::npos);
  ASSERT_EQ(run({"rope", yarn_llama(scratch), "--sequence-length", "12345", "--svg", file, "--overwrite"}).exit, 0);
  EXPECT_EQ(slurp(file).find("12345"), std::string::npos);
}

TEST(RopeDrawing, OneCurveForEachReading) {
  Scratch scratch;
  const std::string file = (scratch / "rope.svg").string();
  ASSERT_EQ(
      run({"rope", qwen(scratch, true), "--engine", "all", "--engine", "transformers@4.51.3", "--svg", file}).exit, 0);
  const std::string svg = slurp(file);
  EXPECT_EQ(xml_fault(svg), "");
  EXPECT_EQ(points_of(svg, "curve-0").size(), 64u);
  EXPECT_EQ(points_of(svg, "curve-1").size(), 64u);
  EXPECT_TRUE(points_of(svg, "curve-2").empty()) << "three read it as a plain rope: one curve";
  EXPECT_NE(svg.find("meant, transformers 5.23.0, vllm 0.33.0, sglang 0.5.23"), std::string::npos);
  // each with the rope it has: a factor of M / L = 1 is a yarn that scales nothing
  EXPECT_NE(svg.find(">exllamav2 0.3.2: plain (theta 1000000, attention factor 1); "), std::string::npos);
  EXPECT_NE(svg.find("transformers 4.51.3: YaRN x1 of 32768"), std::string::npos);
  // hostile names do not leave their text
  fs::create_directories(scratch / "a<b&\"c");
  const std::string odd = config_in(scratch / "a<b&\"c", {});
  ASSERT_EQ(run({"rope", odd, "--svg", file, "--overwrite"}).exit, 0);
  EXPECT_EQ(xml_fault(slurp(file)), "");
}

/// Curves below 1x stand where they are, every kind of layer has its plots, and who has no curve is named.
TEST(RopeDrawing, NothingIsClippedOrLeftOut) {
  Scratch scratch;
  const std::string file = (scratch / "rope.svg").string();
  Json lists = {{"rope_type", "longrope"}, {"original_max_position_embeddings", 4096}, {"factor", 2.0}};
  for (const char* key : {"short_factor", "long_factor"})
    for (int pair = 0; pair < 64; ++pair) lists[key].push_back(pair < 32 ? 1.0 : 0.25);
  const std::string faster = config_in(scratch / "faster", {{"rope_scaling", lists}});
  ASSERT_EQ(run({"rope", faster, "--svg", file}).exit, 0);
  std::string svg = slurp(file);
  const auto slow = points_of(svg, "slow-0");
  ASSERT_EQ(slow.size(), 64u);
  EXPECT_NEAR(slow[0].second, y_of_label(svg, "1x"), 0.01);
  EXPECT_NEAR(slow[63].second, y_of_label(svg, "0.25x"), 0.01);

  const std::string gemma =
      config_in(scratch / "gemma",
                {{"model_type", "gemma3_text"},
                 {"head_dim", 128},
                 {"layer_types", {"sliding_attention", "full_attention"}},
                 {"num_hidden_layers", 2},
                 {"rope_parameters",
                  {{"full_attention", {{"rope_type", "linear"}, {"factor", 8.0}, {"rope_theta", 1e6}}},
                   {"sliding_attention", {{"rope_type", "linear"}, {"factor", 2.0}, {"rope_theta", 10000.0}}}}}});
  ASSERT_EQ(run({"rope", gemma, "--engine", "all", "--svg", file, "--overwrite"}).exit, 0);
  svg = slurp(file);
  EXPECT_EQ(xml_fault(svg), "");
  EXPECT_EQ(points_of(svg, "curve-0").size(), 64u);
  const auto sliding = points_of(svg, "slow-0-layers-1"), full = points_of(svg, "slow-0");
  ASSERT_EQ(sliding.size(), 64u);
  EXPECT_GT(sliding[0].second, full[0].second) << "below the plots of the first kind";
  EXPECT_NE(svg.find(">full_attention</text>"), std::string::npos);
  EXPECT_NE(svg.find(">sliding_attention</text>"), std::string::npos);
  EXPECT_NE(svg.find("no curve: exllamav2 0.3.2, which is not followed here"), std::string::npos);
}

/// A reading that has no layers of a kind has no curve there, one with a rope for all layers has the same everywhere.
TEST(RopeDrawing, KindsThatAReadingDoesNotHave) {
  const auto rope = [](double theta) { return RopeSpec{theta, 64, RopeUnscaled{}}; };
  const std::vector<RopeGroup> readings = {{"meant", {{{"full", rope(1e6)}, {"sliding", rope(1e4)}}, 4096}},
                                           {"one for all", {{{"", rope(5e5)}}, 4096}},
                                           {"full alone", {{{"full", rope(2e6)}}, 4096}}};
  const std::string svg = rope_chart(readings, {"x", 4096, 4096, {}});
  EXPECT_FALSE(points_of(svg, "curve-2").empty());
  EXPECT_FALSE(points_of(svg, "curve-1-layers-1").empty());
  EXPECT_TRUE(points_of(svg, "curve-2-layers-1").empty());
  EXPECT_NE(svg.find("no curve: full alone, which has no layers of this kind"), std::string::npos);
  EXPECT_EQ(svg.find("no curve"), svg.rfind("no curve"));
}

}  // namespace
}  // namespace ropewalk::tools::test
