#include "verify/attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "tests/verify/simd_targets_for_test.h"
#include "verify/judge.h"
#include "verify/softmax.h"

namespace ropewalk::verify {
namespace {

struct Problem {
  std::size_t head_dim, positions;
  KvCache cache;
  std::vector<float> queries;                   // [positions, head_dim]
  double largest_value = 0, largest_score = 0;  // max |v|, max over (i, j) of sum |q k| scale

  Problem(std::size_t width, std::size_t length) : head_dim(width), positions(length) {
    std::mt19937 random(7);
    std::normal_distribution<float> normal;
    cache.reserve(2, width, length);
    std::vector<float> key(width), value(width);
    double norm_k = 0, norm_q = 0;
    for (std::size_t position = 0; position < length; ++position)
      for (std::size_t head : {0, 1}) {
        for (float& x : key) x = normal(random);
        for (float& x : value) x = normal(random);
        for (float x : value) largest_value = std::max(largest_value, std::abs(double(x)));
        double square = 0;
        for (float x : key) square += double(x) * double(x);
        norm_k = std::max(norm_k, square);
        cache.store(head, position, key.data(), value.data());
      }
    for (std::size_t i = 0; i < length * width; ++i) queries.push_back(normal(random));
    for (std::size_t i = 0; i < length; ++i) {
      double square = 0;
      for (std::size_t c = 0; c < width; ++c) square += double(queries[i * width + c]) * double(queries[i * width + c]);
      norm_q = std::max(norm_q, square);
    }
    largest_score = std::sqrt(norm_k * norm_q / double(width));
  }

  std::vector<float> run(std::size_t first, std::size_t rows, std::optional<std::size_t> window, bool reference) {
    std::vector<float> out(rows * head_dim);
    for (std::size_t begin = 0; begin < rows; begin += kQueryTile) {
      const Attention args{.q = queries.data() + (first + begin) * head_dim,
                           .out = out.data() + begin * head_dim,
                           .stride = head_dim,
                           .rows = std::min(kQueryTile, rows - begin),
                           .first_position = first + begin,
                           .kv_head = 1,
                           .scale = float(1 / std::sqrt(double(head_dim))),
                           .sliding_window = window};
      reference ? attention_reference(cache, args) : attention(cache, args);
    }
    return out;
  }

  /// A score is head_dim roundings off by at most head_dim u |q||k| scale (u = 2^-24), the scaling adds one; exp turns
  /// an error e of the score and one of the maximum into a factor 1 + 2e, and is itself 2 u off; the weighted sum has
  /// one rounding per key, and one correction per tile.
  double tolerance() const {
    const double u = std::ldexp(1.0, -24);
    return largest_value * (2 * (double(head_dim) + 1) * u * largest_score + (double(positions) + 8) * u);
  }
};

double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) largest = max_or_nan(largest, std::abs(double(a[i]) - double(b[i])));
  return largest;
}

TEST(Attention, AgreesWithTheDefinition) {
  for (const auto& [head_dim, positions] :
       {std::pair<std::size_t, std::size_t>{8, 1}, {16, 31}, {64, 257}, {80, 600}, {32, 1300}, {128, 513}})
    for (const std::optional<std::size_t> window : {std::optional<std::size_t>{}, {1}, {16}, {530}}) {
      Problem problem(head_dim, positions);
      const double difference =
          largest_difference(problem.run(0, positions, window, false), problem.run(0, positions, window, true));
      EXPECT_TRUE(difference <= problem.tolerance())
          << head_dim << " x " << positions << ": " << difference << " against " << problem.tolerance();
    }
}

TEST(Attention, ComparatorSeesAKeyTooManyOrTooFew) {
  Problem problem(64, 257);
  const std::vector<float> want = problem.run(0, 257, 16, true);
  EXPECT_FALSE(largest_difference(problem.run(0, 257, 17, false), want) <= problem.tolerance());
  EXPECT_FALSE(largest_difference(problem.run(0, 257, 15, false), want) <= problem.tolerance());
}

// Rows in any company, any tile, every target: the same bits.
TEST(Attention, BitsDoNotDependOnCompanyOrTarget) {
  Problem problem(24, 1100);
  for (const std::optional<std::size_t> window : {std::optional<std::size_t>{}, {300}}) {
    const std::vector<float> all = problem.run(0, 1100, window, false);
    for (const std::size_t row : {0, 1, 11, 12, 511, 512, 513, 800, 1099}) {
      const std::vector<float> alone = problem.run(row, 1, window, false);
      EXPECT_EQ(std::memcmp(alone.data(), all.data() + row * 24, 24 * sizeof(float)), 0) << row;
    }
    const std::vector<float> shifted = problem.run(505, 100, window, false);
    EXPECT_EQ(std::memcmp(shifted.data(), all.data() + 505 * 24, 100 * 24 * sizeof(float)), 0);
    for (const SimdTarget& target : simd_targets()) {
      const ForcedTarget forced(target);
      const std::vector<float> here = problem.run(400, 300, window, false);
      EXPECT_EQ(std::memcmp(here.data(), all.data() + 400 * 24, 300 * 24 * sizeof(float)), 0) << target.name;
    }
  }
}

// What overflowed at one position is seen from there on and by those whose window reaches back to it, by nobody else.
TEST(Attention, AnOverflowedValueReachesOnlyWhoSeesIt) {
  Problem problem(16, 600);
  for (const std::optional<std::size_t> window : {std::optional<std::size_t>{}, {5}, {40}})
    for (const std::size_t bad : {0, 4, 100, 511, 512, 599}) {
      const float* value = problem.cache.values(1) + bad * problem.cache.value_stride();
      const std::vector<float> kept(value, value + 16), infinite(16, std::numeric_limits<float>::infinity()),
          key(16, 0.5f);
      problem.cache.store(1, bad, key.data(), kept.data());
      const std::vector<float> want = problem.run(0, 600, window, false);
      problem.cache.store(1, bad, key.data(), infinite.data());
      const std::vector<float> got = problem.run(0, 600, window, false);
      problem.cache.store(1, bad, key.data(), kept.data());
      for (std::size_t position = 0; position < 600; ++position) {
        const bool sees = position >= bad && (!window || position < bad + *window);
        if (sees) EXPECT_FALSE(std::isfinite(got[position * 16])) << bad << " at " << position;
        else
          EXPECT_EQ(std::memcmp(&got[position * 16], &want[position * 16], 16 * sizeof(float)), 0)
              << bad << " at " << position;
      }
    }
}

// exp over the whole range a softmax uses, 1.5 units in the last place at most, on every target the same bits.
TEST(Softmax, ExponentialIsAccurate) {
  for (const SimdTarget& target : simd_targets()) {
    const ForcedTarget forced(target);
    for (double x = 0; x > -87; x -= 0.0131) {
      std::vector<float> scores(16, float(x));
      scores[0] = 0;
      SoftmaxRow row;
      softmax_tile(scores.data(), 16, 1.0f, row);
      const double want = std::exp(double(float(x)));
      const double ulp = std::ldexp(1.0, std::ilogb(want) - 23);
      ASSERT_TRUE(std::abs(double(scores[1]) - want) <= 1.5 * ulp) << target.name << " exp(" << x << ")";
    }
    std::vector<float> scores(16, -std::numeric_limits<float>::infinity());
    scores[3] = 5;
    SoftmaxRow row;
    EXPECT_EQ(softmax_tile(scores.data(), 16, 0.5f, row), 0.0f);
    EXPECT_EQ(row.max, 2.5f);
    EXPECT_EQ(row.sum, 1.0);
    EXPECT_EQ(scores[4], 0.0f);
    scores.assign(16, -std::numeric_limits<float>::infinity());  // a tile the row does not see changes nothing
    EXPECT_EQ(softmax_tile(scores.data(), 16, 0.5f, row), 1.0f);
    EXPECT_EQ(row.sum, 1.0);
    scores[5] = std::numeric_limits<float>::quiet_NaN();
    softmax_tile(scores.data(), 16, 0.5f, row);
    EXPECT_TRUE(std::isnan(row.sum)) << target.name;
  }
}

}  // namespace
}  // namespace ropewalk::verify
