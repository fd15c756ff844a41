// Both gemms on a device against the sums of products. Label gpu; skips aloud without a device.
#include "verify/cuda/gemm.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstring>
#include <vector>

#include "tests/verify/device_for_test.h"
#include "tests/verify/gemm_problem.h"

namespace ropewalk::verify {
namespace {

template <class Element>
class DeviceGemm : public DeviceTest {
 protected:
  std::vector<float> run(Gemms& gemms, const GemmProblem<Element>& p, std::uint64_t first, std::uint64_t rows,
                         bool accumulate) {
    const DeviceBuffer x = upload(p.x), w = upload(p.w), out = upload(p.before);
    const DeviceRows<const Element> from{x.template as<const Element>().data + first * p.x_stride, rows, p.depth,
                                         p.x_stride},
        weights{w.template as<const Element>().data, p.columns, p.depth, p.w_stride};
    const DeviceRows<float> to{out.template as<float>().data + first * p.out_stride, rows, p.columns, p.out_stride};
    gemms.template multiply<Element>(from, weights, accumulate, to, stream());
    return download<float>(out);
  }
};
using Elements = testing::Types<Bf16, Fp16>;
TYPED_TEST_SUITE(DeviceGemm, Elements);

TYPED_TEST(DeviceGemm, AgreesWithTheSumOfProducts) {
  Gemms own(this->memory(), false), library(this->memory());
  std::printf("library: %s\n", library.name().c_str());
  for (Gemms* gemms : {&own, &library})
    for (const auto& [rows, columns, depth, gap] :
         {std::tuple<std::uint64_t, std::uint64_t, std::uint64_t, std::uint64_t>{1, 1, 1, 0},
          {31, 257, 96, 8},
          {257, 31, 257, 3},
          {129, 130, 64, 0},
          {257, 576, 1536, 0}})
      for (const bool accumulate : {false, true}) {
        const GemmProblem<TypeParam> p(rows, columns, depth, gap);
        const std::vector<float> out = this->run(*gemms, p, 0, rows, accumulate),
                                 twice = this->run(*gemms, p, 0, rows, accumulate);
        const double worst = p.worst([&](std::uint64_t i) { return double(out[i]); }, accumulate, std::ldexp(1.0, -24));
        EXPECT_TRUE(worst <= 1) << worst << " of what is allowed: " << rows << " x " << columns << " x " << depth
                                << ", " << gemms->name();
        EXPECT_EQ(out, twice) << "two runs give the same bits";
      }
}

TYPED_TEST(DeviceGemm, ARowsBitsDoNotDependOnItsChunk) {
  Gemms own(this->memory(), false), library(this->memory());
  for (Gemms* gemms : {&own, &library}) {
    const GemmProblem<TypeParam> p(600, 256, 512, 0);
    const std::vector<float> all = this->run(*gemms, p, 0, 600, true);
    for (const auto& [first, rows] : {std::pair<std::uint64_t, std::uint64_t>{0, 1}, {100, 31}, {128, 257}, {599, 1}}) {
      const std::vector<float> part = this->run(*gemms, p, first, rows, true);
      EXPECT_EQ(std::memcmp(part.data() + first * p.out_stride, all.data() + first * p.out_stride,
                            rows * p.out_stride * sizeof(float)),
                0)
          << rows << " from " << first << ", " << gemms->name();
    }
  }
}

}  // namespace
}  // namespace ropewalk::verify
