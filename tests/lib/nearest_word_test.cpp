#include "lib/nearest_word.h"

#include <gtest/gtest.h>

namespace ropewalk {
namespace {

using Words = std::vector<std::string>;

TEST(NearestWord, AThirdOfTheLettersMayBeWrong) {
  const Words known = {"linear", "dynamic", "yarn"};
  EXPECT_EQ(nearest_word("dynamik", known), "dynamic");
  EXPECT_EQ(nearest_word("dinamik", known), "dynamic");     // 2 of 7
  EXPECT_EQ(nearest_word("dinomik", known), std::nullopt);  // 3 of 7
  EXPECT_EQ(nearest_word("yran", known), std::nullopt);     // a swap is two edits, one is allowed
  EXPECT_EQ(nearest_word("yarn", known), "yarn");
  EXPECT_EQ(nearest_word("", known), std::nullopt);
  EXPECT_EQ(nearest_word("x", Words{}), std::nullopt);
}

TEST(NearestWord, AWordCutShortAndTheFirstOfEquals) {
  EXPECT_EQ(nearest_word("--over", Words{"--overwrite"}), "--overwrite");
  EXPECT_EQ(nearest_word("--o", Words{"--overwrite"}), std::nullopt);
  EXPECT_EQ(nearest_word("ab", Words{"ac", "ad"}), "ac");
}

TEST(NearestWord, TheBoundIsTheCallers) {
  const Words known = {"model.layers.3.self_attn.q_proj.weight"};
  EXPECT_EQ(nearest_word("model.layers.3.attention.wq.weight", known), std::nullopt);  // 13 edits
  EXPECT_EQ(nearest_word("model.layers.3.attention.wq.weight", known, 13), known[0]);
  EXPECT_EQ(nearest_word("model.layers.3.attention.wq.weight", known, 12), std::nullopt);
  EXPECT_EQ(nearest_word(std::string(300, 'a'), {std::string(299, 'a')}), std::nullopt);  // too long to look at
}

}  // namespace
}  // namespace ropewalk
