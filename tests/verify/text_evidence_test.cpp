#include "verify/text_evidence.h"

#include <gtest/gtest.h>

#include <numeric>
#include <random>

namespace ropewalk::verify {
namespace {

// Counted by hand.
TEST(TextEvidence, CountsWhatDiffers) {
  const Window period_of_three = {7, 8, 9, 7, 8, 9,
                                  7, 8, 9, 7, 8, 9};  // runs of 8: five, of which the phases are three
  const TextEvidence one = text_evidence(std::vector<Window>{period_of_three}, 2048);
  EXPECT_EQ(one.positions, 12u);
  EXPECT_EQ(one.distinct_tokens, 3u);
  EXPECT_EQ(one.tokens_needed, 3u) << "a quarter of the positions";
  EXPECT_EQ(one.run_length, 8);
  EXPECT_EQ(one.runs, 5u);
  EXPECT_EQ(one.distinct_runs, 3u);
  const TextEvidence twice = text_evidence(std::vector<Window>{period_of_three, period_of_three}, 2048);
  EXPECT_EQ(twice.runs, 10u) << "no run goes from one window to the next";
  EXPECT_EQ(twice.distinct_runs, 3u);
  EXPECT_FALSE(twice.enough_runs());
  const TextEvidence pairs = text_evidence(std::vector<Window>{{1, 2}, {1, 3}, {1, 2}}, 2048);
  EXPECT_EQ(pairs.run_length, 2) << "windows shorter than a run";
  EXPECT_EQ(pairs.distinct_runs, 2u);
}

TEST(TextEvidence, RepetitionIsNotEnoughAndWritingIs) {
  EXPECT_FALSE(text_evidence(std::vector<Window>{Window(512, 5)}, 2048).enough()) << "one token";
  Window sentence(512);
  for (std::size_t t = 0; t < sentence.size(); ++t) sentence[t] = static_cast<std::int32_t>(t % 40);
  const TextEvidence again = text_evidence(std::vector<Window>{sentence}, 2048);
  EXPECT_TRUE(again.enough_tokens());
  EXPECT_FALSE(again.enough_runs()) << "one sentence, thirteen times";
  std::mt19937 random(1);
  Window coins(4096);
  for (std::int32_t& id : coins) id = static_cast<std::int32_t>(random() % 20);
  const TextEvidence few = text_evidence(std::vector<Window>{coins}, 2048);
  EXPECT_TRUE(few.enough_runs());
  EXPECT_FALSE(few.enough_tokens()) << "twenty tokens in no order";
  EXPECT_TRUE(text_evidence(std::vector<Window>{coins}, 64).enough())
      << "as many as such a vocabulary can be asked for";
  Window counted(512);
  std::iota(counted.begin(), counted.end(), 0);
  EXPECT_TRUE(text_evidence(std::vector<Window>{counted}, 2048).enough());
  EXPECT_TRUE(text_evidence(std::vector<Window>{{1, 2}}, 2048).enough()) << "short, which the intervals say";
}

}  // namespace
}  // namespace ropewalk::verify
