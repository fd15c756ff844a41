#include <cmath>
#include <numbers>

#include "tests/tools/rope_files.h"

namespace ropewalk::tools::test {
namespace {

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

/// Phi-3's class takes longrope alone: that is transformers' row, and stops nobody else's.
TEST(Rope, OneEnginesErrorIsItsOwnRow) {
  Scratch scratch;
  const std::string phi3 = config_in(scratch / "phi3", {{"model_type", "phi3"}, {"hidden_size", 3072}});
  const Ran dynamic = run({"rope", phi3 + "+rope=dynamic,factor=4", "--engine", "all", "--json"});
  EXPECT_EQ(dynamic.exit, 4) << "extend writes no such file: " << dynamic.out;
  std::size_t read = 0;
  const Ran yarn = run({"rope", phi3 + "+rope=yarn,factor=4", "--engine", "all", "--json"});
  for (const Json& one : yarn.json()["targets"]) read += one["error"].is_null();
  EXPECT_GE(read, 2u) << yarn.out;
  for (const char* spec : {"yarn,factor=4", "dynamic,factor=4", "llama3,factor=8", "ntk,alpha=4"}) {
    const Ran flags = run({"rope", phi3 + "+rope=" + spec, "--flags", "--json"});
    EXPECT_EQ(flags.exit, 0) << spec << flags.err;
    EXPECT_EQ(flags.json()["targets"].size(), 6u);
  }
}

/// Queries of Gemma 3's sliding layers look 512 tokens back, whatever the context.
TEST(Rope, LayersWithAWindowTurnNoFurther) {
  Scratch scratch;
  const std::string gemma = config_in(scratch / "gemma", {{"model_type", "gemma3_text"},
                                                          {"head_dim", 256},
                                                          {"num_hidden_layers", 26},
                                                          {"max_position_embeddings", 32768},
                                                          {"sliding_window", 512},
                                                          {"rope_theta", 1000000.0},
                                                          {"rope_local_base_freq", 10000.0}});
  const Ran flags = run({"rope", gemma, "-c", "64k", "--flags", "--engine", "transformers"});
  EXPECT_NE(flags.out.find("full_attention: at 65536 tokens pair"), std::string::npos) << flags.out;
  EXPECT_EQ(flags.out.find("sliding_attention: at"), std::string::npos) << flags.out;
  const Json meant = run({"rope", gemma, "-c", "64k", "--json"}).json()["meant"];
  EXPECT_NEAR(meant[0]["unseen_angle_ratio"].get<double>(), 2, 1e-9);
  EXPECT_NEAR(meant[1]["unseen_angle_ratio"].get<double>(), 512.0 / 32768, 1e-9);
  EXPECT_NE(run({"rope", gemma, "-c", "64k"}).out.find("at 512 tokens, the window, the largest angle is 0.02x"),
            std::string::npos);
}

/// docs.vllm.ai, vision language models: trust_remote_code is "required to load Phi-3.5-vision"; transformers 5.23.0 has no
/// phi3_v.
TEST(Rope, CodeThatHasToBeTrustedIsAFlag) {
  Scratch scratch;
  const Json map = {{"AutoConfig", "configuration_phi3_v.Phi3VConfig"}};
  const auto lines = [&](const Json& more) {
    std::string all;
    const Ran ran = run({"rope", config_in(scratch / "model", more), "--flags", "--json"});
    for (const Json& one : ran.json()["targets"]) all += one["flags"]["line"].get<std::string>() + "\n";
    return all;
  };
  const std::string vision = lines({{"model_type", "phi3_v"}, {"auto_map", map}});
  EXPECT_NE(vision.find("AutoConfig.from_pretrained(MODEL, trust_remote_code=True)\n"), std::string::npos) << vision;
  EXPECT_NE(vision.find("\n--trust-remote-code\n--trust-remote-code\n"), std::string::npos) << vision;
  EXPECT_EQ(lines({{"model_type", "phi3"}, {"auto_map", map}}).find("trust"), std::string::npos) << "a class it has";
}

/// SOURCE+rope=SPEC is the folder that extend writes: every engine serves of the one what it serves of the other.
TEST(Rope, TheComposedSourceHasTheLimitsThatExtendWrites) {
  Scratch scratch;
  const std::string source = model("tolstoy-4m"), written = (scratch / "long").string();
  ASSERT_EQ(Json::parse(slurp(source + "/tokenizer_config.json"))["model_max_length"], 256);
  for (const std::string spec : {"yarn,factor=8", "linear,factor=4", "dynamic,factor=2"}) {
    ASSERT_EQ(run({"extend", source, "-o", written, "--rope", spec, "--overwrite"}).exit, 0);
    const Ran composed = run({"rope", source + "+rope=" + spec, "--engine", "all", "--json"}),
              read = run({"rope", written, "--engine", "all", "--json"});
    ASSERT_EQ(composed.exit, 0) << composed.err;
    for (std::size_t i = 0; i < composed.json()["targets"].size(); ++i) {
      const Json &a = composed.json()["targets"][i], &b = read.json()["targets"][i];
      EXPECT_EQ(a["context"], b["context"]) << spec << a["engine"];
      EXPECT_EQ(a["inv_freq"], b["inv_freq"]) << spec << a["engine"];
    }
  }
  const Ran flags = run({"rope", source + "+rope=yarn,factor=8", "--engine", "vllm", "--flags", "--json"});
  EXPECT_NE(target(flags, "vllm 0.33.0")["flags"].dump().find("2048"), std::string::npos)
      << "flags are for the file as it is, whose tokenizer says 256: " << flags.out;
}

/// Nobody extends by 1e308; a factor below 1 is read, and said.
TEST(Rope, FactorsThatNoContextWasExtendedBy) {
  Scratch scratch;
  for (const char* type : {"llama", "qwen2"}) {
    const auto of = [&](double factor) {
      return config_in(scratch / type,
                       {{"model_type", type}, {"rope_scaling", {{"type", "linear"}, {"factor", factor}}}});
    };
    const Ran large = run({"rope", of(1e308)});
    EXPECT_EQ(large.exit, 3) << type;
    EXPECT_NE(large.err.find("which no context has been extended by"), std::string::npos) << large.err;
    EXPECT_NE(large.err.find("config.json:"), std::string::npos) << large.err;
    const Ran small = run({"rope", of(0.25)});
    EXPECT_EQ(small.exit, 0) << small.err;
    EXPECT_NE(small.err.find("the rope factor is 0.25, below 1: the context shrinks"), std::string::npos) << small.err;
  }
  const std::string overflow = config_in(scratch / "overflow", {});
  std::ofstream(overflow) << R"({"model_type": "llama", "hidden_size": 4096, "num_attention_heads": 32,
    "max_position_embeddings": 4096, "rope_scaling": {"type": "linear", "factor": 1e400}})";
  EXPECT_EQ(run({"rope", overflow}).exit, 3);
}

// Expected: LlamaRotaryEmbedding of transformers 5.23.0 on Llama 3.2 3B's config.json. What is meant is in double, 6 units in
// the last place away at pair 33, where llama3 blends in float32.
TEST(Rope, AnEnginesTableIsItsOwnInFloat32) {
  Scratch scratch;
  const std::string llama = config_in(scratch / "llama3.2", {{"hidden_size", 3072},
                                                             {"num_attention_heads", 24},
                                                             {"head_dim", 128},
                                                             {"max_position_embeddings", 131072},
                                                             {"rope_theta", 500000.0},
                                                             {"rope_scaling",
                                                              {{"factor", 32.0},
                                                               {"high_freq_factor", 4.0},
                                                               {"low_freq_factor", 1.0},
                                                               {"original_max_position_embeddings", 8192},
                                                               {"rope_type", "llama3"}}}});
  const Json out = run({"rope", llama, "--json"}).json();
  const double want = 0.00022276341042015702;
  constexpr double kUnit = 0x1p-36;  // of float32 from 2^-13 to 2^-12
  EXPECT_NEAR(out["targets"][0]["inv_freq"][33].get<double>(), want, 3 * kUnit);
  EXPECT_GT(std::abs(out["meant"][0]["pairs"][33]["after"].get<double>() - want), 5 * kUnit);
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

}  // namespace
}  // namespace ropewalk::tools::test
