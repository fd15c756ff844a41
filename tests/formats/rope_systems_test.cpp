#include <gtest/gtest.h>

#include <cmath>

#include "formats/gguf_rope.h"
#include "formats/hf_config.h"
#include "formats/rope_config.h"
#include "formats/rope_emit.h"
#include "lib/error.h"
#include "tests/formats/lint_support.h"

// The systems that published longer contexts by these methods: their config.json as published (docs/rope-dialects.md),
// the rope it means, and that rope written for each engine and into a GGUF, read back by the engine's rule. What each
// means is stated here a second time, from the papers and cards, not taken from the reader.

namespace ropewalk::formats {
namespace {

struct System {
  std::string name;
  Json config;
  RopeSpec rope;  // what it means
  int context;
  std::string spec;                 // how to ask for it over the base, or native
  int base_context = 4096;          // of the base model
  std::vector<const char*> cannot;  // engines that no config.json tells it
};

Json shape(const char* type, int width, int heads, int kv_heads, int context) {
  return {{"model_type", type},
          {"hidden_size", width},
          {"num_attention_heads", heads},
          {"num_hidden_layers", 32},
          {"num_key_value_heads", kv_heads},
          {"intermediate_size", 11008},
          {"vocab_size", 32000},
          {"rms_norm_eps", 1e-5},
          {"max_position_embeddings", context}};
}

Json with(Json config, std::initializer_list<std::pair<const char*, Json>> more) {
  for (const auto& [key, value] : more) config[key] = value;
  return config;
}

RopeSpec rope(RopeScaling scaling, int context, std::optional<double> attention = std::nullopt, double theta = 10000) {
  RopeSpec spec{theta, 128, std::move(scaling), attention};
  spec.context = context;
  return spec;
}

RopeYarn yarn(double factor, int original, double fast = 32, double slow = 1) {
  RopeYarn out{factor, original};
  out.beta_fast = fast;
  out.beta_slow = slow;
  return out;
}

Json auto_map(const std::string& family, const std::string& modeling, const std::string& klass) {
  return {{"AutoConfig", "configuration_" + family + "." + klass + "Config"},
          {"AutoModelForCausalLM", modeling + "." + klass + "ForCausalLM"}};
}
Json yarn_dict(double factor, int original) {
  return {{"factor", factor}, {"original_max_position_embeddings", original}, {"type", "yarn"}, {"finetuned", true}};
}

/// Yarn-Llama-2-*: no rope_theta key at all, code of the repository's flash variant.
System yarn_llama(const std::string& name, double factor, int width, int heads, int kv_heads) {
  const int context = int(4096 * factor);
  return {name,
          with(shape("llama", width, heads, kv_heads, context),
               {{"auto_map", auto_map("llama", "modeling_llama_together_yarn", "Llama")},
                {"rope_scaling", yarn_dict(factor, 4096)}}),
          rope(yarn(factor, 4096), context),
          context,
          "native",
          4096,
          {"exllamav2"}};
}

/// Yarn-Mistral-7b: max_position_embeddings is neither the original nor the new context; betas and 0.07 in code only.
System yarn_mistral(const std::string& name, double factor) {
  const int context = int(8192 * factor);
  return {
      name,
      with(shape("mistral", 4096, 32, 8, 32768), {{"auto_map", auto_map("mistral", "modeling_mistral_yarn", "Mistral")},
                                                  {"rope_scaling", yarn_dict(factor, 8192)},
                                                  {"rope_theta", 10000.0},
                                                  {"sliding_window", context},
                                                  {"max_sequence_length", context}}),
      rope(yarn(factor, 8192, 128, 2), context, 0.07 * std::log(factor) + 1),
      context,
      "native",
      8192,
      {"llama.cpp", "exllamav2"}};
}

Json linear_dict(double factor) { return {{"type", "linear"}, {"factor", factor}}; }

std::vector<System> systems() {
  std::vector<System> all = {
      yarn_llama("Yarn-Llama-2-7b-64k", 16, 4096, 32, 32),
      yarn_llama("Yarn-Llama-2-7b-128k", 32, 4096, 32, 32),
      yarn_llama("Yarn-Llama-2-13b-64k", 16, 5120, 40, 40),
      yarn_llama("Yarn-Llama-2-13b-128k", 32, 5120, 40, 40),
      yarn_llama("Yarn-Llama-2-70b-32k", 8, 8192, 64, 8),
      yarn_llama("airoboros-l2-13b-2.1-YaRN-64k", 16, 5120, 40, 40),
      // constructed, their config.json was not at hand: SOLAR-10.7B's shape, and the contexts that the YaRN repository's
      // results name over SOLAR's 4096
      yarn_llama("Yarn-Solar-10b-32k", 8, 4096, 32, 8),
      yarn_llama("Yarn-Solar-10b-64k", 16, 4096, 32, 8),
      yarn_llama("Yarn-Llama-2-7b-8k", 2, 4096, 32, 32),
      yarn_mistral("Yarn-Mistral-7b-64k", 8),
      yarn_mistral("Yarn-Mistral-7b-128k", 16),
      {"airoboros-l2-13b-PI-16k",
       with(shape("llama", 5120, 40, 40, 16384), {{"rope_scaling", linear_dict(4)}, {"rope_theta", 10000.0}}),
       rope(RopeLinear{4}, 16384),
       16384,
       "linear,factor=4",
       4096,
       {}},
      {"airophin-v2-13b-PI-8k",
       with(shape("llama", 5120, 40, 40, 8192), {{"rope_scaling", linear_dict(2)}}),
       rope(RopeLinear{2}, 8192),
       8192,
       "linear,to=8k,like=airoboros-pi",
       4096,
       {}},
      {"airoboros-13b-gpt4-1.4.1-PI-8192",
       with(shape("llama", 5120, 40, 40, 8192), {{"rope_scaling", linear_dict(4)}}),
       rope(RopeLinear{4}, 8192),
       8192,
       "linear,factor=4",
       2048,
       {}},
      {"airoboros-33b-gpt4-1.4.1-lxctx-PI-16384",
       with(shape("llama", 6656, 52, 52, 16384), {{"rope_scaling", linear_dict(8)}}),
       rope(RopeLinear{8}, 16384),
       16384,
       "linear,factor=8",
       2048,
       {}},
      // its own code, an exllama patch: no config.json says it, so the asked-for SPEC is where it starts
      {"airophin-13b-pntk-16k",
       Json(),
       rope(RopeNtkByParts{4, 4096}, 16384),
       16384,
       "ntk-by-parts,to=16k,like=airophin-pntk",
       4096,
       {"llama.cpp"}},
      {"NTK-Llama-2-7b-8k",
       with(shape("llama", 4096, 32, 32, 8192), {{"rope_theta", 20000.0}}),
       rope(RopeUnscaled{}, 8192, std::nullopt, 20000),
       8192,
       "none,rope_theta=20000,to=8k",
       4096,
       {}},
  };
  return all;
}

ModelConfig model_of(const Json& config) {
  std::vector<std::string> warnings;
  return read_hf_config("config.json", config.dump(2), config, warnings);
}

/// Within 3 float32 units in the last place of the double-precision tables (lists are stored to float32 precision).
void expect_same(const RopeSpec& got, const RopeSpec& want, int length, const std::string& what) {
  const RopeTable a = rope_table(got, length), b = rope_table(want, length);
  ASSERT_EQ(a.inv_freq.size(), b.inv_freq.size()) << what;
  for (std::size_t pair = 0; pair < a.inv_freq.size(); ++pair)
    EXPECT_NEAR(a.inv_freq[pair] / b.inv_freq[pair], 1, 3 * 0x1p-23) << what << ", pair " << pair;
  EXPECT_NEAR(a.attention_factor / b.attention_factor, 1, 0x1p-23) << what;
}

/// config.json of the system asked for over its base (the published file itself where that is native).
struct Written {
  Json preferred;
  ModelConfig model;
  RopeTarget target;
};
Written written(const System& system) {
  Json base = system.config;
  if (system.spec != "native") {
    base = system.config.is_null() ? shape("llama", 5120, 40, 40, 4096) : system.config;
    base["rope_scaling"] = nullptr;
    base["rope_theta"] = 10000.0;
    base["max_position_embeddings"] = system.base_context;
  }
  const ModelConfig before = model_of(base);
  const RopeRequest request = parse_rope_spec(system.spec, before);
  Written out{config_with_rope(base, request, before), {}, {}};
  out.model = model_of(out.preferred);
  out.target = {request.spec, request.context};
  return out;
}

constexpr std::array kTargets = {
    "transformers", "transformers@4.57", "transformers@4.51", "vllm",      "vllm@0.24", "vllm@0.10",
    "sglang",       "sglang@0.5.3",      "exllamav2",         "exllamav3", "llama.cpp"};

TEST(RopeSystems, ThePublishedFileMeansWhatItsPublisherSays) {
  for (const System& system : systems()) {
    if (system.config.is_null()) continue;
    const ModelConfig model = model_of(system.config);
    ASSERT_EQ(model.head_dim, 128) << system.name;
    expect_same(model.rope, system.rope, system.context, system.name);
  }
}

TEST(RopeSystems, EveryTargetsFileIsReadAsTheSameRope) {
  int files = 0, refusals = 0;
  for (const System& system : systems()) {
    const Written out = written(system);
    EXPECT_EQ(out.target.context, system.context) << system.name;
    expect_same(out.target.spec, system.rope, system.context, system.name);
    for (const char* target : kTargets) {
      const std::string what = system.name + " for " + target;
      const EngineVersion engine = parse_engine(target);
      const bool cannot = std::any_of(system.cannot.begin(), system.cannot.end(),
                                      [&](const char* name) { return std::string_view(target).starts_with(name); });
      try {
        const EmittedRope emitted = emit_rope(out.preferred, out.model, out.target, std::span(&engine, 1));
        EXPECT_FALSE(cannot) << what;
        ++files;
        const EngineReading reading = read_as(engine, Json::parse(emitted.config.dump()));
        ASSERT_TRUE(reading.starts()) << what;
        EXPECT_EQ(reading.context, system.context) << what;
        for (const EngineRope& one : reading.ropes) {
          expect_same(one.spec, system.rope, system.context, what);
          expect_same(one.spec, system.rope, 1, what);
        }
        EXPECT_FALSE(emitted.config.contains("auto_map")) << what;
      } catch (const Error& error) {
        EXPECT_TRUE(cannot) << what << ": " << error.what();
        ++refusals;
      }
    }
  }
  EXPECT_EQ(files + refusals, 17 * int(kTargets.size()));
  RecordProperty("files", files);
  RecordProperty("refusals", refusals);
}

TEST(RopeSystems, EveryGgufIsRunAsTheSameRope) {
  for (const System& system : systems()) {
    const Written out = written(system);
    const GgufRope gguf = gguf_rope(out.target.spec, 128, system.context, RopeEncoding::automatic);
    EXPECT_TRUE(gguf.losses.empty()) << system.name;
    RopeSpec spec{10000, 128};
    spec.context = system.context;
    std::string type = "linear";
    double factor = 1, attention = 1;
    int original = system.context;
    for (const GgufKey& key : gguf.keys) {
      const std::string name = key.name.substr(std::string("llama.rope.").size());
      if (name == "scaling.type") type = std::get<std::string>(key.value.value);
      else if (name == "scaling.factor") factor = std::get<double>(key.value.value);
      else if (name == "scaling.attn_factor") attention = std::get<double>(key.value.value);
      else if (name == "scaling.original_context_length") original = int(std::get<std::uint64_t>(key.value.value));
      else if (name == "freq_base") spec.theta = std::get<double>(key.value.value);
    }
    spec.frequency_divisors.assign(gguf.frequency_divisors.begin(), gguf.frequency_divisors.end());
    run_gguf_scaling(spec, type, factor, original, attention);
    expect_same(spec, system.rope, system.context, system.name);
    const bool baked = system.name.starts_with("Yarn-Mistral") || system.name.starts_with("airophin-13b");
    EXPECT_EQ(!gguf.frequency_divisors.empty(), baked) << system.name;
  }
}

// reference numbers of the papers and the repository
// PI as the patches before transformers 4.31 had it: positions times 0.25. In a config.json that is a factor below 1, which
// every reader takes for a shorter context: lint says what is meant, and that written is PI-16k.
TEST(RopeSystems, TheQuarterStyleOfPI) {
  Json config =
      with(shape("llama", 5120, 40, 40, 16384), {{"rope_scaling", linear_dict(0.25)}, {"rope_theta", 10000.0}});
  const auto findings = lint_test::lint_text(config.dump(2));
  const auto found =
      std::find_if(findings.begin(), findings.end(), [](const Finding& one) { return one.rule == "R20"; });
  ASSERT_NE(found, findings.end());
  EXPECT_EQ(found->severity, Severity::error);
  EXPECT_EQ(found->message, "factor is 0.25: below 1 it shortens the context; some tools write 1/factor, here 4");
  EXPECT_EQ(found->fix, "write 4 if that is meant");
  std::vector<std::string> warnings;
  const ModelConfig as_it_is = read_hf_config("config.json", config.dump(2), config, warnings);
  ASSERT_FALSE(warnings.empty());
  EXPECT_NE(warnings[0].find("factor is 0.25, below 1"), std::string::npos) << warnings[0];
  EXPECT_DOUBLE_EQ(rope_table(as_it_is.rope, 1).inv_freq[0], 4);
  config["rope_scaling"]["factor"] = 4.0;
  expect_same(model_of(config).rope, rope(RopeLinear{4}, 16384), 16384, "PI-16k");
}

TEST(RopeSystems, PublishedNumbers) {
  EXPECT_NEAR(rope_table(rope(yarn(16, 4096), 65536), 1).attention_factor, 1.277258872, 1e-9);
  const RopeTable mistral = rope_table(yarn_mistral("", 16).rope, 1);
  EXPECT_NEAR(mistral.attention_factor, 1.194081, 5e-7);
  // its ramp runs from pair 16 to 46: 16 is untouched, 46 divided by 16; as plain YaRN (25 to 50) 33 pairs differ
  EXPECT_DOUBLE_EQ(mistral.inv_freq[16], std::pow(10000, -0.25));
  EXPECT_LT(mistral.inv_freq[17], std::pow(10000, -17 / 64.0));
  EXPECT_GT(mistral.inv_freq[45], std::pow(10000, -45 / 64.0) / 16 * 1.0001);
  EXPECT_NEAR(mistral.inv_freq[46] * 16 / std::pow(10000, -46 / 64.0), 1, 1e-12);
  const RopeTable plain = rope_table(rope(yarn(16, 8192), 131072), 1);
  int differ = 0;
  for (std::size_t pair = 0; pair < 64; ++pair)
    differ += std::abs(plain.inv_freq[pair] / mistral.inv_freq[pair] - 1) > 1e-9;
  EXPECT_EQ(differ, 33);
}

}  // namespace
}  // namespace ropewalk::formats
