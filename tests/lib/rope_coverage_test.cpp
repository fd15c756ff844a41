#include "lib/rope_coverage.h"

#include <gtest/gtest.h>

namespace ropewalk {
namespace {

RopeSpec llama2(RopeScaling scaling) {
  RopeSpec spec;
  spec.rotary_dim = 128;
  spec.scaling = std::move(scaling);
  return spec;
}

// Llama 2 at 16 times its context, published reasoning: PI keeps every angle within what was seen (1.00) and so does
// YaRN; NTK-aware with alpha 16 reaches 16^0.27 = 2.11 times the seen angle at pair 46, the first that never completes
// a turn in 4096 tokens; without scaling it is 16.
TEST(RopeCoverage, LlamaTwoAtSixteenTimes) {
  const RopeSpec trained = llama2(RopeUnscaled{});
  const auto ratio = [&](RopeScaling scaling) {
    return rope_coverage(trained, 4096, llama2(std::move(scaling)), 65536).unseen_angle_ratio;
  };
  EXPECT_NEAR(ratio(RopeUnscaled{}), 16, 1e-9);
  EXPECT_NEAR(ratio(RopeLinear{16}), 1, 1e-9);
  EXPECT_NEAR(ratio(RopeYarn{16, 4096}), 1, 1e-9);
  EXPECT_NEAR(ratio(RopeNtk{16}), 2.11, 0.005);
}

// PI slows every pair down by 1 - 1/s; YaRN leaves those with 32 turns and more alone.
TEST(RopeCoverage, HighFrequencies) {
  const RopeSpec trained = llama2(RopeUnscaled{});
  EXPECT_DOUBLE_EQ(rope_coverage(trained, 4096, llama2(RopeLinear{16}), 65536).high_frequency_damage, 1 - 1.0 / 16);
  EXPECT_EQ(rope_coverage(trained, 4096, llama2(RopeYarn{16, 4096}), 65536).high_frequency_damage, 0);
  EXPECT_DOUBLE_EQ(rope_coverage(trained, 4096, llama2(RopeYarn{16, 4096}), 65536).attention_factor,
                   yarn_attention_factor(16));
}

}  // namespace
}  // namespace ropewalk
