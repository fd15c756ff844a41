#include "verify/multiple_choice.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "lib/error.h"

namespace ropewalk::verify {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// A letter is an id; "ab" at the end is one: what joins across the border of prompt and choice.
class Letters final : public formats::Tokenizer {
 public:
  std::vector<std::int32_t> encode(std::string_view text, bool) const override {
    std::vector<std::int32_t> ids;
    for (std::size_t at = 0; at < text.size(); ++at) {
      const bool joined = text.substr(at, 2) == "ab";
      ids.push_back(joined ? 1 : text[at]);
      at += joined ? 1 : 0;
    }
    return ids;
  }
  std::string decode(std::span<const std::int32_t>, bool) const override { return ""; }
  std::string piece(std::int32_t) const override { return ""; }
  std::int32_t size() const override { return 256; }
};

TEST(MultipleChoice, WindowsAreCutAsTheHarnessCutsThem) {
  const Letters letters;
  const Around around{{0}, {}};
  const auto windows = choice_windows("xy \n", {" a", "bc"}, letters, around, 100);
  ASSERT_EQ(windows.size(), 2u);
  // whitespace at the prompt's end belongs to the choice
  EXPECT_EQ(windows[0].ids, (Window{0, 'x', 'y', ' ', '\n', ' ', 'a'}));
  EXPECT_EQ(windows[0].first, 3u);
  // the prompt has as many ids as it has alone, whatever they become together
  const auto joined = choice_windows("xa", {"bc"}, letters, around, 100);
  EXPECT_EQ(joined[0].ids, (Window{0, 'x', 1, 'c'}));
  EXPECT_EQ(joined[0].first, 3u);
  const auto cut = choice_windows("uvwxyz", {"ef"}, letters, around, 4);
  EXPECT_EQ(cut[0].ids, (Window{'x', 'y', 'z', 'e', 'f'}));
  EXPECT_EQ(cut[0].first, 3u);
  EXPECT_EQ(cut[0].dropped, 4u);
  const auto ended = choice_windows("x", {"e"}, letters, {{0}, {9}}, 100);
  EXPECT_EQ(ended[0].ids, (Window{0, 'x', 'e', 9}));
  EXPECT_EQ(ended[0].first, 3u);
  EXPECT_THROW(choice_windows("xa", {"b"}, letters, around, 100), Error);   // adds no id
  EXPECT_THROW(choice_windows("x", {"efghi"}, letters, around, 4), Error);  // longer than the window
  EXPECT_THROW(choice_windows(" ", {"e"}, letters, {{}, {}}, 100), Error);  // no prompt
}

TEST(MultipleChoice, LogLikelihoodIsOfTheChoiceAlone) {
  EXPECT_EQ(log_likelihood({{5, 6, 7, 8}, 2, 0}, {{100, 0.5}, {9, 0.25}}, 1), -0.75);
  EXPECT_EQ(log_likelihood({{5, 6, 7}, 2, 0}, {{100}, {0.25}}, 0), -0.25) << "a choice of one id";
}

// mmlu's letters, a choice that another task has too, choices of several ids that part before their last.
TEST(MultipleChoice, ChoicesThatDifferInTheirLastIdShareAWindow) {
  const Letters letters;
  ChoiceContexts contexts;
  std::vector<std::pair<std::size_t, std::size_t>> places;
  for (const auto& [prompt, choices] : std::vector<std::pair<std::string, std::vector<std::string>>>{
           {"q", {"A", "B", "C", "D"}}, {"q", {"C", "E"}}, {"r", {"A", "B"}}, {"r", {"xA", "xB", "yA"}}})
    for (const ChoiceWindow& choice : choice_windows(prompt, choices, letters, {{0}, {}}, 100)) {
      const ChoiceContexts::Place place = contexts.add(choice);
      places.emplace_back(place.window, place.ending);
      Window whole = contexts.window(place.window);
      whole.push_back(contexts.endings()[place.window][place.ending]);
      EXPECT_EQ(whole, choice.ids);
    }
  EXPECT_EQ(places, (std::vector<std::pair<std::size_t, std::size_t>>{
                        {0, 0}, {0, 1}, {0, 2}, {0, 3}, {0, 2}, {0, 4}, {1, 0}, {1, 1}, {2, 0}, {2, 1}, {3, 0}}));
  EXPECT_EQ(contexts.size(), 4u) << "of 11 choices";
}

TEST(MultipleChoice, TheFirstOfTheLargest) {
  EXPECT_EQ(first_largest(std::vector<double>{-2, -1, -1}), 1u);
  EXPECT_EQ(first_largest(std::vector<double>{-2, kNaN, -1, kNaN}), 1u);
  EXPECT_EQ(first_largest(std::vector<double>{kNaN, 5}), 0u);
  EXPECT_EQ(first_largest(std::vector<double>{-kInfinity, -kInfinity}), 0u);
  EXPECT_EQ(first_largest_by_length(std::vector<double>{-4, -9}, std::vector<std::size_t>{1, 3}), 1u);
}

TEST(MultipleChoice, SharesAndErrors) {
  EXPECT_DOUBLE_EQ(true_share(std::vector<double>{std::log(0.1), std::log(0.3)}, {true, false}), 0.25);
  // exp() of either is 0; an ulp of 2000 is 2.3e-13
  EXPECT_NEAR(true_share(std::vector<double>{-2000, -2000 + std::log(3.0)}, {false, true}), 0.75, 1e-12);
  EXPECT_FALSE(mean_of(std::vector<double>{1}).standard_error);
  const MeanOf mean = mean_of(std::vector<double>{1, 0, 0, 1});
  EXPECT_EQ(mean.mean, 0.5);
  EXPECT_DOUBLE_EQ(*mean.standard_error, std::sqrt(1.0 / 3) / 2);
  EXPECT_FALSE(pooled_error(std::vector<double>{0}, std::vector<std::size_t>{1}));
}

}  // namespace
}  // namespace ropewalk::verify
