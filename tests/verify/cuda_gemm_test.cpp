// The device's own gemm, run on the host (host_block.h).
#include "verify/cuda/gemm_tile.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "tests/verify/gemm_problem.h"
#include "tests/verify/host_block.h"

namespace ropewalk::verify {
namespace {

template <class Element, class Out>
void run(const GemmArgs<Element, Out>& args, bool backwards) {
  for (std::uint64_t y = 0; y < (args.columns + GemmTile::kColumns - 1) / GemmTile::kColumns; ++y)
    for (std::uint64_t x = 0; x < (args.rows + GemmTile::kRows - 1) / GemmTile::kRows; ++x)
      gemm_block(HostBlock(GemmTile::kThreads, {.x = x, .y = y}, backwards), args,
                 *fresh_shared<GemmTile::Shared<Element>>());
}
template <class Element, class Out>
GemmArgs<Element, Out> args_of(const GemmProblem<Element>& p, Out* out, bool accumulate) {
  return {p.x.data(),
          p.x_stride,
          p.w.data(),
          p.w_stride,
          out,
          p.out_stride,
          p.rows,
          p.columns,
          p.depth,
          accumulate,
          p.x_stride % 8 == 0 && p.depth % 8 == 0};
}

template <class Element>
class CudaGemm : public testing::Test {};
using Elements = testing::Types<Bf16, Fp16>;
TYPED_TEST_SUITE(CudaGemm, Elements);

TYPED_TEST(CudaGemm, AgreesWithTheSumOfProducts) {
  for (const auto& [rows, columns, depth, gap] :
       {std::tuple<std::uint64_t, std::uint64_t, std::uint64_t, std::uint64_t>{1, 1, 1, 0},
        {31, 257, 96, 8},
        {257, 31, 257, 3},
        {129, 130, 64, 0},
        {5, 7, 200, 8}})
    for (const bool accumulate : {false, true}) {
      const GemmProblem<TypeParam> p(rows, columns, depth, gap);
      std::vector<float> out = p.before;
      run(args_of(p, out.data(), accumulate), rows % 2 == 0);
      const double worst = p.worst([&](std::uint64_t i) { return double(out[i]); }, accumulate, std::ldexp(1.0, -24));
      EXPECT_TRUE(worst <= 1) << worst << " of what is allowed: " << rows << " x " << columns << " x " << depth;
      for (std::uint64_t i = 0; i < out.size(); ++i)
        if (i % p.out_stride >= columns) {
          ASSERT_EQ(out[i], p.before[i]) << "writes past its columns";
        }
      std::vector<TypeParam> half(out.size());
      run(args_of(p, half.data(), false), false);
      const double u = std::ldexp(1.0, std::is_same_v<TypeParam, Bf16> ? -8 : -11);
      EXPECT_TRUE(p.worst([&](std::uint64_t i) { return GemmProblem<TypeParam>::value(half[i]); }, false, u) <= 1);
    }
}

TYPED_TEST(CudaGemm, ComparatorSeesOneProductTooFew) {
  GemmProblem<TypeParam> p(31, 33, 96, 0);
  std::vector<float> out = p.before;
  run(args_of(p, out.data(), false), false);
  p.depth = 95;
  EXPECT_FALSE(p.worst([&](std::uint64_t i) { return double(out[i]); }, false, std::ldexp(1.0, -24)) <= 1);
}

TYPED_TEST(CudaGemm, ARowsBitsDoNotDependOnItsCompany) {
  const GemmProblem<TypeParam> p(200, 40, 136, 0);
  std::vector<float> all = p.before, alone = p.before;
  run(args_of(p, all.data(), true), false);
  for (const std::uint64_t row : {0, 127, 128, 199}) {
    GemmArgs<TypeParam, float> args = args_of(p, alone.data() + row * p.out_stride, true);
    args.x += row * p.x_stride, args.rows = 1;
    run(args, true);
    EXPECT_EQ(
        std::memcmp(alone.data() + row * p.out_stride, all.data() + row * p.out_stride, p.columns * sizeof(float)), 0)
        << row;
  }
}

}  // namespace
}  // namespace ropewalk::verify
