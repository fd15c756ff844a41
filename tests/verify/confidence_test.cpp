#include "verify/confidence.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <iostream>
#include <limits>
#include <random>

namespace ropewalk::verify {
namespace {

LogitsReport report_of(int windows, int length, const std::function<PairScore(int, int)>& score, int original = 0) {
  PairResult result;
  for (int w = 0; w < windows; ++w) {
    auto& scores = result.scores.emplace_back();
    for (int t = 0; t < length; ++t) scores.push_back(score(w, t));
  }
  return summarise_pair(result, original, length);
}
PairScore of_kl(double kl) { return {.nll_a = 2, .nll_b = 2, .kl = kl, .same_top1 = true}; }

// Sixteen windows of one block each: means 1 to 16, so 8.5 with a standard deviation of sqrt(22.6667), of their mean
// sqrt(22.6667 / 16) = 1.190238, times Student's 1.753 of 15 degrees of freedom.
TEST(Confidence, OfAMeanByHand) {
  const LogitsReport r = report_of(16, 64, [](int w, int) { return of_kl(w + 1); });
  const Interval found = confidence(Figure::kl_mean, r, 0, {});
  EXPECT_NEAR(found.low, 8.5 - 1.753 * 1.190238, 1e-5);
  EXPECT_NEAR(found.high, 8.5 + 1.753 * 1.190238, 1e-5);
  const Interval flat = confidence(Figure::kl_mean, report_of(4, 64, [](int, int) { return of_kl(0.25); }), 0, {});
  EXPECT_EQ(flat.low, 0.25);
  EXPECT_EQ(flat.high, 0.25);
}

// Of one position there is no spread, whatever its value: a mean's bound is then the end of what it can be at all, and the
// gate says that it cannot tell. The same value at two positions: Student's t of one degree of freedom, tan(0.45 pi).
TEST(Confidence, OfOneBlockThereIsNone) {
  const auto score = [](int, int t) {
    return PairScore{.nll_a = 2, .nll_b = 2 + 0.001 * t, .kl = 0.001 * (t + 1), .same_top1 = true};
  };
  LogitsReport report = report_of(1, 64, score);
  const auto of = [&](Figure figure, int to) { return confidence(figure, report, 0, to); };
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  EXPECT_EQ(of(Figure::kl_mean, 1).low, 0);
  EXPECT_EQ(of(Figure::kl_mean, 1).high, kInfinity);
  EXPECT_EQ(of(Figure::top1, 1).low, 0);
  EXPECT_EQ(of(Figure::top1, 1).high, 1);
  EXPECT_EQ(of(Figure::ppl_ratio, 1).low, 0);
  EXPECT_EQ(of(Figure::ppl_ratio, 1).high, kInfinity);
  EXPECT_EQ(of(Figure::nll_difference, 1).low, -kInfinity);
  // 0.001 and 0.002: mean 0.0015, its standard error 0.0005
  EXPECT_NEAR(of(Figure::kl_mean, 2).high, 0.0015 + std::tan(0.45 * 3.14159265358979) * 0.0005, 1e-6);
  const auto gate = [&](Figure figure, Bound bound, double limit, int to) {
    return apply_gates({{figure, bound, limit, Positions{0, to}}}, report)[0];
  };
  for (const Gate& one : {gate(Figure::kl_mean, Bound::max, 100, 1), gate(Figure::top1, Bound::min, 0.01, 1),
                          gate(Figure::ppl_ratio, Bound::max, 100, 1)}) {
    EXPECT_FALSE(one.pass) << one.name;
    EXPECT_TRUE(one.inconclusive()) << one.name;
  }
  EXPECT_FALSE(gate(Figure::kl_mean, Bound::max, 1e-4, 1).inconclusive()) << "past the limit it fails";
  EXPECT_TRUE(gate(Figure::kl_mean, Bound::max, 100, 2).pass);
}

// Both ends of Wilson's interval p solve |share - p| = z sqrt(p (1 - p) / n), 0 and 1 apart.
TEST(Confidence, OfAShare) {
  for (const auto& [hits, n] :
       {std::pair(8.0, 10.0), std::pair(1.0, 1.0), std::pair(0.0, 1.0), std::pair(450.0, 500.0)})
    for (const bool low : {true, false}) {
      const Interval found = share_interval(hits, n);
      const double p = low ? found.low : found.high, share = hits / n;
      EXPECT_NEAR(low ? share - p : p - share, 1.645 * std::sqrt(p * (1 - p) / n), 1e-12) << hits << " of " << n;
    }
  EXPECT_NEAR(share_interval(0, 5).low, 0, 1e-15);
  EXPECT_NEAR(share_interval(5, 5).high, 1, 1e-15);
}

// Losses that follow one another, as a text's do (each half of the one before): the true mean lies below `high` in some 95
// of 100 texts. Errors of single positions, taken as if they were independent, would hold in far fewer: the control.
TEST(Confidence, HoldsAsOftenAsItSays) {
  constexpr int kTexts = 400, kLength = 2048;
  std::mt19937 random(20240229);
  std::normal_distribution<double> normal;
  int below = 0, above = 0, below_if_independent = 0;
  for (int text = 0; text < kTexts; ++text) {
    double x = 0;
    const LogitsReport r = report_of(1, kLength, [&](int, int) {
      x = 0.9 * x + std::sqrt(1 - 0.81) * normal(random);
      return PairScore{.nll_a = 2, .nll_b = 2.1 + 0.1 * x, .kl = 0, .same_top1 = true};
    });
    const Interval found = confidence(Figure::nll_difference, r, 0, {});
    below += found.high >= 0.1 ? 1 : 0, above += found.low <= 0.1 ? 1 : 0;
    const double naive = sum_positions(r.by_position, 0, {}).nll_difference() + 1.645 * 0.1 / std::sqrt(kLength);
    below_if_independent += naive >= 0.1 ? 1 : 0;
  }
  std::cout << "of " << kTexts << " texts: below " << below << ", above " << above << ", taken as independent "
            << below_if_independent << "\n";
  // 380 expected with a standard deviation of 4.4: three of them either way, and what correlation within blocks costs
  EXPECT_GE(below, 362);
  EXPECT_GE(above, 362);
  EXPECT_LE(below, 396);
  EXPECT_LT(below_if_independent, 340) << "independence is no harmless assumption";
}

TEST(Confidence, OfQuantilesByRank) {
  // KL of 0 .. 9999: the median's rank is 5000 +- 1.645 * 50, the 99.9 percentile's 9990 +- 1.645 * 3.16
  const LogitsReport r = report_of(1, 10000, [](int, int t) { return of_kl(t); });
  const Interval median = confidence(Figure::kl_median, r, 0, {}), p999 = confidence(Figure::kl_p999, r, 0, {});
  EXPECT_EQ(median.low, 4917);
  EXPECT_EQ(median.high, 5082);
  EXPECT_EQ(p999.low, 9984);
  EXPECT_EQ(p999.high, 9995);
  const LogitsReport few = report_of(1, 100, [](int, int t) { return of_kl(t); });
  EXPECT_EQ(confidence(Figure::kl_p999, few, 0, {}).high, 99) << "the largest seen";
}

TEST(Confidence, SharesStayShares) {
  const LogitsReport r =
      report_of(1, 512, [](int, int t) { return PairScore{.nll_a = 2, .nll_b = 2, .kl = 0, .same_top1 = t != 7}; });
  const Interval found = confidence(Figure::top1, r, 0, {});
  EXPECT_LE(found.high, 1);
  EXPECT_LT(found.low, 511.0 / 512);
}

TEST(Confidence, AGateThatCannotTellIsInconclusiveAndFails) {
  std::mt19937 random(7);
  std::exponential_distribution<double> kl(1 / 0.019);
  LogitsReport few = report_of(1, 64, [&](int, int) { return of_kl(kl(random)); }),
               many = report_of(64, 1024, [&](int, int) { return of_kl(kl(random)); });
  const auto gate = [](LogitsReport& report, double limit) {
    return apply_gates({{Figure::kl_mean, Bound::max, limit}}, report)[0];
  };
  const double value = few.kl_mean;
  EXPECT_FALSE(gate(few, value * 1.02).pass);
  EXPECT_TRUE(gate(few, value * 1.02).inconclusive());
  EXPECT_GT(gate(few, value * 1.02).confident.value(), value * 1.02);
  EXPECT_TRUE(gate(few, value * 3).pass);
  EXPECT_FALSE(gate(few, value * 0.9).pass);
  EXPECT_FALSE(gate(few, value * 0.9).inconclusive()) << "that is a failure";
  EXPECT_TRUE(gate(many, many.kl_mean * 1.02).pass) << "as many tokens tell";
  apply_gates({{Figure::kl_mean, Bound::max, value * 1.02}}, few);
}

}  // namespace
}  // namespace ropewalk::verify
