// The attention kernels on a device against the definition in double. Label gpu; skips aloud without a device. The same
// kernels run on the host in cuda_attention_test.cpp.
#include "verify/cuda/attention.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "tests/verify/attention_problem.h"
#include "tests/verify/device_for_test.h"

namespace ropewalk::verify {
namespace {

template <class Element>
class DeviceAttention : public DeviceTest {
 protected:
  std::vector<Element> run(const AttentionProblem<Element>& problem, std::vector<float>& lse) {
    const DeviceBuffer q = upload(problem.q), k = upload(problem.k), v = upload(problem.v),
                       sinks = upload(problem.sinks);
    const DeviceBuffer out = room<Element>(problem.q.size()), sums = room<float>(problem.lse_size());
    AttentionArgs<Element> args = problem.args(out.as<Element>().data, sums.as<float>().data);
    args.q = q.as<Element>().data, args.k = k.as<Element>().data, args.v = v.as<Element>().data;
    args.sinks = problem.sinks.empty() ? nullptr : sinks.as<float>().data;
    attention(args, problem.shape.windows, stream());
    lse = download<float>(sums);
    return download<Element>(out);
  }
};
using Elements = testing::Types<float, Bf16, Fp16>;
TYPED_TEST_SUITE(DeviceAttention, Elements);

TYPED_TEST(DeviceAttention, AgreesWithTheDefinition) {
  for (const AttentionShape& shape :
       {AttentionShape{.head_dim = 64, .rows = 1},
        {.head_dim = 64, .n_heads = 4, .n_kv_heads = 2, .rows = 31, .windows = 2, .gap = 8},
        {.head_dim = 64, .rows = 257},
        {.head_dim = 64, .rows = 31, .first_position = 226},
        {.head_dim = 64, .rows = 129, .first_position = 128, .window = 70},
        {.head_dim = 64, .rows = 65, .sinks = true},
        {.head_dim = 80, .rows = 31, .first_position = 100, .window = 64},
        {.head_dim = 128, .n_heads = 8, .n_kv_heads = 2, .rows = 257, .windows = 3},
        {.head_dim = 128, .rows = 31, .first_position = 4000},
        {.head_dim = 24, .rows = 31, .gap = 3},
        {.head_dim = 37, .rows = 31},
        {.head_dim = 192, .n_heads = 1, .rows = 31},
        {.head_dim = 256, .n_heads = 1, .rows = 257, .first_position = 64, .window = 100}}) {
    const AttentionProblem<TypeParam> problem(shape);
    std::vector<float> lse, again;
    const std::vector<TypeParam> out = this->run(problem, lse), twice = this->run(problem, again);
    const double worst = worst_error(problem, out, lse);
    EXPECT_TRUE(worst <= 1) << worst << " of what is allowed: heads of " << shape.head_dim << ", rows " << shape.rows
                            << " from " << shape.first_position << ", window " << shape.window;
    EXPECT_EQ(std::memcmp(out.data(), twice.data(), out.size() * sizeof(TypeParam)) |
                  std::memcmp(lse.data(), again.data(), lse.size() * sizeof(float)),
              0)
        << "two runs give the same bits";
  }
}

TYPED_TEST(DeviceAttention, ARowsBitsDoNotDependOnItsChunk) {
  const AttentionProblem<TypeParam> problem({.head_dim = 128, .rows = 600});
  std::vector<float> lse;
  const std::vector<TypeParam> all = this->run(problem, lse);
  for (const auto& [first, rows] : {std::pair<std::uint64_t, std::uint64_t>{0, 1}, {63, 66}, {500, 100}, {599, 1}}) {
    AttentionProblem<TypeParam> chunk = problem;
    chunk.shape.first_position = first, chunk.shape.rows = rows;
    chunk.q.assign(problem.q.begin() + std::ptrdiff_t(first * problem.q_row),
                   problem.q.begin() + std::ptrdiff_t((first + rows) * problem.q_row));
    const std::vector<TypeParam> part = this->run(chunk, lse);
    EXPECT_EQ(std::memcmp(part.data(), all.data() + first * problem.q_row, part.size() * sizeof(TypeParam)), 0)
        << "rows " << rows << " from " << first;
  }
}

}  // namespace
}  // namespace ropewalk::verify
