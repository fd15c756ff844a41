#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "formats/engines/engine.h"
#include "formats/rope_config.h"
#include "formats/rope_dictionary.h"

// What holds of every rope, over random ones.

namespace ropewalk::formats {
namespace {

class RopeProperties : public testing::Test {
 protected:
  std::mt19937 random{20261121};
  double real(double low, double high) { return std::uniform_real_distribution<double>(low, high)(random); }
  int whole(int low, int high) { return std::uniform_int_distribution<int>(low, high)(random); }
  RopeSpec plain() {
    RopeSpec spec{std::exp(real(std::log(1e3), std::log(1e7))), 2 * whole(8, 128)};
    spec.context = 1 << whole(11, 18);
    return spec;
  }
  RopeSpec with(RopeScaling scaling, std::optional<double> attention = std::nullopt) {
    RopeSpec spec = plain();
    spec.scaling = std::move(scaling);
    spec.attention_factor = attention;
    return spec;
  }
};

TEST_F(RopeProperties, FactorOneIsPlainRope) {
  for (int round = 0; round < 200; ++round) {
    RopeSpec spec = plain();
    const RopeTable want = rope_table(spec, 1);
    const int original = 1 << whole(8, 14);
    for (const RopeScaling& scaling :
         {RopeScaling(RopeLinear{1}), RopeScaling(RopeYarn{1, original}), RopeScaling(RopeDynamic{1, spec.context}),
          RopeScaling(RopeNtk{1}), RopeScaling(RopeNtkByParts{1, original}),
          RopeScaling(RopeLlama3{1, 1, 4, original})}) {
      spec.scaling = scaling;
      const RopeTable got = rope_table(spec, spec.context);
      EXPECT_EQ(got.attention_factor, 1);
      for (std::size_t pair = 0; pair < got.inv_freq.size(); ++pair)  // a blend of a thing with itself: a few roundings
        EXPECT_NEAR(got.inv_freq[pair] / want.inv_freq[pair], 1, 1e-15) << describe(spec) << " pair " << pair;
    }
  }
}

TEST_F(RopeProperties, YarnKeepsTheFastBandAndDividesTheSlowOne) {
  for (int round = 0; round < 200; ++round) {
    RopeSpec spec = plain();
    const RopeTable before = rope_table(spec, 1);
    const int original = 1 << whole(11, 15);
    const double s = real(1, 64);
    spec.scaling = RopeYarn{s, original};
    const RopeTable after = rope_table(spec, 1);
    const double low = std::floor(correction_dim(32, spec.rotary_dim, spec.theta, original));
    const double high = std::ceil(correction_dim(1, spec.rotary_dim, spec.theta, original));
    for (std::size_t pair = 0; pair < before.inv_freq.size(); ++pair) {
      if (double(pair) <= low) {
        EXPECT_EQ(after.inv_freq[pair], before.inv_freq[pair]);
      } else if (double(pair) >= high && high < spec.rotary_dim) {
        EXPECT_NEAR(after.inv_freq[pair] * s / before.inv_freq[pair], 1, 1e-15);
      }
    }
  }
}

TEST_F(RopeProperties, LinearIsExactDivision) {
  for (int round = 0; round < 200; ++round) {
    RopeSpec spec = plain();
    const RopeTable before = rope_table(spec, 1);
    const double s = real(1, 64);
    spec.scaling = RopeLinear{s};
    const RopeTable after = rope_table(spec, spec.context);
    for (std::size_t pair = 0; pair < before.inv_freq.size(); ++pair)
      EXPECT_EQ(after.inv_freq[pair], before.inv_freq[pair] / s);
  }
}

TEST_F(RopeProperties, SpecToJsonToSpecIsIdentity) {
  for (int round = 0; round < 200; ++round) {
    RopeYarn yarn{real(1.01, 64), whole(64, 1 << 16)};
    if (round % 2) yarn.beta_fast = real(16, 200), yarn.beta_slow = real(0.5, 8), yarn.truncate = round % 4 == 1;
    RopeSpec lists = plain();
    RopeLongrope longrope;
    longrope.original_context = whole(64, 8192);
    for (int pair = 0; pair < lists.rotary_dim / 2; ++pair) {
      longrope.short_factor.push_back(real(1, 2));
      longrope.long_factor.push_back(real(1, 64));
    }
    lists.scaling = longrope;
    lists.attention_factor = real(1, 1.5);
    RopeSpec dynamic = plain();
    dynamic.scaling = RopeDynamic{real(1, 16), dynamic.context};
    for (const RopeSpec& spec : {plain(), with(RopeLinear{real(1, 64)}), dynamic, with(yarn), with(yarn, real(0.5, 2)),
                                 lists, with(RopeLlama3{real(1, 32), real(0.5, 2), real(3, 8), whole(64, 1 << 16)})}) {
      const std::optional<Json> dictionary = rope_dictionary(spec);
      ASSERT_TRUE(dictionary) << describe(spec);
      const Json config = Json::parse(Json({{"model_type", "llama"}, {"rope_parameters", *dictionary}}).dump());
      std::vector<std::string> warnings;
      const RopeSpec back = read_hf_rope("config.json", "", config, {spec.rotary_dim, spec.context}, warnings);
      EXPECT_EQ(back.scaling.index(), spec.scaling.index());
      EXPECT_EQ(describe(back), describe(spec));
      for (const int length : {1, 4096, 1 << 18}) {
        const RopeTable a = rope_table(back, length), b = rope_table(spec, length);
        EXPECT_EQ(a.inv_freq, b.inv_freq) << describe(spec);
        EXPECT_EQ(a.attention_factor, b.attention_factor) << describe(spec);
      }
    }
    for (const RopeSpec& spec : {with(RopeNtkByParts{4, 4096}), with(RopeDynamicYarn{4096}), with(RopeLinear{4}, 1.1),
                                 with(RopeUnscaled{}, 1.1)})
      EXPECT_FALSE(rope_dictionary(spec)) << describe(spec);
  }
}

// Lists carry any static table nearly to the last place of the engine's arithmetic.
TEST_F(RopeProperties, ListsCarryAnyStaticRope) {
  for (int round = 0; round < 100; ++round)
    for (RopeSpec spec : {with(RopeYarn{real(1.01, 64), 4096}), with(RopeNtkByParts{real(1.01, 16), 4096}),
                          with(RopeLinear{real(1, 64)}), with(RopeLlama3{8, 1, 4, 8192})}) {
      const std::optional<Json> lists = longrope_dictionary(spec, spec.context, spec.context);
      ASSERT_TRUE(lists) << describe(spec);
      std::vector<std::string> warnings;
      EngineRope want, got;
      want.spec = spec;
      got.spec = read_hf_rope("config.json", "", {{"model_type", "llama"}, {"rope_parameters", *lists}},
                              {spec.rotary_dim, spec.context}, warnings);
      const EngineTable a = engine_table(got, spec.context), b = engine_table(want, spec.context);
      for (std::size_t pair = 0; pair < a.inv_freq.size(); ++pair)  // divisor, product and reciprocal: three roundings
        EXPECT_LE(std::abs(double(a.inv_freq[pair]) / double(b.inv_freq[pair]) - 1), 3 * 0x1p-24) << describe(spec);
      EXPECT_EQ(a.attention_factor, b.attention_factor) << describe(spec);
    }
}

}  // namespace
}  // namespace ropewalk::formats
