#include "lib/merge_report.h"

#include <gtest/gtest.h>

#include <cmath>

#include "lib/recipes.h"

namespace ropewalk {
namespace {

// W = [[1, 2], [2, 4]], delta = 0.5 * B A with B = [[1], [2]], A = [[2, 0]]: [[1, 0], [2, 0]].
struct Merge {
  TensorPtr weight = memory_tensor("w", {2, 2}, {1, 2, 2, 4});
  TensorPtr exact =
      with_low_rank_delta(weight, {{memory_tensor("a", {1, 2}, {2, 0}), memory_tensor("b", {2, 1}, {1, 2}), 0.5}});
};

TEST(MergeReport, NormsOfASmallMerge) {
  const Merge merge;
  const ObservedMerge observed(merge.weight, merge.exact, DType::f16);
  observed.prepare();
  std::vector<double> values(4);
  observed.read_f64({0, 2}, values);
  EXPECT_EQ(values, (std::vector<double>{2, 2, 4, 4}));
  EXPECT_DOUBLE_EQ(observed.norms().delta_norm, std::sqrt(5.0));
  EXPECT_DOUBLE_EQ(observed.norms().weight_norm, 5);
  EXPECT_EQ(observed.norms().rounding_loss, 0);  // small integers are float16 numbers
}

// Without a delta it is the cost of the cast: 1 + 2^-11 lies halfway between two float16 numbers, and 3 is one.
TEST(MergeReport, ACastAlone) {
  const TensorPtr weight = memory_tensor("w", {1, 2}, {1 + 0x1p-11f, 3});
  const ObservedMerge observed(weight, weight, DType::f16);
  std::vector<double> values(2);
  observed.read_f64({0, 1}, values);
  EXPECT_EQ(values, (std::vector<double>{1 + 0x1p-11, 3}));
  EXPECT_EQ(observed.norms().rounding_norm, 0x1p-11);
  EXPECT_EQ(observed.norms().rounding_loss, 0);
  EXPECT_EQ(observed.norms().delta_norm, 0);
}

TEST(MergeReport, RowsInAnyOrderLeaveTheSameSums) {
  const Merge merge;
  const ObservedMerge whole(merge.weight, merge.exact, DType::f16), parts(merge.weight, merge.exact, DType::f16);
  std::vector<double> all(4), row(2);
  whole.prepare(), parts.prepare();
  whole.read_f64({0, 2}, all);
  parts.read_f64({1, 2}, row);
  EXPECT_LT(parts.norms().weight_norm, 5);  // one row only
  parts.read_f64({1, 2}, row);
  parts.read_f64({0, 1}, row);
  EXPECT_EQ(parts.norms().delta_norm, whole.norms().delta_norm);
  EXPECT_EQ(parts.norms().weight_norm, whole.norms().weight_norm);
}

// Every second row: 0, 2 and 4, whose deltas are 0, 8 and 1.
TEST(MergeReport, OfSomeRowsAlone) {
  const TensorPtr weight = memory_tensor("w", {5, 1}, {1, 1, 1, 1, 1}),
                  exact = memory_tensor("w", {5, 1}, {1, 2, 9, 9, 2});
  const ObservedMerge second(weight, exact, DType::f16, 2);
  std::vector<double> values(5);
  second.read_f64({0, 5}, values);
  EXPECT_EQ(values, (std::vector<double>{1, 2, 9, 9, 2})) << "measured or not";
  EXPECT_EQ(second.norms().delta_norm, std::sqrt(65.0));
  EXPECT_EQ(second.norms().weight_norm, std::sqrt(3.0));
}

TEST(MergeReport, ReleaseSettlesTheNorms) {
  const Merge merge;
  const ObservedMerge observed(merge.weight, merge.exact, DType::f16);
  EXPECT_GE(observed.prepared_bytes(), 2 * 3 * sizeof(double));
  observed.release();  // nothing read yet: nothing to settle
  std::vector<double> all(4), row(2);
  observed.read_f64({0, 2}, all);
  const double delta = observed.norms().delta_norm;
  observed.release();
  EXPECT_EQ(observed.norms().delta_norm, delta);
  observed.read_f64({1, 2}, row);  // a later look at the tensor does not measure again
  observed.release();
  EXPECT_EQ(observed.norms().delta_norm, delta);
  EXPECT_EQ(row, (std::vector<double>{4, 4}));
}

// 1 + 2^-9 in bf16 (8 significant bits) is 1: rounding eats the whole delta. 1 + 3 * 2^-9 becomes 1 + 2^-7: 1/3 of the
// delta is added.
TEST(MergeReport, WhatRoundingAte) {
  const auto loss = [](double delta, DType dtype) {
    const TensorPtr weight = memory_tensor("w", {1, 1}, {1.0f});
    const ObservedMerge observed(
        weight,
        with_low_rank_delta(weight, {{memory_tensor("a", {1, 1}, {1.0f}), memory_tensor("b", {1, 1}, {1.0f}), delta}}),
        dtype);
    observed.prepare();
    std::vector<double> value(1);
    observed.read_f64({0, 1}, value);
    return observed.norms().rounding_loss;
  };
  EXPECT_EQ(loss(std::ldexp(1, -9), DType::bf16), 1);
  EXPECT_DOUBLE_EQ(loss(3 * std::ldexp(1, -9), DType::bf16), 1.0 / 3);
  EXPECT_EQ(loss(std::ldexp(1, -9), DType::f16), 0);
  EXPECT_EQ(loss(0, DType::bf16), 0);
}

}  // namespace
}  // namespace ropewalk
