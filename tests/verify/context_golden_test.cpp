// Perplexity against context length: plain, position interpolation, YaRN, YaRN tuned; the table that shows scaling hold
// where the plain model collapses.

#include <gtest/gtest.h>

#include <cmath>

#include "tests/verify/golden_models.h"
#include "verify/sweep.h"

namespace ropewalk::verify {
namespace {

// context.json is stock float32, rounded to four decimals. Both passes move a loss by at most 1.6e-4 from float64
// (goldens/forward/README.md), so a mean by at most their sum;
// the rounding adds half of 1e-4 to perplexities of 29 at least.
constexpr double kTolerance = 3.2e-4 + 0.5e-4 / 29;

const std::map<std::string, std::string> kSources = {{"base", "tolstoy-4m"},
                                                     {"base+pi", "tolstoy-4m+rope=linear,factor=8"},
                                                     {"base+yarn", "tolstoy-4m+rope=yarn,factor=8,original=256"},
                                                     {"yarn-tuned", "tolstoy-4m-yarn-2k"}};

TEST(ContextGolden, EveryModelAtEveryLength) {
  const formats::Json golden = formats::read_json(golden_dir() / "fixtures/goldens/context.json");
  const formats::Json stretches =
      formats::read_json(ROPEWALK_GOLDEN_DIR "/numbers/context_stretches.json").at("stretches");
  EXPECT_EQ(golden.size(), kSources.size());
  for (const auto& [name, rows] : golden.items()) {
    ASSERT_TRUE(kSources.contains(name)) << "a golden this test does not know: " << name;
    const formats::Source source = open_golden((golden_dir() / "fixtures/models" / kSources.at(name)).string());
    for (std::size_t length = 256; length <= 2048; length *= 2) {
      if (left_to_release(name != "base+yarn" || length > 256, name + " at " + std::to_string(length))) continue;
      SCOPED_TRACE(name + " " + std::to_string(length));
      const formats::Json& want = rows.at(std::to_string(length));
      std::vector<Window> windows;
      for (const auto& stretch : stretches)
        for (std::size_t k = 0; k < 2048; k += length) {
          windows.push_back({1});
          for (std::size_t t = k; t + 1 < k + length; ++t) windows.back().push_back(stretch[t].get<std::int32_t>());
        }
      ASSERT_EQ(windows.size(), want.at("windows").get<std::size_t>());
      double whole = 0, last = 0;
      for (const auto& scores : score(source.checkpoint, windows, {}))
        for (std::size_t t = 0; t < scores.size(); ++t) {
          whole += scores[t].nll;
          if (t + 128 >= scores.size()) last += scores[t].nll;
        }
      whole = std::exp(whole / double(windows.size() * (length - 1)));
      last = std::exp(last / double(windows.size() * 128));
      EXPECT_TRUE(std::abs(whole / want.at("whole").get<double>() - 1) <= kTolerance) << whole;
      EXPECT_TRUE(std::abs(last / want.at("last 128").get<double>() - 1) <= kTolerance) << last;
      EXPECT_FALSE(std::abs(whole / want.at("last 128").get<double>() - 1) <= kTolerance)
          << "the comparator must tell one column from the other";
    }
  }
}

}  // namespace
}  // namespace ropewalk::verify
