#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include "formats/engines/flags.h"
#include "lib/error.h"
#include "tests/formats/flags_line.h"
#include "tests/formats/rope_golden.h"

namespace ropewalk::formats {
namespace {

using testing::parse_flags_line;

/// Llama-2 7B's shape.
Json llama2(Json rope_scaling, int context, Json more = Json::object()) {
  Json config = {{"architectures", {"LlamaForCausalLM"}},
                 {"model_type", "llama"},
                 {"hidden_size", 4096},
                 {"num_attention_heads", 32},
                 {"num_hidden_layers", 32},
                 {"max_position_embeddings", context},
                 {"rope_theta", 10000.0},
                 {"rope_scaling", std::move(rope_scaling)}};
  for (const auto& item : more.items()) config[item.key()] = item.value();
  return config;
}
Json qwen(const char* type, int context, const Json& rope_scaling) {
  return llama2(
      rope_scaling, context,
      {{"model_type", type}, {"architectures", {"QwenForCausalLM"}}, {"head_dim", 128}, {"rope_theta", 1000000.0}});
}
Json yarn(double factor, int original) {
  return {{"rope_type", "yarn"}, {"factor", factor}, {"original_max_position_embeddings", original}};
}
RopeSpec yarn_spec(double theta, double factor, int original) {
  RopeSpec spec;
  spec.theta = theta;
  spec.rotary_dim = 128;
  spec.scaling = RopeYarn{factor, original};
  return spec;
}

EngineFlags flags_of(const char* engine, const Json& config, const RopeSpec& spec, int context) {
  return engine_flags(parse_engine(engine), &config, wanted_rope(spec, context));
}
std::string line_of(const char* engine, const Json& config, const RopeSpec& spec, int context) {
  const EngineFlags flags = flags_of(engine, config, spec, context);
  return flags.possible ? flags.line : "none: " + flags.reason;
}

// The model card's recipe without touching the file: "-c 131072 --rope-scaling yarn --rope-scale 4 --yarn-orig-ctx
// 32768" (Qwen's documentation of llama.cpp). 32768 is the file's own length, so --yarn-orig-ctx may be left out; of
// Qwen3, whose file says 40960, it may not.
TEST(EngineFlags, PlainQwenToYarn) {
  const RopeSpec spec = yarn_spec(1e6, 4, 32768);
  const Json qwen25 = qwen("qwen2", 32768, nullptr), qwen3 = qwen("qwen3", 40960, nullptr);
  EXPECT_EQ(line_of("llama.cpp", qwen25, spec, 131072),
            "-c 131072 --rope-scaling yarn --rope-scale 4 --yarn-orig-ctx 32768");
  EXPECT_EQ(line_of("llama.cpp", qwen3, spec, 131072),
            "-c 131072 --rope-scaling yarn --rope-scale 4 --yarn-orig-ctx 32768");
  // vLLM's documentation; rope_theta is repeated because the dictionary replaces the file's. From 0.31 the length served
  // is max_position_embeddings, and the documented line alone ends in a ValueError.
  EXPECT_EQ(
      line_of("vllm@0.24", qwen3, spec, 131072),
      R"(--hf-overrides '{"rope_parameters":{"rope_type":"yarn","factor":4.0,"original_max_position_embeddings":32768,)"
      R"("rope_theta":1000000.0}}' --max-model-len 131072)");
  EXPECT_EQ(
      line_of("vllm", qwen3, spec, 131072),
      R"(--hf-overrides '{"rope_parameters":{"rope_type":"yarn","factor":4.0,"original_max_position_embeddings":32768,)"
      R"("rope_theta":1000000.0},"max_position_embeddings":131072}' --max-model-len 131072)");
  // Qwen3's model card for vLLM 0.8.5 and SGLang 0.4.6.post1, word for word; SGLang's needs the length besides (its issue
  // 2943)
  EXPECT_EQ(
      line_of("vllm@0.8.5", qwen3, spec, 131072),
      R"(--rope-scaling '{"rope_type":"yarn","factor":4.0,"original_max_position_embeddings":32768}' --max-model-len 131072)");
  EXPECT_EQ(
      line_of("sglang@0.4.6", qwen3, spec, 131072),
      R"(--json-model-override-args '{"rope_scaling":{"rope_type":"yarn","factor":4.0,"original_max_position_embeddings":)"
      R"(32768},"max_position_embeddings":131072}' --context-length 131072)");
  EXPECT_EQ(
      line_of("sglang", qwen25, spec, 131072),
      R"(--json-model-override-args '{"rope_parameters":{"rope_type":"yarn","factor":4.0,"original_max_position_embeddings":)"
      R"(32768,"rope_theta":1000000.0},"max_position_embeddings":131072}' --context-length 131072)");
  EXPECT_EQ(line_of("transformers", qwen3, spec, 131072),
            R"(AutoConfig.from_pretrained(MODEL, rope_parameters={"rope_type": "yarn", "factor": 4.0, )"
            R"("original_max_position_embeddings": 32768, "rope_theta": 1000000.0}))");
  EXPECT_EQ(line_of("transformers@4.56.2", qwen3, spec, 131072),
            R"(AutoConfig.from_pretrained(MODEL, rope_scaling={"rope_type": "yarn", "factor": 4.0, )"
            R"("original_max_position_embeddings": 32768}))");
  // 4.51 divides the lengths instead of taking the factor
  EXPECT_EQ(line_of("transformers@4.51.3", qwen3, spec, 131072),
            R"(AutoConfig.from_pretrained(MODEL, rope_scaling={"rope_type": "yarn", "factor": 4.0, )"
            R"("original_max_position_embeddings": 32768}, max_position_embeddings=131072))");
}

TEST(EngineFlags, RecipeInTheFile) {
  const RopeSpec spec = yarn_spec(1e6, 4, 32768);
  Json dict = yarn(4, 32768);
  dict["type"] = "yarn";
  dict.erase("rope_type");
  const Json file = qwen("qwen2", 32768, dict);
  EXPECT_EQ(line_of("llama.cpp", file, spec, 131072), "-c 131072 --override-kv qwen2.context_length=int:131072");
  EXPECT_EQ(line_of("llama.cpp", file, spec, 32768), "");
  EXPECT_EQ(line_of("vllm@0.24", file, spec, 131072), "");
  EXPECT_EQ(line_of("vllm", file, spec, 131072),
            R"(--hf-overrides '{"max_position_embeddings":131072}' --max-model-len 131072)");
  EXPECT_EQ(flags_of("vllm", file, spec, 131072).reason, "serves 32768 tokens instead of 131072");
  EXPECT_EQ(line_of("vllm@0.24", file, spec, 65536), "--max-model-len 65536");
  EXPECT_EQ(line_of("transformers", file, spec, 131072), "");
  EXPECT_EQ(flags_of("transformers", file, spec, 131072).reason, "");
}

// A top-level rope_theta is missing as in the Hub's file: 10000 everywhere.
TEST(EngineFlags, YarnLlama2SaysItAll) {
  Json file = llama2(
      {{"factor", 16.0}, {"original_max_position_embeddings", 4096}, {"type", "yarn"}, {"finetuned", true}}, 65536);
  file.erase("rope_theta");
  const RopeSpec spec = yarn_spec(10000, 16, 4096);
  for (const char* engine : {"transformers", "transformers@4.57.6", "transformers@4.51.3", "vllm", "vllm@0.12",
                             "vllm@0.6.6", "sglang", "sglang@0.5.3", "llama.cpp"})
    EXPECT_EQ(line_of(engine, file, spec, 65536), "") << engine;
  EXPECT_EQ(line_of("llama.cpp@2025-02", file, spec, 65536),
            "-c 65536 --rope-scaling yarn --rope-scale 16 --yarn-orig-ctx 4096");
  // 4.43 to 4.50 take max_position_embeddings for the original context
  EXPECT_EQ(line_of("transformers@4.46.0", file, spec, 65536),
            "AutoConfig.from_pretrained(MODEL, max_position_embeddings=4096)");
}

// Yarn-Mistral-7b-128k: beta 128/2 and 0.07 ln 16 + 1 stand in its remote code alone. 1.1940812 / 1.2772589 = 0.9348779.
TEST(EngineFlags, YarnMistralWithoutItsCode) {
  const Json file = llama2(
      {{"factor", 16.0}, {"finetuned", true}, {"original_max_position_embeddings", 8192}, {"type", "yarn"}}, 32768,
      {{"model_type", "mistral"},
       {"architectures", {"MistralForCausalLM"}},
       {"num_key_value_heads", 8},
       {"sliding_window", 131072},
       {"max_sequence_length", 131072}});
  RopeSpec spec = yarn_spec(10000, 16, 8192);
  auto& ramp = std::get<RopeYarn>(spec.scaling);
  ramp.beta_fast = 128, ramp.beta_slow = 2;
  spec.attention_factor = 0.07 * std::log(16.0) + 1;
  EXPECT_EQ(
      line_of("vllm", file, spec, 131072),
      R"(--hf-overrides '{"rope_parameters":{"rope_type":"yarn","factor":16.0,"original_max_position_embeddings":8192,)"
      R"("beta_fast":128.0,"beta_slow":2.0,"attention_factor":1.1940812105567846,"rope_theta":10000.0},)"
      R"("max_position_embeddings":131072}' --max-model-len 131072)");
  EXPECT_EQ(line_of("transformers", file, spec, 131072),
            R"(AutoConfig.from_pretrained(MODEL, rope_parameters={"rope_type": "yarn", "factor": 16.0, )"
            R"("original_max_position_embeddings": 8192, "beta_fast": 128.0, "beta_slow": 2.0, "attention_factor": )"
            R"(1.1940812105567846, "rope_theta": 10000.0}))");
  EXPECT_EQ(
      line_of("llama.cpp", file, spec, 131072),
      "-c 131072 --yarn-beta-slow 2 --yarn-beta-fast 128 --override-kv llama.rope.scaling.attn_factor=float:0.934878 "
      "--override-kv llama.context_length=int:131072");
  EXPECT_NE(line_of("sglang", file, spec, 131072).find(R"("attn_factor":0.93487)"), std::string::npos);
  const EngineFlags v2 = flags_of("exllamav2", file, spec, 131072);
  EXPECT_FALSE(v2.possible);
  EXPECT_EQ(v2.reason.rfind("exllamav2 0.3.2 takes yarn's correction range over -l", 0), 0u) << v2.reason;
}

// transformers 5 fills the original context in while it loads; 4.57 asks for it when the embedding is built. Found by
// running 5.23.0, where max_position_embeddings=4096 left the original context at 16384.
TEST(EngineFlags, AnOriginalContextThatIsNotInTheFile) {
  const Json file = llama2({{"rope_type", "yarn"}, {"factor", 4.0}}, 16384);
  const RopeSpec spec = yarn_spec(10000, 4, 4096);
  EXPECT_EQ(line_of("transformers", file, spec, 16384),
            R"(AutoConfig.from_pretrained(MODEL, rope_parameters={"rope_type": "yarn", "factor": 4.0, )"
            R"("original_max_position_embeddings": 4096, "rope_theta": 10000.0}))");
  EXPECT_EQ(line_of("transformers@4.57.6", file, spec, 16384),
            "AutoConfig.from_pretrained(MODEL, max_position_embeddings=4096)");
}

// MistralConfig of 4.x takes the keyword only if the file has a rope_scaling; found by running 4.57.6.
TEST(EngineFlags, KeywordsThatMistralDrops) {
  Json file = llama2(nullptr, 4096, {{"model_type", "mistral"}, {"head_dim", 128}});
  const RopeSpec spec = yarn_spec(10000, 4, 4096);
  EXPECT_TRUE(flags_of("transformers@4.57.6", file, spec, 16384).possible);
  file.erase("rope_scaling");
  EXPECT_FALSE(flags_of("transformers@4.57.6", file, spec, 16384).possible);
  EXPECT_TRUE(flags_of("transformers", file, spec, 16384).possible);
  EXPECT_TRUE(flags_of("vllm@0.12", file, spec, 16384).possible);
}

/// A text_config beside a width of the file's own is not where engines look: nor where an override belongs.
TEST(EngineFlags, ATextConfigBesideTheModelsOwnWidth) {
  Json config = llama2(nullptr, 4096);
  config["text_config"] = {{"model_type", "qwen2"}, {"rope_theta", 500000.0}};
  const std::string line = line_of("vllm", config, yarn_spec(1e4, 16, 4096), 65536);
  EXPECT_EQ(line.find("text_config"), std::string::npos) << line;
  EXPECT_NE(line.find("\"factor\":16.0"), std::string::npos) << line;
}

TEST(EngineFlags, OtherMethods) {
  RopeSpec linear = yarn_spec(10000, 4, 4096);
  linear.scaling = RopeLinear{4};
  const Json plain = llama2(nullptr, 4096);
  EXPECT_EQ(
      line_of("llama.cpp", plain, linear, 16384),
      "-c 16384 --rope-scale 4 --override-kv llama.context_length=int:16384");  // its type without a name is linear
  EXPECT_EQ(line_of("exllamav2", plain, linear, 16384), "-l 16384 -rs 4");
  // vLLM and SGLang multiply the file's length by the factor themselves
  EXPECT_EQ(
      line_of("vllm", plain, linear, 16384),
      R"(--hf-overrides '{"rope_parameters":{"rope_type":"linear","factor":4.0,"rope_theta":10000.0}}' --max-model-len 16384)");
  // an int factor is a TypeError in every vLLM
  EXPECT_EQ(
      line_of("vllm", llama2({{"rope_type", "linear"}, {"factor", 4}}, 4096), linear, 16384),
      R"(--hf-overrides '{"rope_parameters":{"rope_type":"linear","factor":4.0,"rope_theta":10000.0}}' --max-model-len 16384)");

  RopeSpec ntk = linear;
  ntk.scaling = RopeNtk{8};
  EXPECT_EQ(line_of("exllamav2", plain, ntk, 16384), "-l 16384 -ra 8");
  // theta' = 10000 * 8^(128/126) = 82684.6...
  EXPECT_EQ(line_of("llama.cpp", plain, ntk, 16384).rfind("-c 16384 --rope-freq-base 82684.6", 0), 0u)
      << line_of("llama.cpp", plain, ntk, 16384);

  RopeSpec llama3 = linear;
  llama3.scaling = RopeLlama3{8, 1, 4, 8192};
  EXPECT_EQ(flags_of("llama.cpp", plain, llama3, 65536).reason.rfind("no flag of llama.cpp says llama3", 0), 0u);
  RopeSpec dynamic = linear;
  dynamic.scaling = RopeDynamic{4, 4096};
  const Json file = llama2({{"rope_type", "dynamic"}, {"factor", 4.0}}, 4096);
  EXPECT_EQ(line_of("transformers", file, dynamic, 16384), "");
  const EngineFlags still = flags_of("llama.cpp", file, dynamic, 16384);
  ASSERT_TRUE(still.possible);
  // 4 * 16384 / 4096 - 3 = 13; 10000 * 13^(128/126) = 135401.97
  EXPECT_EQ(still.line, "-c 16384 --rope-freq-base 135401.97304176545 --override-kv llama.context_length=int:16384");
  ASSERT_FALSE(still.notes.empty());
  EXPECT_EQ(still.notes[0].rfind("right at 16384 tokens; shorter sequences", 0), 0u);
}

// src/llama-context.cpp of 0.5: g(s) replaces yarn_attn_factor where angles are blended, and only there.
TEST(EngineFlags, LlamaCppCommandLine) {
  const Json plain = llama2(nullptr, 4096);
  const auto read = [&](const char* engine, const std::string& line) {
    const EngineVersion version = parse_engine(engine);
    const EngineReading reading = read_with_flags(version, &plain, parse_flags_line(version, line));
    EXPECT_FALSE(reading.error);
    return reading.ropes.at(0).spec;
  };
  const std::string on = "-c 65536 --rope-scaling yarn --rope-scale 16 --yarn-orig-ctx 4096";
  const auto close = [](double a, double b) { return std::abs(a - b) < 1e-6; };
  EXPECT_TRUE(close(*read("llama.cpp", on).attention_factor, 1.2772589));
  EXPECT_TRUE(close(*read("llama.cpp", on + " --yarn-attn-factor 0.5").attention_factor, 1.2772589));
  EXPECT_TRUE(close(*read("llama.cpp@2025-02", on + " --yarn-attn-factor 0.5").attention_factor, 0.63862944));
  EXPECT_TRUE(close(*read("llama.cpp", "--rope-scale 4 --yarn-attn-factor 0.5").attention_factor, 0.5));
  EXPECT_TRUE(close(*read("llama.cpp", on + " --override-kv llama.rope.scaling.attn_factor=float:0.5").attention_factor,
                    0.63862944));
  const RopeSpec betas = read("llama.cpp", on + " --yarn-beta-fast 128 --yarn-beta-slow 2");
  EXPECT_EQ(std::get<RopeYarn>(betas.scaling).beta_fast, 128);
  EXPECT_EQ(std::get<RopeYarn>(betas.scaling).beta_slow, 2);
  // no mixing: positions are interpolated alone, and the magnitude stays 1
  const RopeSpec whole = read("llama.cpp", on + " --yarn-ext-factor 0");
  EXPECT_EQ(std::get<RopeLinear>(whole.scaling).factor, 16);
  EXPECT_EQ(*whole.attention_factor, 1);
  // none: the scale does not count
  EXPECT_TRUE(std::holds_alternative<RopeUnscaled>(read("llama.cpp", "--rope-scaling none --rope-scale 4").scaling));
  EXPECT_EQ(read("llama.cpp", "--rope-freq-base 500000").theta, 500000);
  // without --yarn-orig-ctx the model's length counts, or what it is changed to
  const std::string yarn = "--rope-scaling yarn --rope-scale 16", key = " --override-kv llama.context_length=int:";
  EXPECT_EQ(std::get<RopeYarn>(read("llama.cpp", yarn + key + "8192").scaling).original_context, 8192);
  EXPECT_EQ(std::get<RopeYarn>(read("llama.cpp", on + key + "8192").scaling).original_context, 4096);
  EXPECT_EQ(read("llama.cpp", key.substr(1) + "8192").context, 8192);
  EXPECT_EQ(std::get<RopeYarn>(read("llama.cpp", "--rope-scaling yarn --rope-scale 16").scaling).original_context,
            4096);
}

// 14 lines of flags on three GGUFs, as the real llama.cpp 0.5 parsed and ran them (tests/golden/llamacpp_flags.json).
TEST(EngineFlags, LlamaCppCommandLineAsTheEngineRunsIt) {
  const Json golden = Json::parse(std::ifstream(ROPEWALK_TEST_DATA_DIR "/llamacpp_flags.json"));
  ASSERT_EQ(golden["runs"].size(), 42u);
  const EngineVersion engine = parse_engine("llama.cpp@0.5.0");
  double at_1 = 0, at_1000 = 0;
  for (const Json& run : golden["runs"]) {
    SCOPED_TRACE(run["model"].get<std::string>() + " " + run["flags"].get<std::string>());
    const std::string path = ROPEWALK_GOLDEN_DIR "/" + run["model"].get<std::string>();
    const GgufFile file = read_gguf(path);
    const FlagsGguf source{&file, path};
    const EngineReading reading = read_with_flags(engine, source, parse_flags_line(engine, run["flags"]));
    ASSERT_FALSE(reading.error) << reading.error->text;
    EXPECT_EQ(reading.context, run["n_ctx"].get<int>());
    for (const Json& one : run["positions"]) {
      const int position = one["position"];
      const EngineRotation rotation = engine_rotation(reading.ropes.at(0), *reading.context, position);
      ASSERT_EQ(one["cos"].get<std::string>().size(), 8 * rotation.cos.size());
      for (std::size_t pair = 0; pair < rotation.cos.size(); ++pair) {
        const double cos = golden::from_hex(one["cos"].get<std::string>().substr(8 * pair, 8)),
                     sin = golden::from_hex(one["sin"].get<std::string>().substr(8 * pair, 8));
        double& worst = position == 1 ? at_1 : at_1000;
        worst = std::max({worst, std::abs(cos - rotation.cos[pair]), std::abs(sin - rotation.sin[pair])});
      }
    }
  }
  // The goldens' bounds, 6e-8 at position 1 and 2.4e-4 at 65,535 (compilers contract the products), times an attention
  // factor of 1.28; between them the error grows with the angle: 2.4e-4 * 1000 / 65535 * 1.28 = 4.7e-6.
  EXPECT_LE(at_1, 6e-8 * 1.28);
  EXPECT_LE(at_1000, 4.7e-6);
}

TEST(EngineFlags, WhatNoFlagCanMend) {
  const RopeSpec spec = yarn_spec(10000, 16, 4096);
  // AutoConfig reads the file before any flag counts
  const Json unreadable = llama2({{"rope_type", "yarn"}, {"original_max_position_embeddings", 4096}}, 65536);
  for (const char* engine : {"vllm", "sglang", "transformers"}) {
    const EngineFlags flags = flags_of(engine, unreadable, spec, 65536);
    EXPECT_FALSE(flags.possible) << engine << flags.line;
    EXPECT_NE(flags.reason.find("stops while it reads config.json, before any flag counts"), std::string::npos);
  }
  EXPECT_TRUE(flags_of("llama.cpp", unreadable, spec, 65536).possible);  // the converter then reads the file itself
  const Json conflict = llama2(
      {{"rope_type", "yarn"}, {"type", "linear"}, {"factor", 16.0}, {"original_max_position_embeddings", 4096}}, 65536);
  EXPECT_FALSE(flags_of("vllm", conflict, spec, 65536).possible);
  // tokenizer_config.json: only the environment variable lifts it
  EngineOptions limit;
  limit.tokenizer_limit = 4096;
  const Json good =
      llama2({{"rope_type", "yarn"}, {"factor", 16.0}, {"original_max_position_embeddings", 4096}}, 65536);
  const EngineFlags flags = engine_flags(parse_engine("vllm"), &good, wanted_rope(spec, 65536), limit);
  EXPECT_EQ(flags.line, "VLLM_ALLOW_LONG_MAX_MODEL_LEN=1 --max-model-len 65536") << flags.reason;
  for (const Json& hostile : {Json(), Json(3), Json::array(), Json("x"), Json::object()})
    for (const char* engine : {"vllm", "sglang", "transformers", "llama.cpp", "exllamav2", "exllamav3"})
      EXPECT_FALSE(engine_flags(parse_engine(engine), &hostile, wanted_rope(spec, 65536)).possible)
          << hostile << engine;
}

TEST(EngineFlags, SGLangRefusesLongerContexts) {
  EngineOptions options;
  options.context = 8192;
  const Json plain = llama2(nullptr, 4096);
  const EngineReading refused = read_as(parse_engine("sglang"), plain, options);
  ASSERT_TRUE(refused.context_error);
  EXPECT_EQ(refused.context_error->kind, "ValueError");
  options.allow_longer_context = true;
  EXPECT_EQ(read_as(parse_engine("sglang"), plain, options).context, 8192);
}

/// A line, taken apart as its engine would, must give the wanted rope; without it (or with fewer words: the empty line)
/// the engine must not already be right.
void check_line(const EngineVersion& engine, const Json& config, const WantedRope& wanted, const EngineFlags& flags,
                std::map<std::string, int>& tally) {
  if (!flags.possible) {
    EXPECT_FALSE(flags.reason.empty());
    ++tally["none"];
    return;
  }
  const EngineReading reading = read_with_flags(engine, &config, parse_flags_line(engine, flags.line));
  RopeDifference difference = compare_rope(wanted, reading, wanted.context);
  if (engine.engine == Engine::transformers) difference.context = false;
  EXPECT_TRUE(difference.none()) << engine.title() << ": " << flags.line << ": "
                                 << describe_difference(wanted, reading, wanted.context);
  EXPECT_TRUE(reading.starts());
  if (flags.line.empty()) return void(++tally["right as it is"]);
  ++tally["flags"];
  const EngineReading alone = read_with_flags(engine, &config, {});
  RopeDifference without = compare_rope(wanted, alone, wanted.context);
  if (engine.engine == Engine::transformers) without.context = false;
  const bool needs_length = engine.engine == Engine::exllamav3 || engine.title() == "llama.cpp 2025-02";
  EXPECT_TRUE(needs_length || !without.none() || !flags.notes.empty()) << engine.title() << ": " << flags.line;
}

// Every config.json of the goldens, taken for what transformers 5.23.0 makes of it, for every range of versions.
TEST(EngineFlags, GoldenConfigsInEveryRange) {
  std::map<std::string, std::map<std::string, int>> tally;
  for (const Json& one : golden::engines()["cases"]) {
    SCOPED_TRACE(one["id"].get<std::string>());
    const Json& config = one["config"];
    const EngineReading meant = read_as(parse_engine("transformers"), config);
    if (meant.error) continue;
    const int stated = meant.ropes[0].spec.context;
    const std::optional<int> original = rope_original_context(meant.ropes[0].spec);
    const double scaled = original ? *original * rope_factor(meant.ropes[0].spec).value_or(1) : 0;
    const WantedRope wanted = wanted_rope(meant, std::max(stated, int(std::min(scaled, 1e8))));
    for (const EngineRange& range : engine_ranges()) {
      const EngineVersion engine =
          parse_engine(std::string(engine_name(range.engine)) + "@" + std::string(range.newest));
      check_line(engine, config, wanted, engine_flags(engine, &config, wanted), tally[engine.title()]);
    }
  }
  for (const auto& [engine, counts] : tally)
    for (const auto& [what, count] : counts) RecordProperty(engine + " " + what, count);
  // of the 97 files that transformers 5.23.0 reads: what else can run them, looked at one by one. vLLM's four without an
  // answer: two with a part of the head rotating as nothing but transformers has it, two whose type and rope_type
  // disagree. Longropes whose A is not that of their lengths have short_mscale and long_mscale.
  const auto counts = [&](const char* engine) {
    std::map<std::string, int>& of = tally[engine];
    return std::vector<int>{of["right as it is"], of["flags"], of["none"]};
  };
  EXPECT_EQ(counts("transformers 5.23.0"), (std::vector<int>{97, 0, 0}));
  EXPECT_EQ(counts("vllm 0.33.0"), (std::vector<int>{58, 35, 4}));
  EXPECT_EQ(counts("sglang 0.5.23"), (std::vector<int>{65, 30, 2}));
  EXPECT_EQ(counts("llama.cpp 0.5.0"), (std::vector<int>{61, 25, 11}));
  EXPECT_EQ(counts("exllamav2 0.3.2"), (std::vector<int>{32, 1, 64}));
}

// 162 published config.json files, run by the newest engines as transformers 5.23.0 means them: what they need is in
// tests/golden/engine_flags.txt, looked at; every line is fed back.
TEST(EngineFlags, PublishedConfigs) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(ROPEWALK_GOLDEN_DIR "/lint/configs"))
    files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  ASSERT_EQ(files.size(), 162u);
  std::string got;
  std::map<std::string, int> tally;
  for (const std::filesystem::path& path : files) {
    SCOPED_TRACE(path.filename().string());
    got += path.filename().string() + "\n";
    Json config;
    try {
      config = read_json(path);
    } catch (const Error&) {
      got += "  not JSON\n";  // Python's Infinity
      continue;
    }
    const EngineReading meant = read_as(parse_engine("transformers@5.23.0"), config);
    if (meant.error) {
      got += "  transformers: " + meant.error->kind + "\n";
      continue;
    }
    const RopeSpec& first = meant.ropes[0].spec;
    const std::optional<int> original = rope_original_context(first);
    const double scaled = original ? *original * rope_factor(first).value_or(1) : 0;
    const WantedRope wanted = wanted_rope(meant, std::max(first.context, int(std::min(scaled, 1e8))));
    for (const char* name : {"transformers@5.23.0", "vllm@0.33.0", "sglang@0.5.23", "llama.cpp@0.5.0",
                             "exllamav2@0.3.2", "exllamav3@1.6.5"}) {
      const EngineVersion engine = parse_engine(name);
      const EngineFlags flags = engine_flags(engine, &config, wanted);
      check_line(engine, config, wanted, flags, tally);
      const bool says_nothing = flags.possible && (flags.line.empty() || engine.engine == Engine::exllamav3);
      if (!says_nothing)
        got += "  " + engine.title() + ": " +
               (flags.possible   ? flags.line
                : flags.followed ? "none"
                                 : "not followed") +
               "\n";
    }
  }
  std::stringstream want;
  want << std::ifstream(ROPEWALK_TEST_DATA_DIR "/engine_flags.txt").rdbuf();
  if (got == want.str()) return;
  std::ofstream("engine_flags.txt") << got;
  FAIL() << "the flags of the 162 files are not those of tests/golden/engine_flags.txt; what they are now is in "
            "engine_flags.txt of the working directory";
}

}  // namespace
}  // namespace ropewalk::formats
