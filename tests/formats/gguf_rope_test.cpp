#include "formats/gguf_rope.h"

#include <gtest/gtest.h>

#include "formats/engines/engine.h"
#include "lib/error.h"
#include "tests/formats/rope_golden.h"

namespace ropewalk::formats {
namespace {

using golden::engines;

/// rope_freqs.weight without a file.
class Floats final : public LazyTensor {
 public:
  Floats(std::string name, std::vector<float> values, DType dtype = DType::f32)
      : LazyTensor({std::move(name), {values.size()}, dtype, RotaryPairs::none}), values_(std::move(values)) {}
  void read_f32(RowRange, std::span<float> values) const override {
    std::copy(values_.begin(), values_.end(), values.begin());
  }

 private:
  std::vector<float> values_;
};

GgufFile file_with(std::vector<GgufKey> keys, int head_dim, int context, const std::vector<float>& divisors = {}) {
  GgufFile file;
  file.keys = {{"general.architecture", gguf_string("llama")},
               {"llama.context_length", gguf_u32(std::uint32_t(context))},
               {"llama.embedding_length", gguf_u32(std::uint32_t(head_dim * 2))},
               {"llama.attention.head_count", gguf_u32(2)},
               {"llama.rope.dimension_count", gguf_u32(std::uint32_t(head_dim))}};
  for (GgufKey& key : keys) file.keys.push_back(std::move(key));
  if (!divisors.empty()) file.tensors.push_back(std::make_shared<Floats>(kGgufRopeFreqs, divisors));
  return file;
}

/// Largest relative difference of inv_freq * A (A multiplies the rotated vector, inv_freq the angle: both must agree),
/// absolute where a pair stands still.
double worst_difference(const RopeTable& got, const RopeTable& want) {
  if (got.inv_freq.size() != want.inv_freq.size()) return 1;
  double worst = std::abs(got.attention_factor / want.attention_factor - 1);
  for (std::size_t pair = 0; pair < want.inv_freq.size(); ++pair)
    worst = std::max(
        worst, want.inv_freq[pair] == 0 ? got.inv_freq[pair] : std::abs(got.inv_freq[pair] / want.inv_freq[pair] - 1));
  return worst;
}

// What is stored is float32: theta (reaches f_i through its exponent, below 1), factor or divisor, attn_factor, each
// off by at most 2^-24 relative; divisors are against theta as stored. A frequency sees at most two of them.
constexpr double kStored = 2 * 0x1p-24;

TEST(GgufRope, WhatIsWrittenIsReadBackForEveryCaseOfTransformers) {
  int exact = 0, keys = 0, freqs = 0;
  double worst = 0;
  for (const Json& one : engines()["cases"]) {
    if (!golden::ours(one) || golden::result_of(one, "transformers-5.23.0").contains("error")) continue;
    const std::string id = one["id"].get<std::string>();
    const RopeSpec spec = golden::read(one["config"]);
    const int head_dim = golden::geometry_of(one["config"]).head_dim, context = spec.context;
    if (spec.rotary_dim != head_dim && !std::holds_alternative<RopeProportional>(spec.scaling)) {
      EXPECT_THROW(gguf_rope(spec, head_dim, context, RopeEncoding::automatic), Error) << id;
      continue;
    }
    const GgufRope rope = gguf_rope(spec, head_dim, context, RopeEncoding::automatic);
    const RopeSpec back = read_gguf_rope(file_with(rope.keys, head_dim, context, rope.frequency_divisors), "out.gguf");
    for (const Loss& loss : rope.losses) EXPECT_TRUE(depends_on_length(spec)) << id << ": " << loss.name;
    const int length = depends_on_length(spec) && rope.losses.empty() ? context
                       : rope.losses.empty()                          ? 1
                       : rope.losses[0].changes_logits                ? context
                                                                      : *rope.losses[0].safe_context;
    const double difference = worst_difference(rope_table(back, length), rope_table(spec, length));
    EXPECT_LE(difference, kStored) << id << ": " << describe(spec) << " came back as " << describe(back);
    worst = std::max(worst, difference);
    exact += difference == 0;
    (rope.frequency_divisors.empty() ? keys : freqs) += 1;
    EXPECT_EQ(rope.notes.empty(), rope.frequency_divisors.empty()) << id;

    RopeSpec other = spec;  // the comparison can fail
    other.theta *= 1.0001;
    EXPECT_GT(worst_difference(rope_table(back, length), rope_table(other, length)), kStored) << id;
  }
  EXPECT_GT(keys, 50);
  EXPECT_GT(freqs, 8);
  std::printf("%d cases by keys, %d by rope_freqs.weight; worst relative difference %.2g, %d exact\n", keys, freqs,
              worst, exact);
}

TEST(GgufRope, FreqsSayWhatKeysSay) {
  for (const Json& one : engines()["cases"]) {
    if (!golden::ours(one) || golden::result_of(one, "transformers-5.23.0").contains("error")) continue;
    const RopeSpec spec = golden::read(one["config"]);
    const int head_dim = golden::geometry_of(one["config"]).head_dim;
    if (spec.rotary_dim != head_dim || depends_on_length(spec)) continue;
    const GgufRope rope = gguf_rope(spec, head_dim, spec.context, RopeEncoding::freqs);
    const RopeSpec back =
        read_gguf_rope(file_with(rope.keys, head_dim, spec.context, rope.frequency_divisors), "out.gguf");
    EXPECT_LE(worst_difference(rope_table(back, 1), rope_table(spec, 1)), kStored) << one["id"];
  }
}

// Reading against the engine ------------------------------------------------------------------------------------------

GgufValue value_of(const std::string& key, const Json& value) {
  if (value.is_string()) return gguf_string(value.get<std::string>());
  const bool whole = key.ends_with("_length") || key.ends_with("dimension_count");
  return whole ? gguf_u32(value.get<std::uint32_t>()) : gguf_f32(value.get<float>());
}

GgufFile file_of(const Json& result, const Json& node) {
  GgufFile file;
  file.keys.push_back({"general.architecture", gguf_string("llama")});
  for (const auto& [key, value] : result["keys"].items())
    if (key.rfind("llama.", 0) == 0) file.keys.push_back({key, value_of(key, value)});
  file.keys.push_back({"llama.embedding_length", gguf_u32(2 * node["head_dim"].get<std::uint32_t>())});
  file.keys.push_back({"llama.attention.head_count", gguf_u32(2)});
  if (result["keys"].contains(kGgufRopeFreqs))
    file.tensors.push_back(
        std::make_shared<Floats>(kGgufRopeFreqs, golden::vector_of(node["factors"].get<std::string>())));
  return file;
}

/// How far the engine's float32 angle of a pair may be from ours, relative: theta_scale = powf (1.5 units), raised to
/// the power i by i rounded products (so 1.5 i + i halves of 2^-23, that is at most 3 i of 2^-24), divisor, factor, two
/// products and a sum, and YaRN's ramp as in rope_golden.h.
double angle_error(const RopeSpec& spec, std::size_t pair) {
  double units = 3 * double(pair) + 5;
  if (const auto* yarn = std::get_if<RopeYarn>(&spec.scaling))
    units += std::abs(1 - 1 / yarn->factor) * std::max(1.0, yarn->factor);
  return units * 0x1p-24;
}

struct Worst {
  double share_of_tolerance = 0, at_position_1 = 0;
  int angles = 0;
};
Worst compare_with_engine(const RopeSpec& spec, const Json& node) {
  Worst worst;
  for (const Json& row : node["positions"]) {
    const double position = row["position"].get<double>();
    const RopeTable table = rope_table(spec, int(position) + 1);
    const std::vector<float> cosines = golden::vector_of(row["cos"].get<std::string>()),
                             sines = golden::vector_of(row["sin"].get<std::string>());
    EXPECT_EQ(cosines.size(), table.inv_freq.size());
    for (std::size_t pair = 0; pair < cosines.size(); ++pair) {
      const double angle = position * table.inv_freq[pair], a = table.attention_factor;
      const double difference =
          std::max(std::abs(a * std::cos(angle) - cosines[pair]), std::abs(a * std::sin(angle) - sines[pair]));
      // cosf, the product with A, A itself (logf and a product)
      const double tolerance = a * (angle * angle_error(spec, pair) + 4 * 0x1p-24);
      worst.share_of_tolerance = std::max(worst.share_of_tolerance, difference / tolerance);
      if (position == 1) worst.at_position_1 = std::max(worst.at_position_1, difference);
      ++worst.angles;
    }
  }
  return worst;
}

TEST(GgufRope, ReadsKeysAsTheEngineDoes) {
  for (const char* engine : {"llama.cpp-0.5.0+transformers-5.23.0", "llama.cpp-0.5.0+transformers-4.57.6"}) {
    Worst all;
    int cases = 0, no_file = 0;
    for (const Json& one : engines()["cases"]) {
      if (!golden::ours(one)) continue;
      const Json& result = golden::result_of(one, engine);
      if (result.contains("convert_error")) {
        ++no_file;
        continue;
      }
      ASSERT_TRUE(result.contains("runs")) << one["id"];
      for (const auto& [context, run] : result["runs"].items())
        for (const Json& node : run["nodes"]) {
          const RopeSpec spec = read_gguf_rope(file_of(result, node), "golden.gguf");
          const Worst worst = compare_with_engine(spec, node);
          EXPECT_LE(worst.share_of_tolerance, 1) << one["id"] << ": " << describe(spec);
          EXPECT_LE(worst.at_position_1, 1e-6) << one["id"];
          all.share_of_tolerance = std::max(all.share_of_tolerance, worst.share_of_tolerance);
          all.at_position_1 = std::max(all.at_position_1, worst.at_position_1);
          all.angles += worst.angles;
          RopeSpec other = spec;  // the comparison can fail
          other.theta *= 1.001;
          EXPECT_GT(compare_with_engine(other, node).share_of_tolerance, 1) << one["id"];
          ++cases;
        }
    }
    EXPECT_EQ(cases + no_file, 85) << engine;
    std::printf(
        "%s: %d runs, %d not converted, %d angles; at position 1 within %.2g, elsewhere within %.2g of the derived "
        "tolerance\n",
        engine, cases, no_file, all.angles, all.at_position_1, all.share_of_tolerance);
  }
}

TEST(GgufRope, CompatWritesTheConvertersKeys) {
  int cases = 0, failures = 0;
  std::int64_t worst = 0;
  for (const Json& one : engines()["cases"]) {
    if (!golden::ours(one)) continue;
    const Json& result = golden::result_of(one, "llama.cpp-0.5.0+transformers-5.23.0");
    if (result.contains("convert_error")) {
      EXPECT_THROW(gguf_rope_compat(one["config"]), Error) << one["id"];
      ++failures;
      continue;
    }
    const GgufRope rope = gguf_rope_compat(one["config"]);
    std::vector<std::string> want, got;
    for (const auto& [key, value] : result["keys"].items())
      if (key.rfind("llama.rope.", 0) == 0 && key != "llama.rope.dimension_count") want.push_back(key);
    for (const GgufKey& key : rope.keys) got.push_back(key.name);
    EXPECT_EQ(got, want) << one["id"];
    for (const GgufKey& key : rope.keys) {
      const GgufValue expected = value_of(key.name, result["keys"][key.name]);
      EXPECT_EQ(key.value.type, expected.type) << one["id"] << " " << key.name;
      EXPECT_EQ(key.value.value.index(), expected.value.index());
      if (expected.type == GgufType::f32) {
        EXPECT_EQ(std::get<double>(key.value.value), std::get<double>(expected.value)) << one["id"] << " " << key.name;
      } else if (expected.type == GgufType::u32) {
        EXPECT_EQ(std::get<std::uint64_t>(key.value.value), std::get<std::uint64_t>(expected.value))
            << one["id"] << " " << key.name;
      } else {
        EXPECT_EQ(std::get<std::string>(key.value.value), std::get<std::string>(expected.value))
            << one["id"] << " " << key.name;
      }
    }
    EXPECT_EQ(!rope.frequency_divisors.empty(), result["keys"].contains(kGgufRopeFreqs)) << one["id"];
    if (!rope.frequency_divisors.empty()) {
      const std::vector<float> factors =
          golden::vector_of(result["runs"]["0"]["nodes"][0]["factors"].get<std::string>());
      ASSERT_EQ(rope.frequency_divisors.size(), factors.size());
      for (std::size_t pair = 0; pair < factors.size(); ++pair)
        worst = std::max(worst, golden::ulps(rope.frequency_divisors[pair], factors[pair]));
    }
    ++cases;
  }
  EXPECT_EQ(cases + failures, 85);
  EXPECT_EQ(worst, 0) << "rope_freqs.weight of llama3, units in the last place";
}

// Rules one by one ----------------------------------------------------------------------------------------------------

RopeSpec read(std::vector<GgufKey> keys, int head_dim = 32, int context = 2048,
              const std::vector<float>& divisors = {}) {
  return read_gguf_rope(file_with(std::move(keys), head_dim, context, divisors), "m.gguf");
}

TEST(GgufRope, DefaultsOfTheLoader) {
  EXPECT_EQ(describe(read({})), "plain (theta 10000)");
  EXPECT_EQ(describe(read({{"llama.rope.scaling.factor", gguf_f32(4)}})),
            "linear x4 (theta 10000)");                                                              // no type: linear
  EXPECT_EQ(describe(read({{"llama.rope.scale_linear", gguf_f32(4)}})), "linear x4 (theta 10000)");  // the old name
  EXPECT_EQ(describe(read({{"llama.rope.scale_linear", gguf_f32(4)}, {"llama.rope.scaling.factor", gguf_f32(0)}})),
            "plain (theta 10000)");  // 0: 1, and the old name is not asked
  EXPECT_EQ(
      describe(read({{"llama.rope.scaling.type", gguf_string("none")}, {"llama.rope.scaling.factor", gguf_f32(4)}})),
      "plain (theta 10000)");
  EXPECT_EQ(describe(read(
                {{"llama.rope.scaling.type", gguf_string("longrope")}, {"llama.rope.scaling.factor", gguf_f32(4)}})),
            "linear x4 (theta 10000)");
  const std::vector<GgufKey> yarn = {{"llama.rope.scaling.type", gguf_string("yarn")},
                                     {"llama.rope.scaling.factor", gguf_f32(8)}};
  EXPECT_EQ(describe(read(yarn)),
            "YaRN x8 of 2048 (theta 10000, beta 32/1, attention factor 1.2079)");  // no original: the context itself
  std::vector<GgufKey> all = yarn;
  all.push_back({"llama.rope.scaling.original_context_length", gguf_u32(256)});
  all.push_back({"llama.rope.scaling.yarn_beta_fast", gguf_f32(128)});  // none of these is read for arch llama
  all.push_back({"llama.rope.scaling.yarn_beta_slow", gguf_f32(2)});
  all.push_back({"llama.rope.scaling.yarn_attn_factor", gguf_f32(3)});
  all.push_back({"llama.rope.scaling.yarn_ext_factor", gguf_f32(0.5)});
  all.push_back({"llama.rope.scaling.yarn_log_multiplier", gguf_f32(0.1f)});
  EXPECT_EQ(describe(read(all)), "YaRN x8 of 256 (theta 10000, beta 32/1, attention factor 1.2079)");
  all.push_back({"llama.rope.scaling.attn_factor", gguf_f32(0.5)});  // this one is
  EXPECT_NEAR(rope_table(read(all), 1).attention_factor, 0.5 * (0.1 * std::log(8.0) + 1), 1e-15);
}

// llama-context.cpp of 0.5: g(s, 1) / g(s, m) where the arch's loader reads yarn_log_multiplier, m its value (a tenth of it
// for deepseek2, where an m other than 1 is taken for both); every other arch has g(s).
TEST(GgufRope, TheLogMultiplierIsReadByThreeArchitectures) {
  const auto attention = [](const std::string& arch, float multiplier) {
    GgufFile file;
    file.keys = {{"general.architecture", gguf_string(arch)},
                 {arch + ".context_length", gguf_u32(2048)},
                 {arch + ".attention.key_length", gguf_u32(32)},
                 {arch + ".rope.scaling.type", gguf_string("yarn")},
                 {arch + ".rope.scaling.factor", gguf_f32(8)},
                 {arch + ".rope.scaling.yarn_log_multiplier", gguf_f32(multiplier)}};
    return *read_as(newest(Engine::llama_cpp), file, "m.gguf").ropes.at(0).spec.attention_factor;
  };
  const auto g = [](double m) { return 0.1 * m * std::log(8.0) + 1; };
  for (const char* arch : {"llama", "qwen2", "grok"}) EXPECT_DOUBLE_EQ(attention(arch, 0.5f), g(1)) << arch;
  EXPECT_DOUBLE_EQ(attention("mistral3", 0.5f), g(1) / g(0.5));
  EXPECT_NEAR(attention("deepseek32", 0.05f), g(1) / g(0.5), 1e-7);  // 0.05f / 0.1f is 0.5 to a float's rounding
  EXPECT_DOUBLE_EQ(attention("deepseek2", 0.05f), 1);
  EXPECT_DOUBLE_EQ(attention("deepseek2", 0.1f), 1);
}

void expect_refused(std::vector<GgufKey> keys, ErrorKind kind, const char* part,
                    const std::vector<float>& divisors = {}) {
  try {
    read(std::move(keys), 32, 2048, divisors);
    ADD_FAILURE() << "not refused: " << part;
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind);
    EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
  }
}

TEST(GgufRope, RefusesWhatTheEngineRefuses) {
  expect_refused({{"llama.rope.scaling.type", gguf_string("ntk")}}, ErrorKind::unsupported,
                 "llama.cpp 0.5 stops at llama.rope.scaling.type 'ntk': GGML_ASSERT");
  expect_refused({{"llama.attention.key_length", gguf_u32(64)}}, ErrorKind::bad_input,
                 "llama.rope.dimension_count: invalid n_rot: 32, expected 64");
  expect_refused({{"llama.rope.scaling.factor", gguf_f32(-2)}}, ErrorKind::bad_input,
                 "llama.rope.scaling.factor: a factor of -2");
  expect_refused({{"llama.rope.scaling.factor", gguf_f32(INFINITY)}}, ErrorKind::bad_input, "not a finite number");
  for (const double factor : {0.0, -1.0})
    expect_refused({{"llama.rope.scaling.attn_factor", gguf_f32(float(factor))}}, ErrorKind::bad_input,
                   "llama.rope.scaling.attn_factor: an attention factor of ");
  expect_refused({{"llama.rope.freq_base", gguf_f32(0)}}, ErrorKind::bad_input, "llama.rope.freq_base: a base of 0");
  expect_refused({{"llama.rope.freq_base", gguf_string("10000")}}, ErrorKind::bad_input, "llama.rope.freq_base");
  expect_refused({}, ErrorKind::bad_input, "has wrong shape: 3 elements of type f32, expected 16 of type f32",
                 {1, 2, 3});
  expect_refused({}, ErrorKind::bad_input, "rope_freqs.weight: a divisor of 0", std::vector<float>(16, 0.0f));
  expect_refused({}, ErrorKind::bad_input, "rope_freqs.weight: a divisor of", std::vector<float>(16, NAN));
}

// A file that is right, of a model past our rules, is not told to be corrected.
TEST(GgufRope, HeadsPastOurRulesAreUnsupported) {
  EXPECT_EQ(read({}, 65536).rotary_dim, 65536);
  try {
    read({}, 65538);
    FAIL() << "not refused";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::unsupported);
    EXPECT_STREQ(error.what(),
                 "m.gguf: llama.rope.dimension_count: a width of 65538.0 channels is past what ropewalk follows; use a "
                 "model with narrower heads");
  }
}

RopeSpec spec_of(RopeScaling scaling, int context = 4096) {
  RopeSpec spec;
  spec.rotary_dim = 32;
  spec.scaling = std::move(scaling);
  spec.context = context;
  return spec;
}
std::vector<std::string> names(const std::vector<Loss>& losses) {
  std::vector<std::string> out;
  for (const Loss& loss : losses)
    out.push_back(loss.name + (loss.changes_logits ? "!" : "") +
                  (loss.safe_context ? "@" + std::to_string(*loss.safe_context) : ""));
  return out;
}
using Names = std::vector<std::string>;

TEST(GgufRope, LossesHaveNames) {
  const auto losses = [](RopeScaling scaling, int context, RopeEncoding encoding = RopeEncoding::automatic) {
    return names(gguf_rope(spec_of(std::move(scaling), context), 32, context, encoding).losses);
  };
  EXPECT_EQ(losses(RopeDynamic{4, 1024}, 1024), Names{"rope.dynamic!@1024"});
  EXPECT_EQ(losses(RopeDynamic{1, 1024}, 1024), Names{"rope.dynamic@1024"});  // serves nothing beyond
  EXPECT_EQ(losses(RopeDynamic{4, 1024}, 4096), Names{"rope.dynamic!@1024"});
  RopeLongrope longrope{std::vector<double>(16, 1.0), std::vector<double>(16, 2.0), 1024};
  EXPECT_EQ(losses(longrope, 1024), Names{});
  EXPECT_EQ(losses(longrope, 4096), Names{"rope.longrope!@1024"});
  RopeDynamicYarn dynamic{1024};
  EXPECT_EQ(losses(dynamic, 4096), Names{"rope.dynamic-yarn!@1024"});
  dynamic.finetuned_context = 4096;
  EXPECT_EQ(losses(dynamic, 4096), Names{"rope.dynamic-yarn@4096"});

  RopeYarn yarn{4, 1024};
  EXPECT_EQ(losses(yarn, 4096, RopeEncoding::keys), Names{});
  yarn.beta_fast = 128;
  yarn.truncate = false;
  EXPECT_EQ(losses(yarn, 4096), Names{});
  EXPECT_EQ(losses(yarn, 4096, RopeEncoding::keys), (Names{"rope.beta!", "rope.truncate!"}));
  EXPECT_EQ(losses(RopeLlama3{8, 1, 4, 1024}, 4096), Names{});
  EXPECT_EQ(losses(RopeLlama3{8, 1, 4, 1024}, 4096, RopeEncoding::keys), Names{"rope.llama3!"});
  EXPECT_EQ(gguf_rope(spec_of(yarn), 32, 4096, RopeEncoding::automatic).notes[0],
            "rope_freqs.weight is written: beta_fast 128 is not read by llama.cpp 0.5 for arch llama");
}

// What the divisors scale stands beside them, though the engine has no use for it (tests/peers/engine.py).
TEST(GgufRope, DivisorsKeepTheOriginalContext) {
  const auto original = [](const RopeSpec& spec, int context, RopeEncoding encoding = RopeEncoding::automatic) {
    const GgufRope rope = gguf_rope(spec, 32, context, encoding);
    const RopeSpec back = read(rope.keys, 32, context, rope.frequency_divisors);
    EXPECT_LE(worst_difference(rope_table(back, context), rope_table(spec, context)), kStored);
    return rope_original_context(back);
  };
  RopeYarn yarn{4, 1024};
  yarn.beta_fast = 128;
  EXPECT_EQ(original(spec_of(yarn), 4096), 1024);
  EXPECT_EQ(original(spec_of(RopeLlama3{8, 1, 4, 1024}), 2048), 1024) << "Llama 3.1 serves less than the factor says";
  EXPECT_EQ(original(spec_of(RopeNtkByParts{4, 512}), 2048), 512);
  EXPECT_EQ(original(spec_of(RopeLinear{4}), 4096, RopeEncoding::freqs), 1024);
  EXPECT_EQ(original(spec_of(RopeUnscaled{}), 4096, RopeEncoding::freqs), std::nullopt);
  RopeSpec written = spec_of(RopeUnscaled{});
  written.frequency_divisors.assign(16, 2.0);
  EXPECT_EQ(original(written, 4096), std::nullopt) << "nobody said";
  written.original_context = 256;
  EXPECT_EQ(original(written, 4096), 256) << "written again";
  // where the divisors are absent the key decides what the two lists do, and is none of ours
  EXPECT_EQ(rope_original_context(read({{"llama.rope.scaling.type", gguf_string("none")},
                                        {"llama.rope.scaling.original_context_length", gguf_u32(256)}})),
            std::nullopt);
}

TEST(GgufRope, NumbersThatAFloatCannotHoldAreRefused) {
  EXPECT_THROW(gguf_rope(spec_of(RopeLinear{1e300}), 32, 4096, RopeEncoding::automatic), Error);
  RopeSpec spec = spec_of(RopeUnscaled{});
  spec.theta = 1e60;
  EXPECT_THROW(gguf_rope(spec, 32, 4096, RopeEncoding::automatic), Error);
}

TEST(GgufRope, RemoteCodeRopeSurvives) {
  // Yarn-Mistral: beta 128/2 and 0.07 ln(s) + 1, which no key can say
  RopeYarn yarn{8, 512};
  yarn.beta_fast = 128;
  yarn.beta_slow = 2;
  RopeSpec spec = spec_of(yarn);
  spec.attention_factor = 0.07 * std::log(8.0) + 1;
  const GgufRope rope = gguf_rope(spec, 32, 4096, RopeEncoding::automatic);
  EXPECT_LE(worst_difference(rope_table(read(rope.keys, 32, 4096, rope.frequency_divisors), 1), rope_table(spec, 1)),
            kStored);
}

}  // namespace
}  // namespace ropewalk::formats
