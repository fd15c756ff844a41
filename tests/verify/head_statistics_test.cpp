#include "verify/head_statistics.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <random>
#include <vector>

#include "tests/verify/simd_targets_for_test.h"

namespace ropewalk::verify {
namespace {

std::vector<float> random_logits(std::size_t n, unsigned seed, float spread) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, spread);
  std::vector<float> out(n);
  for (float& x : out) x = normal(random);
  return out;
}

PairStatistics take(const std::vector<float>& a, const std::vector<float>& b) {
  PairStatistics row;
  std::vector<float> block_a(kVocabBlock), block_b(kVocabBlock);
  for (std::size_t column = 0; column < a.size(); column += kVocabBlock) {
    const std::size_t width = std::min(kVocabBlock, a.size() - column);
    std::copy_n(a.data() + column, width, block_a.data());
    std::copy_n(b.data() + column, width, block_b.data());
    accumulate(block_a.data(), block_b.data(), column, width, row);
  }
  return row;
}
RowStatistics take(const std::vector<float>& a) {
  RowStatistics row;
  std::vector<float> block(kVocabBlock);
  for (std::size_t column = 0; column < a.size(); column += kVocabBlock) {
    const std::size_t width = std::min(kVocabBlock, a.size() - column);
    std::copy_n(a.data() + column, width, block.data());
    accumulate(block.data(), column, width, row);
  }
  return row;
}

struct Exact {
  long double lse = 0, entropy = 0, kl = 0;
};
Exact exact(const std::vector<float>& a, const std::vector<float>& b) {
  const auto lse = [](const std::vector<float>& x) {
    const long double max = *std::ranges::max_element(x);
    long double sum = 0;
    for (float v : x) sum += std::exp((long double)v - max);
    return max + std::log(sum);
  };
  Exact out;
  out.lse = lse(a);
  const long double lse_b = lse(b);
  for (std::size_t i = 0; i < a.size(); ++i) {
    const long double p = std::exp(a[i] - out.lse);
    out.entropy -= p * (a[i] - out.lse);
    out.kl += p * ((a[i] - out.lse) - (b[i] - lse_b));
  }
  return out;
}

// Terms are 4e-16 off (exp in double) and sums of n positive terms n/16 + 4 roundings of 1.1e-16; the logits reach
// about 40 in size.
double tolerance(std::size_t n) { return 40 * (4e-16 + (double(n) / 16 + 4) * 1.2e-16); }

TEST(HeadStatistics, AgreeWithLongDouble) {
  for (const std::size_t n : {1, 31, 256, 257, 512, 2048, 49152})
    for (const float spread : {0.1f, 3.0f, 12.0f}) {
      const std::vector<float> a = random_logits(n, 1, spread), noise = random_logits(n, 2, 1e-4f);
      std::vector<float> b = a;
      for (std::size_t i = 0; i < n; ++i) b[i] += noise[i];
      const PairStatistics got = take(a, b);
      const Exact want = exact(a, b);
      EXPECT_TRUE(std::abs(got.a.log_sum_exp() - double(want.lse)) <= tolerance(n)) << n << " " << spread;
      EXPECT_TRUE(std::abs(got.a.entropy() - double(want.entropy)) <= tolerance(n)) << n << " " << spread;
      EXPECT_TRUE(std::abs(got.kl() - double(want.kl)) <= tolerance(n))
          << n << " " << spread << ": " << got.kl() << " against " << double(want.kl);
      EXPECT_EQ(got.a.argmax, std::ranges::max_element(a) - a.begin());
      const RowStatistics single = take(a);
      EXPECT_EQ(single.sum, got.a.sum);
      EXPECT_EQ(single.weighted, got.a.weighted);
      if (n > 1) {
        EXPECT_FALSE(std::abs(take(b, a).a.log_sum_exp() - double(want.lse)) <= tolerance(n))
            << "the comparator must see a change of 1e-4";
      }
    }
}

TEST(HeadStatistics, EqualLogitsHaveNoDivergence) {
  const std::vector<float> a = random_logits(5000, 3, 5);
  EXPECT_EQ(take(a, a).kl(), 0.0);
  std::vector<float> b = a;
  b[4321] += 1e-3f;
  EXPECT_GT(take(a, b).kl(), 0.0);
}

TEST(HeadStatistics, FirstOfEqualsWins) {
  std::vector<float> a(1000, -3.0f);
  a[700] = a[300] = a[301] = 9.0f;
  EXPECT_EQ(take(a).argmax, 300);
  EXPECT_EQ(take(std::vector<float>(1000, 0.0f)).argmax, 0);
}

// 0 would name a token, and two rows of NaN would then agree on it. 1000 columns end in a padded block.
TEST(HeadStatistics, NothingLargestIsNoToken) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN(), kInf = std::numeric_limits<float>::infinity();
  for (const SimdTarget& target : simd_targets()) {
    const ForcedTarget forced(target);
    for (const float nothing : {kNan, -kInf}) {
      const std::vector<float> a(1000, nothing);
      EXPECT_EQ(take(a).argmax, -1) << target.name << " " << nothing;
      EXPECT_FALSE(take(a, a).same_top1()) << target.name << " " << nothing;
    }
    const std::vector<float> b = random_logits(1000, 3, 5);
    EXPECT_TRUE(take(b, b).same_top1()) << target.name;
  }
}

TEST(HeadStatistics, NanIsNotSwallowed) {
  for (const SimdTarget& target : simd_targets()) {
    const ForcedTarget forced(target);
    for (const std::size_t at : {0, 5, 255, 256, 999}) {
      std::vector<float> a = random_logits(1000, 3, 5), b = a;
      a[at] = std::numeric_limits<float>::quiet_NaN();
      EXPECT_TRUE(std::isnan(take(a).log_sum_exp())) << target.name << " " << at;
      EXPECT_TRUE(std::isnan(take(a, b).kl())) << target.name << " " << at;
      EXPECT_TRUE(std::isnan(take(b, a).kl())) << target.name << " " << at;
    }
  }
}

TEST(HeadStatistics, SameBitsOnEveryTarget) {
  const std::vector<float> a = random_logits(3001, 3, 5), b = random_logits(3001, 4, 5);
  const PairStatistics want = take(a, b);
  for (const SimdTarget& target : simd_targets()) {
    const ForcedTarget forced(target);
    const PairStatistics got = take(a, b);
    EXPECT_EQ(std::bit_cast<std::uint64_t>(got.a.sum), std::bit_cast<std::uint64_t>(want.a.sum)) << target.name;
    EXPECT_EQ(std::bit_cast<std::uint64_t>(got.a.weighted), std::bit_cast<std::uint64_t>(want.a.weighted))
        << target.name;
    EXPECT_EQ(std::bit_cast<std::uint64_t>(got.difference), std::bit_cast<std::uint64_t>(want.difference))
        << target.name;
    EXPECT_EQ(std::bit_cast<std::uint64_t>(got.b.sum), std::bit_cast<std::uint64_t>(want.b.sum)) << target.name;
  }
}

}  // namespace
}  // namespace ropewalk::verify
