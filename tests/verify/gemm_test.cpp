#include "verify/gemm.h"

#include <gtest/gtest.h>
#include <hwy/targets.h>

#include <cstring>
#include <random>
#include <vector>

#include "tests/verify/simd_targets_for_test.h"

namespace ropewalk::verify {
namespace {

AlignedBuffer random_buffer(std::size_t size, unsigned seed) {
  AlignedBuffer out(size);
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  for (std::size_t i = 0; i < size; ++i) out.data()[i] = normal(random);
  return out;
}

struct Case {
  std::size_t rows, panels, depth;
  Into into;
  bool bias;
};

// The kernel of every target against the one-line definition, bit for bit, at awkward sizes.
TEST(Gemm, OneChainPerOutputOnEveryTarget) {
  for (const Case& c : {Case{1, 1, 1, Into::store, false},
                        {12, 2, 64, Into::store, true},
                        {13, 3, 37, Into::add, true},
                        {31, 1, 257, Into::chain, false},
                        {5, 2, 0, Into::store, false},
                        {24, 1, 512, Into::chain, true}}) {
    const AlignedBuffer a = random_buffer(c.rows * (c.depth + 16), 1),
                        b = random_buffer(c.panels * c.depth * kPanel + 1, 2),
                        bias = random_buffer(c.panels * kPanel, 3);
    const std::size_t stride = c.panels * kPanel + 16;
    Gemm g{.a = a.data(),
           .a_stride = c.depth + 16,
           .rows = c.rows,
           .b = b.data(),
           .panel_stride = c.depth * kPanel,
           .panels = c.panels,
           .depth = c.depth,
           .c = nullptr,
           .c_stride = stride,
           .bias = c.bias ? bias.data() : nullptr,
           .into = c.into};
    AlignedBuffer want = random_buffer(c.rows * stride, 4);
    g.c = want.data();
    gemm_reference(g);
    for (const SimdTarget& target : simd_targets()) {
      AlignedBuffer got = random_buffer(c.rows * stride, 4);
      g.c = got.data();
      const ForcedTarget forced(target);
      gemm(g);
      EXPECT_EQ(std::memcmp(got.data(), want.data(), c.rows * stride * sizeof(float)), 0)
          << target.name << ": " << c.rows << " rows, " << c.panels << " panels, depth " << c.depth;
    }
  }
}

// A row alone, or in any block, has the same bits; a chain cut in two calls has the bits of one.
TEST(Gemm, BitsDoNotDependOnTheBlock) {
  const std::size_t rows = 29, depth = 100, stride = kPanel;
  const AlignedBuffer a = random_buffer(rows * depth, 1), b = random_buffer(depth * kPanel, 2);
  Gemm g{.a = a.data(),
         .a_stride = depth,
         .rows = rows,
         .b = b.data(),
         .panel_stride = depth * kPanel,
         .panels = 1,
         .depth = depth,
         .c = nullptr,
         .c_stride = stride};
  AlignedBuffer whole(rows * stride), alone(rows * stride), cut(rows * stride);
  g.c = whole.data();
  gemm(g);
  for (std::size_t row = 0; row < rows; ++row) {
    Gemm one = g;
    one.a += row * depth, one.c = alone.data() + row * stride, one.rows = 1;
    gemm(one);
  }
  EXPECT_EQ(std::memcmp(whole.data(), alone.data(), rows * stride * sizeof(float)), 0);
  Gemm half = g;
  half.c = cut.data(), half.depth = 41;
  gemm(half);
  half.a += 41, half.b += 41 * kPanel, half.depth = depth - 41, half.into = Into::chain;
  gemm(half);
  EXPECT_EQ(std::memcmp(whole.data(), cut.data(), rows * stride * sizeof(float)), 0);
  half.into = Into::add;  // negative control: two partial sums are not one chain
  half.c = alone.data();
  Gemm first = g;
  first.c = alone.data(), first.depth = 41;
  gemm(first);
  gemm(half);
  EXPECT_NE(std::memcmp(whole.data(), alone.data(), rows * stride * sizeof(float)), 0);
}

}  // namespace
}  // namespace ropewalk::verify
