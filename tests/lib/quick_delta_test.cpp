#include "lib/adapters/quick_delta.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "lib/adapters/adapter_recipes.h"
#include "lib/adapters/packed_product.h"
#include "lib/convert.h"
#include "lib/merge_report.h"
#include "lib/recipes.h"
#include "tests/lib/any_partition.h"
#include "tests/lib/each_simd_target.h"

using namespace ropewalk;

namespace {

TensorPtr tensor_of(std::uint64_t rows, std::uint64_t columns, DType dtype, const std::vector<double>& values) {
  TensorInfo info{"t", {rows, columns}, dtype};
  std::vector<std::byte> bytes(info.bytes());
  encode_f64(dtype, values, bytes);
  return memory_tensor(std::move(info), std::move(bytes));
}
TensorPtr random_tensor(std::uint64_t rows, std::uint64_t columns, DType dtype, double size, unsigned seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal(0, size);
  std::vector<double> values(rows * columns);
  for (double& v : values) v = normal(random);
  return tensor_of(rows, columns, dtype, values);
}

/// What one rounding of the values in double gives: the path that low_rank_delta_test holds to the definition.
std::vector<std::byte> by_doubles(const LazyTensor& exact, DType dtype) {
  std::vector<std::byte> bytes(*byte_size(dtype, exact.info().elements()));
  encode_f64(dtype, read_all<double>(exact), bytes);
  return bytes;
}

/// The same by the quick way, if it is taken.
std::optional<std::vector<std::byte>> quickly(const LazyTensor& exact, DType dtype) {
  std::vector<std::byte> bytes(*byte_size(dtype, exact.info().elements()));
  const auto* rounding = dynamic_cast<const SelfRounding*>(&exact);
  if (!rounding || !rounding->read_rounded(dtype, {0, exact.info().rows()}, bytes, {})) return std::nullopt;
  return bytes;
}

struct Shape {
  std::uint64_t rows, columns, rank;
};
const Shape kShapes[] = {{9, 100, 0},  {1, 1, 1},    {3, 5, 2},     {8, 48, 15},    {9, 49, 16},
                         {31, 47, 17}, {33, 95, 33}, {40, 100, 64}, {64, 257, 100}, {35, 144, 256}};

TEST(QuickDelta, RoundsAsDoublesDo) {
  for_each_simd_target([] {
    std::size_t taken = 0;
    for (const Shape& s : kShapes)
      for (const DType factors : {DType::f32, DType::f64})
        for (const DType base : {DType::f16, DType::f32})
          for (const double size : {1e-5, 1e-3})
            for (const DType to : {DType::f16, DType::bf16}) {
              const TensorPtr weight = random_tensor(s.rows, s.columns, base, 0.02, 1);
              const LowRankTerm one{random_tensor(s.rank, s.columns, factors, 1 / std::sqrt(double(s.rank + 1)), 2),
                                    random_tensor(s.rows, s.rank, factors, size, 3), -1.7},
                  two{random_tensor(3, s.columns, DType::f32, 0.01, 4), random_tensor(s.rows, 3, DType::f32, 0.01, 5),
                      0.3};
              for (const std::vector<LowRankTerm>& terms : {std::vector{one}, std::vector{one, two}}) {
                const TensorPtr exact = with_low_rank_delta(weight, terms);
                const auto got = quickly(*exact, to);
                if (got) {  // not if too many places are uncertain: one or two of the smallest shapes, most of large deltas
                  ASSERT_TRUE(*got == by_doubles(*exact, to));
                  ++taken;
                }
                ASSERT_TRUE(read_all<std::byte>(*cast(exact, to)) == by_doubles(*exact, to));
              }
            }
    EXPECT_GT(taken, 200u) << "of " << std::size(kShapes) * 2 * 2 * 2 * 2 * 2;
  });
}

/// Numbers of f16, and in one of 97 places the middle between two: what weight + delta is to be.
std::vector<double> near_ties(std::size_t n) {
  std::mt19937_64 random(9);
  std::vector<double> values(n);
  for (std::size_t i = 0; i < n; ++i) {
    const int mantissa = 1024 + int(random() % 1024), exponent = int(random() % 3) - 14;
    values[i] = std::ldexp(mantissa + (i % 97 == 5 ? 0.5 : 0.0), exponent) * (random() % 2 ? 1 : -1);
  }
  return values;
}

/// `delta` in `terms` and double, added to a weight in f32 that puts the sums next to what near_ties() says. Bytes by
/// doubles, by the quick way, and how many places that left to doubles.
struct Compared {
  std::vector<std::byte> doubles, quick;
  std::size_t left;
};
Compared compare(const QuickDelta& quick, const std::vector<double>& delta, const Shape& s) {
  std::vector<double> weight = near_ties(delta.size());
  for (std::size_t i = 0; i < weight.size(); ++i) weight[i] -= delta[i];
  const TensorPtr base = tensor_of(s.rows, s.columns, DType::f32, weight);
  const std::vector<double> w = read_all<double>(*base);
  std::vector<double> sums = w;
  for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += delta[i];
  Compared out{std::vector<std::byte>(2 * sums.size()), std::vector<std::byte>(2 * sums.size()), 0};
  encode_f64(DType::f16, sums, out.doubles);
  const auto exact = [&](std::span<const ElementPlace> places, std::span<double> values) {
    out.left += places.size();
    for (std::size_t i = 0; i < values.size(); ++i) {
      const std::size_t at = places[i].row * s.columns + places[i].column;
      EXPECT_EQ(values[i], w[at]);
      values[i] += delta[at];
    }
  };
  EXPECT_TRUE(quick.read_rounded(*base, DType::f16, {0, s.rows}, out.quick, {}, exact));
  return out;
}

/// |b| |a| is about `norms`.
PackedProduct product_of(const Shape& s, double norms, DType dtype, unsigned seed) {
  const double size = std::sqrt(norms / double(s.rank + 1));
  return {*random_tensor(s.rows, s.rank, dtype, size, seed), *random_tensor(s.rank, s.columns, dtype, size, seed + 1)};
}
std::vector<double> product_in_double(const PackedProduct& product, const Shape& s) {
  std::vector<double> values(s.rows * s.columns);
  product.add({0, s.rows}, 1.0, values);
  return values;
}

// Sums next to ties, of larger terms that cancel. Negative control: with a bound of zero the same data come out
// wrong.
TEST(QuickDelta, TiesAreLeftToDoubles) {
  std::size_t wrong = 0, wrong_both = 0;
  for_each_simd_target([&] {
    for (const Shape& s : {Shape{64, 300, 256}, Shape{64, 299, 64}, Shape{40, 500, 7}})
      for (const DType dtype : {DType::f64, DType::f32}) {
        const PackedProduct one = product_of(s, 8, dtype, 20);
        const NarrowProduct::Term term{&one, 1.0};
        const auto single = [&](double factor) {
          return compare({NarrowProduct({&term, 1}, factor)}, product_in_double(one, s), s);
        };
        const Compared careful = single(1), careless = single(0);
        EXPECT_TRUE(careful.doubles == careful.quick);
        EXPECT_GE(careful.left, s.rows * s.columns / 97);
        wrong += careless.doubles != careless.quick;

        const PackedProduct left = product_of(s, 2, dtype, 30), right = product_of(s, 2, dtype, 40);
        const NarrowProduct::Term first{&left, 1.0}, second{&right, 1.0};
        std::vector<double> products = product_in_double(left, s);
        const std::vector<double> others = product_in_double(right, s);
        for (std::size_t i = 0; i < products.size(); ++i) products[i] *= others[i];
        const auto hadamard = [&](double factor) {
          return compare({NarrowProduct({&first, 1}, factor), NarrowProduct({&second, 1}, factor)}, products, s);
        };
        const Compared both = hadamard(1), careless_both = hadamard(0);
        EXPECT_TRUE(both.doubles == both.quick);
        EXPECT_GE(both.left, s.rows * s.columns / 97);
        wrong_both += careless_both.doubles != careless_both.quick;
      }
  });
  EXPECT_GT(wrong, 0u) << "without a bound something must be rounded wrongly";
  EXPECT_GT(wrong_both, 0u) << "without a bound something must be rounded wrongly";
}

// Single sums at given places are the kernel's sums to the bit.
TEST(QuickDelta, SingleSumsAreTheProductsOwn) {
  for_each_simd_target([] {
    for (const Shape& s : kShapes)
      for (const DType dtype : {DType::f64, DType::f32}) {
        const PackedProduct product = product_of(s, 8, dtype, 40);
        const std::vector<double> all = product_in_double(product, s);
        std::vector<ElementPlace> places;
        for (std::uint32_t row = 1; row < s.rows; row += 2)
          for (std::uint32_t column = 0; column < s.columns; column += 3) places.push_back({row - 1, column});
        std::vector<double> sums(places.size());
        product.at({1, s.rows}, places, sums);
        for (std::size_t i = 0; i < places.size(); ++i)
          ASSERT_EQ(sums[i], all[(places[i].row + 1) * s.columns + places[i].column]);
      }
  });
}

// Factors and scales past f32's range in either direction, subnormal results, zeros of both signs, infinities and NaN.
TEST(QuickDelta, WhatFloatsCannotHoldIsLeftToDoubles) {
  const double inf = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();
  const Shape s{33, 70, 20};
  std::size_t taken = 0, refused = 0;
  for_each_simd_target([&] {
    for (const double special : {1.0, 0.0, -0.0, 1e-7, 6e-8, 65504.0, inf, -inf, nan})
      for (const double a_size : {0.0, 1e-300, 1e-40, 1e-20, 1e-9, 1.0, 1e20, 1e45})
        for (const double scale : {0.0, 1.0, -1.0, 1e-45, 1e-20, 1e25}) {
          std::vector<double> weight = read_all<double>(*random_tensor(s.rows, s.columns, DType::f16, 1e-6, 1));
          for (std::size_t i = 0; i < weight.size(); i += 7) weight[i] = special;
          const TensorPtr exact = with_low_rank_delta(
              tensor_of(s.rows, s.columns, DType::f16, weight),
              {{random_tensor(s.rank, s.columns, DType::f64, a_size, 2),
                random_tensor(s.rows, s.rank, DType::f64, a_size > 1e10 ? 1e-30 : 1e-7, 3), scale}});
          if (const auto got = quickly(*exact, DType::f16)) {
            ASSERT_TRUE(*got == by_doubles(*exact, DType::f16)) << special << " " << a_size << " " << scale;
            ++taken;
          } else {
            ++refused;
          }
        }
  });
  EXPECT_GT(taken, 100u);
  EXPECT_GT(refused, 100u);
}

// The report's figures by either way, and a zero delta that is one.
TEST(QuickDelta, LeavesTheSameNorms) {
  for (const std::uint64_t every : {1, 2})
    for (const double size : {0.0, 1e-30, 1e-5, 1e-2}) {
      const TensorPtr weight = random_tensor(96, 203, DType::f16, 0.02, 1);
      const TensorPtr exact = with_low_rank_delta(
          weight, {{random_tensor(8, 203, DType::f32, size, 2), random_tensor(96, 8, DType::f32, 0.1 + size, 3), 2.0}});
      std::vector<std::byte> bytes(2 * exact->info().elements());
      std::vector<RowSums> sums(96);
      EXPECT_EQ(dynamic_cast<const SelfRounding&>(*exact).read_rounded(DType::f16, {0, 96}, bytes, sums), size > 1e-20);
      const auto quick = std::make_shared<const ObservedMerge>(weight, exact, DType::f16, every),
                 doubles = std::make_shared<const ObservedMerge>(weight, exact, DType::f16, every);
      (void)read_all<std::byte>(*cast(quick, DType::f16));
      (void)read_all<double>(*doubles);
      const MergeNorms got = quick->norms(), want = doubles->norms();
      EXPECT_NEAR(got.delta_norm, want.delta_norm, 1e-6 * want.delta_norm);
      EXPECT_NEAR(got.weight_norm, want.weight_norm, 1e-12 * want.weight_norm);
      EXPECT_NEAR(got.rounding_norm, want.rounding_norm, 1e-6 * want.rounding_norm);
      EXPECT_EQ(got.delta_norm == 0, want.delta_norm == 0);
    }
}

}  // namespace
