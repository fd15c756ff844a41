#include "lib/rope.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

namespace ropewalk {
namespace {

using Json = nlohmann::json;

const Json& engines() {
  static const Json all = Json::parse(std::ifstream(ROPEWALK_GOLDEN_DIR "/rope/engines.json"));
  return all;
}

/// The float32 table transformers 5.23.0 computed for a case at a sequence length (0: the only row). Independent of our
/// readers: the RopeSpecs below are written by hand from the case's config.
std::vector<float> golden(const std::string& id, int sequence_length = 0) {
  for (const Json& one : engines()["cases"]) {
    if (one["id"] != id) continue;
    const Json* result = &one["results"]["transformers-5.23.0"];
    while (result->is_string()) result = &one["results"][result->get<std::string>().substr(1)];
    for (const Json& row : (*result)["layers"]["all"]) {
      if (sequence_length != 0 && row["seq_len"] != sequence_length) continue;
      const std::string hex = engines()["vectors"][row["inv_freq"].get<std::string>()];
      std::vector<float> values;
      for (std::size_t at = 0; at < hex.size(); at += 8) {
        const auto bits = static_cast<std::uint32_t>(std::stoul(hex.substr(at, 8), nullptr, 16));
        float value;
        std::memcpy(&value, &bits, 4);
        values.push_back(value);
      }
      return values;
    }
  }
  ADD_FAILURE() << "no golden " << id;
  return {};
}

/// Distance in units of the last place of float32; both positive or zero.
std::int64_t ulps(float a, float b) {
  std::int32_t x, y;
  std::memcpy(&x, &a, 4);
  std::memcpy(&y, &b, 4);
  return std::abs(std::int64_t(x) - y);
}

std::int64_t worst_ulps(const RopeSpec& spec, int sequence_length, const std::vector<float>& want) {
  const RopeTable table = rope_table(spec, sequence_length);
  EXPECT_EQ(table.inv_freq.size(), want.size());
  std::int64_t worst = 0;
  for (std::size_t pair = 0; pair < want.size(); ++pair)
    worst = std::max(worst, ulps(float(table.inv_freq[pair]), want[pair]));
  return worst;
}

// The goldens' own arithmetic is float32: exponent, pow, reciprocal and blend round once each, about 3 ulp in all
// (README of the goldens).
constexpr std::int64_t kTolerance = 3;

RopeSpec spec_of(RopeScaling scaling, double theta = 10000, int rotary_dim = 128, int context = 4096) {
  RopeSpec spec;
  spec.theta = theta;
  spec.rotary_dim = rotary_dim;
  spec.scaling = std::move(scaling);
  spec.context = context;
  return spec;
}

RopeYarn yarn(double factor, int original, double fast = 32, double slow = 1, bool truncate = true) {
  RopeYarn out{factor, original};
  out.beta_fast = fast;
  out.beta_slow = slow;
  out.truncate = truncate;
  return out;
}

TEST(Rope, PlainAndLinearEqualTransformers) {
  EXPECT_LE(worst_ulps(spec_of(RopeUnscaled{}), 1, golden("plain-llama2")), kTolerance);
  EXPECT_LE(worst_ulps(spec_of(RopeUnscaled{}, 1e6), 1, golden("plain-codellama-abf")), kTolerance);
  EXPECT_LE(worst_ulps(spec_of(RopeUnscaled{}, 1e4, 96), 1, golden("plain-llama-head-dim")), kTolerance);
  EXPECT_LE(worst_ulps(spec_of(RopeLinear{3}), 1, golden("linear3-type")), kTolerance);
  EXPECT_GT(worst_ulps(spec_of(RopeUnscaled{}, 10001), 1, golden("plain-llama2")),
            kTolerance);  // the comparison can fail
}

TEST(Rope, NtkAwareIsAThetaOfItsOwn) {
  // the case's rope_theta is 10000 * 4^(128/126), worked out elsewhere
  EXPECT_LE(worst_ulps(spec_of(RopeNtk{4}), 1, golden("plain-ntk-aware-a4")), kTolerance);
}

TEST(Rope, YarnEqualsTransformers) {
  EXPECT_LE(worst_ulps(spec_of(yarn(16, 4096)), 1, golden("yarn-llama2-7b-64k")), kTolerance);
  EXPECT_LE(worst_ulps(spec_of(yarn(3, 4096)), 1, golden("yarn-factor-3")), kTolerance);
  EXPECT_LE(worst_ulps(spec_of(yarn(16, 8192, 128, 2)), 1, golden("yarn-beta-128-2")), kTolerance);
  EXPECT_LE(worst_ulps(spec_of(yarn(4, 4096, 1, 32)), 1, golden("yarn-beta-swapped")), kTolerance);
  EXPECT_LE(worst_ulps(spec_of(yarn(32, 4096, 32, 1, false), 150000, 64), 1, golden("yarn-truncate-false")),
            kTolerance);
  EXPECT_LE(worst_ulps(spec_of(yarn(0.5, 4096)), 1, golden("yarn-factor-half")), kTolerance);
  EXPECT_GT(worst_ulps(spec_of(yarn(16, 4096)), 1, golden("yarn-llama2-7b-128k")), 1000);
  EXPECT_NEAR(rope_table(spec_of(yarn(16, 4096)), 1).attention_factor, 1.2772588722239782, 1e-15);
  EXPECT_EQ(rope_table(spec_of(yarn(0.5, 4096)), 1).attention_factor, 1.0);
}

TEST(Rope, LengthDependentKindsEqualTransformersAtEachLength) {
  const RopeSpec dynamic = spec_of(RopeDynamic{4, 4096});
  for (int length : {1024, 4096, 8192, 16384, 16385})
    EXPECT_LE(worst_ulps(dynamic, length, golden("dynamic4-type", length)), kTolerance) << length;
  EXPECT_TRUE(depends_on_length(dynamic));
  EXPECT_FALSE(depends_on_length(spec_of(yarn(4, 4096))));

  RopeLongrope longrope{{}, {}, 4096};
  for (const Json& one : engines()["cases"])
    if (one["id"] == "longrope-llama-extended") {
      longrope.short_factor = one["config"]["rope_scaling"]["short_factor"].get<std::vector<double>>();
      longrope.long_factor = one["config"]["rope_scaling"]["long_factor"].get<std::vector<double>>();
    }
  const RopeSpec spec = spec_of(longrope, 10000, 128, 131072);
  for (int length : {1024, 4096, 4097, 131072})
    EXPECT_LE(worst_ulps(spec, length, golden("longrope-llama-extended", length)), kTolerance) << length;
  EXPECT_NEAR(rope_table(spec, 1).attention_factor, 1.1902380714238083, 1e-15);
}

TEST(Rope, Llama3AndProportionalEqualTransformers) {
  EXPECT_LE(worst_ulps(spec_of(RopeLlama3{8, 1, 4, 8192}, 500000), 1, golden("llama3-31-8b")), kTolerance);
  EXPECT_LE(worst_ulps(spec_of(RopeProportional{1, 128}, 1e6, 32), 1, golden("v5-proportional")), kTolerance);

  // Between the bands y = f ((1 - k)/s + k), k = (x - low)/(high - low), x = L f / 2 pi < high: the golden rounds 2 pi,
  // f, the quotient and x once each in float32 (4 halves of 2^-23), so k is off by at most 4 high/(high - low) halves
  // and y / f by (1 - 1/s) of that, where y / f >= 1/s: in units of the last place at most (s - 1) * 2 * high / (high -
  // low) = 5 * 2 * 3 / 1, beside the usual 3.
  EXPECT_LE(worst_ulps(spec_of(RopeLlama3{6, 2, 3, 4096}, 250000), 1, golden("llama3-odd-numbers")), kTolerance + 30);
  EXPECT_GT(worst_ulps(spec_of(RopeLlama3{6, 2, 3.0001, 4096}, 250000), 1, golden("llama3-odd-numbers")),
            kTolerance + 30);
}

void expect_close(const RopeTable& table, const std::vector<double>& want, double attention_factor) {
  ASSERT_EQ(table.inv_freq.size(), want.size());
  // float32 arithmetic with a few roundings and nine printed digits: 4 * 2^-24 + 5e-10
  for (std::size_t pair = 0; pair < want.size(); ++pair)
    EXPECT_NEAR(table.inv_freq[pair] / want[pair], 1, 2.5e-7) << "pair " << pair;
  EXPECT_NEAR(table.attention_factor, attention_factor, 1e-15);
}

// The expected numbers below come from running the YaRN repository's own classes (scaled_rope/, commit 1b94fee) under
// torch 2.15: d 32, theta 10000.
TEST(Rope, NtkByPartsEqualsTheYarnRepository) {
  RopeNtkByParts parts{4, 2048};
  expect_close(
      rope_table(spec_of(parts, 10000, 32), 1),
      {1, 0.562341332, 0.316227764, 0.177827939, 0.100000001, 0.0562341288, 0.0282577127, 0.0135473516, 0.00608065585,
       0.00244773272, 0.00102276006, 0.000444569858, 0.000250000012, 0.000140585325, 7.90569466e-05, 4.44569851e-05},
      1);
  parts.ntk_factor = 0.5;
  parts.extrapolation_factor = 0.25;
  expect_close(rope_table(spec_of(parts, 10000, 32), 1),
               {0.71875, 0.385567039, 0.207275987, 0.111666501, 0.0602858663, 0.0326149613, 0.0165194813, 0.00824180245,
                0.00403478462, 0.00192679302, 0.000906664762, 0.000444569858, 0.000250000012, 0.000140585325,
                7.90569466e-05, 4.44569851e-05},
               1);
}

TEST(Rope, DynamicYarnEqualsTheYarnRepository) {
  const std::vector<double> at_3000 = {1,
                                       0.562341332,
                                       0.316227764,
                                       0.177827939,
                                       0.100000001,
                                       0.0536848493,
                                       0.0287556462,
                                       0.015364334,
                                       0.00818666629,
                                       0.00434877304,
                                       0.00230213837,
                                       0.00121397211,
                                       0.000682666665,
                                       0.00038389166,
                                       0.000215878157,
                                       0.000121397206};
  const std::vector<double> at_8192 = {1,
                                       0.562341332,
                                       0.316227764,
                                       0.177827939,
                                       0.100000001,
                                       0.0502090417,
                                       0.02484647,
                                       0.0120668961,
                                       0.00571428565,
                                       0.0026108704,
                                       0.00112938497,
                                       0.000444569858,
                                       0.000250000012,
                                       0.000140585325,
                                       7.90569466e-05,
                                       4.44569851e-05};
  RopeDynamicYarn dynamic{2048};
  expect_close(rope_table(spec_of(dynamic, 10000, 32), 3000), at_3000, 1.0381748581490848);
  expect_close(rope_table(spec_of(dynamic, 10000, 32), 8192), at_8192, 1.138629436111989);
  EXPECT_EQ(rope_table(spec_of(dynamic, 10000, 32), 2048).inv_freq,
            rope_table(spec_of(RopeUnscaled{}, 10000, 32), 1).inv_freq);
  dynamic.finetuned_context = 8192;  // then short sequences are scaled as much as those it was tuned on
  expect_close(rope_table(spec_of(dynamic, 10000, 32), 100), at_8192, 1.138629436111989);
  dynamic.finetuned_context.reset();
  dynamic.scale_context = 4096;
  expect_close(rope_table(spec_of(dynamic, 10000, 32), 16384), at_8192, 1.138629436111989);
  EXPECT_TRUE(depends_on_length(spec_of(dynamic)));
}

TEST(Rope, FactorOneIsPlainRope) {
  const std::vector<double> plain = rope_table(spec_of(RopeUnscaled{}), 1).inv_freq;
  RopeDynamicYarn dynamic{4096};
  for (const RopeScaling& scaling : {RopeScaling(RopeLinear{1}), RopeScaling(RopeNtk{1}), RopeScaling(yarn(1, 4096)),
                                     RopeScaling(RopeDynamic{8, 4096}), RopeScaling(RopeNtkByParts{1, 4096}),
                                     RopeScaling(dynamic), RopeScaling(RopeLlama3{1, 1, 4, 4096})}) {
    const RopeTable table = rope_table(spec_of(scaling), 4096);
    EXPECT_EQ(table.attention_factor, 1.0);
    for (std::size_t pair = 0; pair < plain.size();
         ++pair)  // blends of equal numbers round a few times: 4 half-ulps of double
      EXPECT_NEAR(table.inv_freq[pair] / plain[pair], 1, 4 * 1.2e-16)
          << rope_method_name(spec_of(scaling)) << " pair " << pair;
  }
}

TEST(Rope, DivisorsApplyBeforeTheMethod) {
  RopeSpec spec = spec_of(RopeLinear{2}, 10000, 8);
  spec.frequency_divisors = {1, 2, 4, 8};
  const RopeTable table = rope_table(spec, 1);
  EXPECT_DOUBLE_EQ(table.inv_freq[0], 0.5);
  EXPECT_DOUBLE_EQ(table.inv_freq[3], 1e-3 / 16);
}

TEST(Rope, OnePairHasFrequencyOneWhateverTheMethodDoesToTheta) {
  EXPECT_EQ(rope_table(spec_of(RopeNtk{8}, 10000, 2), 1).inv_freq, std::vector<double>{1.0});
  EXPECT_EQ(rope_table(spec_of(RopeDynamic{8, 16}, 10000, 2), 64).inv_freq, std::vector<double>{1.0});
}

TEST(Rope, Words) {
  RopeSpec spec = spec_of(yarn(8, 256), 10000, 16, 2048);
  EXPECT_EQ(describe(spec), "YaRN x8 of 256 (theta 10000, beta 32/1, attention factor 1.2079)");
  EXPECT_STREQ(rope_method_name(spec), "yarn");
  EXPECT_EQ(rope_original_context(spec), 256);
  EXPECT_EQ(rope_factor(spec), 8);
  EXPECT_EQ(describe(spec_of(RopeUnscaled{}, 1e6)), "plain (theta 1000000)");
  EXPECT_EQ(describe(spec_of(RopeLinear{4})), "linear x4 (theta 10000)");
  EXPECT_EQ(describe(RopeSpec{}), "plain (theta 10000)");
  EXPECT_EQ(rope_original_context(spec_of(RopeLinear{4})), std::nullopt);
}

}  // namespace
}  // namespace ropewalk
