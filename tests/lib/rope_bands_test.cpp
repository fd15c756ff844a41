#include "lib/rope_bands.h"

#include <gtest/gtest.h>

#include <cmath>

namespace ropewalk {
namespace {

RopeSpec yarn(int dim, double theta, int original, double factor, double fast = 32, double slow = 1) {
  RopeSpec spec;
  spec.theta = theta;
  spec.rotary_dim = dim;
  spec.context = int(original * factor);
  spec.scaling = RopeYarn{factor, original, fast, slow};
  return spec;
}

// Correction ranges as the YaRN repository's own code gives them: pairs up to the first bound are untouched, from the
// second on interpolated.
TEST(RopeBands, PublishedCorrectionRanges) {
  struct Case {
    RopeSpec spec;
    int low, high;
  };
  for (const Case& one : {Case{yarn(128, 1e4, 4096, 16), 20, 46},          // Llama 2
                          Case{yarn(128, 1e4, 8192, 16, 128, 2), 16, 46},  // Yarn-Mistral's code
                          Case{yarn(128, 1e4, 8192, 16), 25, 50},          // the same read as 32/1
                          Case{yarn(128, 1e6, 32768, 4), 23, 40},          // Qwen2.5, Qwen3
                          Case{yarn(64, 1e4, 4096, 40), 10, 23},           // DeepSeek-V3
                          Case{yarn(128, 5e5, 8192, 8), 18, 35}}) {        // Llama 3
    SCOPED_TRACE(describe(one.spec));
    const std::vector<RopePair> pairs = rope_pairs(one.spec, *rope_original_context(one.spec), 1);
    for (int pair = 0; pair < int(pairs.size()); ++pair)
      EXPECT_EQ(pairs[std::size_t(pair)].band, pair <= one.low   ? RopeBand::untouched
                                               : pair < one.high ? RopeBand::blended
                                                                 : RopeBand::interpolated)
          << pair;
  }
}

TEST(RopeBands, OtherMethods) {
  RopeSpec spec = yarn(64, 1e4, 2048, 4);
  spec.scaling = RopeUnscaled{};
  for (const RopePair& pair : rope_pairs(spec, 2048, 1)) EXPECT_EQ(pair.band, RopeBand::untouched);
  spec.scaling = RopeLinear{4};
  for (const RopePair& pair : rope_pairs(spec, 2048, 1)) {
    EXPECT_EQ(pair.band, RopeBand::interpolated);
    EXPECT_DOUBLE_EQ(pair.ratio(), 0.25);
  }
  EXPECT_EQ(trained_context(spec, 8192), 2048);
  spec.scaling = RopeNtk{4};
  EXPECT_EQ(rope_pairs(spec, 2048, 1)[0].band, RopeBand::untouched);
  EXPECT_EQ(rope_pairs(spec, 2048, 1)[15].band, RopeBand::blended);
  EXPECT_EQ(rope_pairs(spec, 2048, 1)[31].band, RopeBand::interpolated) << "its base is chosen for that";
  EXPECT_EQ(trained_context(spec, 8192), 8192);
  spec.scaling = RopeDynamic{4, 2048};
  EXPECT_EQ(rope_pairs(spec, 2048, 2048)[31].band, RopeBand::untouched);
  EXPECT_NE(rope_pairs(spec, 2048, 4096)[31].band, RopeBand::untouched);
  // Phi-3's long list goes past its factor of 32, at pair 34 of 48 (microsoft/Phi-3-mini-128k-instruct)
  RopeSpec phi = yarn(8, 1e4, 4096, 32);
  phi.scaling = RopeLongrope{{1, 1, 1, 1}, {1, 5, 31.9, 64}, 4096};
  const std::vector<RopePair> long_list = rope_pairs(phi, 4096, 131072), short_list = rope_pairs(phi, 4096, 4096);
  EXPECT_EQ(long_list[0].band, RopeBand::untouched);
  EXPECT_EQ(long_list[2].band, RopeBand::blended);
  EXPECT_EQ(long_list[3].band, RopeBand::interpolated);
  EXPECT_EQ(short_list[3].band, RopeBand::untouched);
  // a quarter of the head turns; the rest has no wavelength after
  spec.rotary_dim = 16;
  spec.scaling = RopeProportional{1, 64};
  const std::vector<RopePair> pairs = rope_pairs(spec, 2048, 1);
  ASSERT_EQ(pairs.size(), 32u);
  EXPECT_EQ(pairs[7].band, RopeBand::untouched);
  EXPECT_EQ(pairs[8].band, RopeBand::still);
}

}  // namespace
}  // namespace ropewalk
