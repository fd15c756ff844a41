// An adapter beside its weight: the same values as in it, and factors that give the same product.
#include "lib/unmerged.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "lib/error.h"
#include "tests/lib/any_partition.h"

namespace ropewalk {
namespace {

TensorPtr random_tensor(const std::string& name, std::uint64_t rows, std::uint64_t columns, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(rows * columns);
  for (float& x : values) x = normal(random);
  return memory_tensor(name, {rows, columns}, values);
}

std::vector<LowRankTerm> three_terms() {
  return {{random_tensor("a1", 3, 20, 1), random_tensor("b1", 17, 3, 2), 0.5},
          {random_tensor("a2", 1, 20, 3), random_tensor("b2", 17, 1, 4), -1.3},
          {random_tensor("a3", 5, 20, 5), random_tensor("b3", 17, 5, 6), 2 / std::sqrt(5.0)}};
}

TEST(Unmerged, ReadsAsTheSumAndComesApart) {
  const TensorPtr weight = random_tensor("w", 17, 20, 7);
  const TensorPtr tensor = with_unmerged_delta(weight, three_terms());
  EXPECT_EQ(read_all<double>(*tensor), read_all<double>(*with_low_rank_delta(weight, three_terms())));
  EXPECT_TRUE(tensor->is_wide());
  EXPECT_FALSE(tensor->has_raw());
  const auto parts = taken_apart(*tensor);
  ASSERT_TRUE(parts);
  EXPECT_EQ(parts->weight, weight);
  EXPECT_EQ(parts->a->info().shape, (std::vector<std::uint64_t>{9, 20}));
  EXPECT_EQ(parts->b->info().shape, (std::vector<std::uint64_t>{17, 9}));

  // Each factor of b is rounded once to float; everything else is a sum in double: 9 products of at most 4 x 4 each.
  const auto w = read_all<double>(*weight), a = read_all<double>(*parts->a), b = read_all<double>(*parts->b),
             want = read_all<double>(*tensor);
  for (std::size_t row = 0; row < 17; ++row)
    for (std::size_t column = 0; column < 20; ++column) {
      double sum = w[row * 20 + column];
      for (std::size_t k = 0; k < 9; ++k) sum += b[row * 9 + k] * a[k * 20 + column];
      EXPECT_NEAR(sum, want[row * 20 + column], 9 * 16 * 1.3 * std::ldexp(1.0, -24));
      EXPECT_NE(w[row * 20 + column], want[row * 20 + column]);
    }
  expect_any_partition_agrees(*parts->a);
  expect_any_partition_agrees(*parts->b);
}

TEST(Unmerged, WithoutTermsItIsTheWeightItself) {
  const TensorPtr weight = random_tensor("w", 4, 6, 1);
  EXPECT_EQ(with_unmerged_delta(weight, {}), weight);
  EXPECT_FALSE(taken_apart(*weight));
  EXPECT_FALSE(
      taken_apart(*with_low_rank_delta(weight, {{random_tensor("a", 1, 6, 2), random_tensor("b", 4, 1, 3), 1}})))
      << "merged is merged";
}

TEST(Unmerged, RefusesWhatDoesNotFit) {
  const TensorPtr weight = random_tensor("w", 4, 6, 1);
  EXPECT_THROW(with_unmerged_delta(weight, {{random_tensor("a", 1, 5, 2), random_tensor("b", 4, 1, 3), 1}}), Error);
  const auto parts =
      taken_apart(*with_unmerged_delta(weight, {{random_tensor("a", 1, 6, 2), random_tensor("b", 4, 1, 3), 1e300}}));
  std::vector<float> values(4);
  try {
    parts->b->read_f32({0, 4}, values);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_input);
    EXPECT_STREQ(error.what(),
                 "'b': row 0, column 0: the adapter's scale makes an infinity of it; give a smaller scale or another "
                 "checkpoint of the adapter");
  }
}

}  // namespace
}  // namespace ropewalk
