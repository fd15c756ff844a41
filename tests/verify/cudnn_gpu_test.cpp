// cuDNN's attention on a device against the definition in double, and beside our own. Label gpu; skips aloud without a
// device or without cuDNN. That its plans are built at all, cudnn_plans_test.cpp shows without either.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstring>
#include <utility>
#include <vector>

#include "tests/verify/attention_problem.h"
#include "tests/verify/device_for_test.h"
#include "verify/cuda/attentions.h"

namespace ropewalk::verify {
namespace {

template <class Element>
class CudnnAttention : public DeviceTest {
 protected:
  void SetUp() override {
    DeviceTest::SetUp();
    if (IsSkipped()) return;
    const CudnnSdpa cudnn;
    if (!cudnn.why_not().empty()) GTEST_SKIP() << "SKIPPED: cuDNN was not tested: " << cudnn.why_not();
    attentions_ = std::make_unique<Attentions>(memory(), AttentionBy::cudnn);
  }

  std::vector<Element> run(const AttentionProblem<Element>& problem, std::vector<float>* lse, std::uint64_t positions) {
    const DeviceBuffer q = upload(problem.q), k = upload(problem.k), v = upload(problem.v);
    const DeviceBuffer out = upload(std::vector<Element>(problem.q.size())), sums = room<float>(problem.lse_size());
    AttentionArgs<Element> args = problem.args(out.template as<Element>().data, nullptr);
    args.q = q.template as<Element>().data, args.k = k.template as<Element>().data,
    args.v = v.template as<Element>().data;
    if (lse) args.lse = sums.template as<float>().data;
    attentions_->attend<Element>(args, problem.shape.windows, positions, stream());
    if (lse) *lse = download<float>(sums);
    return download<Element>(out);
  }

  std::unique_ptr<Attentions> attentions_;
};
using Elements = testing::Types<Bf16, Fp16>;
TYPED_TEST_SUITE(CudnnAttention, Elements);

// Lengths that are multiples of the kernels' tiles and such that are not take turns: all of a family share a kernel.
TYPED_TEST(CudnnAttention, AgreesWithTheDefinition) {
  for (const AttentionShape& shape :
       {AttentionShape{.head_dim = 64, .rows = 128},
        {.head_dim = 64, .rows = 257},
        {.head_dim = 64, .rows = 31, .first_position = 226},
        {.head_dim = 64, .rows = 128, .first_position = 128},
        {.head_dim = 64, .rows = 1, .first_position = 300},
        {.head_dim = 64, .rows = 2},
        {.head_dim = 64, .n_heads = 4, .n_kv_heads = 2, .rows = 31, .windows = 2, .gap = 8},
        {.head_dim = 64, .n_heads = 4, .n_kv_heads = 2, .rows = 256, .windows = 3},
        {.head_dim = 64, .rows = 129, .first_position = 128, .window = 70},
        {.head_dim = 64, .rows = 128, .first_position = 384, .window = 70},
        {.head_dim = 80, .rows = 31, .first_position = 100, .window = 64},
        {.head_dim = 128, .n_heads = 8, .n_kv_heads = 2, .rows = 257, .windows = 3},
        {.head_dim = 128, .n_heads = 8, .n_kv_heads = 2, .rows = 128, .first_position = 896},
        {.head_dim = 128, .rows = 31, .first_position = 4000},
        {.head_dim = 128, .rows = 128, .first_position = 3968, .window = 1000},
        {.head_dim = 256, .n_heads = 1, .rows = 257, .first_position = 64, .window = 100},
        {.head_dim = 256, .n_heads = 2, .rows = 128, .first_position = 128}}) {
    const AttentionProblem<TypeParam> problem(shape);
    std::vector<float> lse, again;
    const std::vector<TypeParam> out = this->run(problem, &lse, problem.positions),
                                 twice = this->run(problem, &again, problem.positions),
                                 alone = this->run(problem, nullptr, problem.positions);
    const std::string where = "heads of " + std::to_string(shape.head_dim) + ", rows " + std::to_string(shape.rows) +
                              " from " + std::to_string(shape.first_position) + ", window " +
                              std::to_string(shape.window);
    const double worst = worst_error(problem, out, lse), without_lse = worst_error(problem, alone, {});
    EXPECT_TRUE(worst <= 1) << worst << " of what is allowed: " << where;
    EXPECT_TRUE(without_lse <= 1) << without_lse << " of what is allowed, no ln-sum-exp asked for: " << where;
    EXPECT_EQ(std::memcmp(out.data(), twice.data(), out.size() * sizeof(TypeParam)) |
                  std::memcmp(lse.data(), again.data(), lse.size() * sizeof(float)),
              0)
        << "two runs give the same bits: " << where;
  }
}

// As a sweep cuts windows (batch.h): chunks of a power of two, from 128 on, or one less, the last as long as it is, two
// rows at least.
TYPED_TEST(CudnnAttention, ARowsBitsDoNotDependOnItsChunk) {
  for (const std::uint64_t window : {0, 200}) {
    const AttentionProblem<TypeParam> problem({.head_dim = 128, .rows = 1111, .window = window});
    const std::vector<TypeParam> all = this->run(problem, nullptr, problem.positions);
    for (const auto& [first, rows] : {std::pair<std::uint64_t, std::uint64_t>{0, 128},
                                      {128, 128},
                                      {512, 512},
                                      {1024, 87},
                                      {256, 256},
                                      {512, 511},
                                      {1109, 2}}) {
      AttentionProblem<TypeParam> chunk = problem;
      chunk.shape.first_position = first, chunk.shape.rows = rows;
      chunk.q.assign(problem.q.begin() + std::ptrdiff_t(first * problem.q_row),
                     problem.q.begin() + std::ptrdiff_t((first + rows) * problem.q_row));
      const std::vector<TypeParam> part = this->run(chunk, nullptr, problem.positions);
      EXPECT_EQ(std::memcmp(part.data(), all.data() + first * problem.q_row, part.size() * sizeof(TypeParam)), 0)
          << "rows " << rows << " from " << first << ", window " << window;
    }
  }
}

// Keys and values whose rows lie 2^27 elements apart: the last of 20 stands past 2^31.
TYPED_TEST(CudnnAttention, OffsetsTakeMoreThan32Bits) {
  constexpr std::uint64_t kFar = std::uint64_t{1} << 27, kRows = 20;
  const AttentionProblem<TypeParam> problem({.head_dim = 64, .n_heads = 2, .n_kv_heads = 1, .rows = kRows});
  const std::uint64_t elements = (kRows - 1) * kFar + 128;
  if (this->memory().limit() < elements * sizeof(TypeParam) + (std::uint64_t{64} << 20))
    GTEST_SKIP() << "SKIPPED: 64-bit offsets were not tested: the device has less than 6 GB free";
  const DeviceBuffer far = this->template room<TypeParam>(elements), q = this->upload(problem.q),
                     out = this->upload(std::vector<TypeParam>(problem.q.size()));
  for (std::uint64_t row = 0; row < kRows; ++row)
    for (const auto& [from, place] : {std::pair{&problem.k, 0}, {&problem.v, 64}})
      copy_to_device(std::as_bytes(std::span(*from).subspan(row * problem.kv_row, 64)),
                     {reinterpret_cast<std::byte*>(far.as<TypeParam>().data + row * kFar + place), 128},
                     this->stream());
  AttentionArgs<TypeParam> args = problem.args(out.as<TypeParam>().data, nullptr);
  args.q = q.as<TypeParam>().data, args.k = far.as<TypeParam>().data, args.v = args.k + 64;
  args.kv_row = kFar, args.kv_window = kRows * kFar;
  this->attentions_->template attend<TypeParam>(args, 1, kRows, this->stream());
  EXPECT_LE(worst_error(problem, this->template download<TypeParam>(out), {}), 1);
}

class WhoAttends : public DeviceTest {};

TEST_F(WhoAttends, IsTold) {
  const AttentionProblem<Bf16> problem({.head_dim = 64, .rows = 64});
  const DeviceBuffer q = upload(problem.q), k = upload(problem.k), v = upload(problem.v), out = upload(problem.q);
  AttentionArgs<Bf16> args = problem.args(out.as<Bf16>().data, nullptr);
  args.q = q.as<Bf16>().data, args.k = k.as<Bf16>().data, args.v = v.as<Bf16>().data;
  const CudnnSdpa cudnn;

  Attentions own(memory(), AttentionBy::own), chosen(memory(), AttentionBy::automatic);
  own.attend<Bf16>(args, 1, 100000, stream());
  EXPECT_EQ(own.name(), "own attention");
  chosen.attend<Bf16>(args, 1, 64, stream());
  EXPECT_EQ(chosen.name(), "own attention") << "the window is short";
  chosen.attend<Bf16>(args, 1, Attentions::kFewestPositions, stream());
  if (cudnn.why_not().empty()) EXPECT_EQ(chosen.name(), cudnn.name() + ", and own attention of short windows");
  else EXPECT_EQ(chosen.name(), "own attention (" + cudnn.why_not() + ")");

  args.out = const_cast<Bf16*>(args.q);  // which cuDNN is not asked for
  Attentions refusing(memory(), AttentionBy::automatic);
  refusing.attend<Bf16>(args, 1, Attentions::kFewestPositions, stream());
  EXPECT_EQ(refusing.name(), "own attention (the output takes the queries' place)");
  try {
    Attentions strict(memory(), AttentionBy::cudnn);
    strict.attend<Bf16>(args, 1, 64, stream());
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), cudnn.why_not().empty() ? ErrorKind::unsupported : ErrorKind::device) << error.what();
  }
  stream().synchronize();
}

// No assertion: scripts/gpu-check keeps what it prints.
TEST_F(WhoAttends, IsTimed) {
  constexpr std::uint32_t kHeads = 32, kWidth = 128;
  constexpr std::uint64_t kRows = 4096, kKeys = 131072, kRow = std::uint64_t{kHeads} * kWidth;
  const auto some = [&](std::uint64_t rows, unsigned seed) {
    std::vector<Bf16> values(rows * kRow);
    const std::vector<float> period = random_floats(std::size_t{1} << 20, seed);
    for (std::size_t i = 0; i < values.size(); ++i) store(period[i % period.size()], values[i]);
    return upload(values);
  };
  const DeviceBuffer q = some(kRows, 1), k = some(kKeys, 2), v = some(kKeys, 3), out = room<Bf16>(kRows * kRow);
  AttentionArgs<Bf16> args{};
  args.q = q.as<Bf16>().data, args.k = k.as<Bf16>().data, args.v = v.as<Bf16>().data, args.out = out.as<Bf16>().data;
  args.q_row = args.out_row = args.kv_row = kRow;
  args.q_window = args.out_window = kRows * kRow, args.kv_window = kKeys * kRow;
  args.n_heads = args.n_kv_heads = kHeads, args.head_dim = kWidth, args.scale = 0.0883883461F;
  args.rows = kRows;
  for (const std::uint64_t keys : {kRows, kKeys}) {
    args.first_position = keys - kRows;
    const double pairs = double(kRows) * (double(args.first_position) + double(kRows + 1) / 2);
    for (const AttentionBy by : {AttentionBy::own, AttentionBy::automatic}) {
      Attentions attentions(memory(), by);
      double best = 0;
      for (int i = 0; i < 6; ++i) {  // the first compiles
        Event begin, end;
        begin.record(stream());
        attentions.attend<Bf16>(args, 1, kKeys, stream());
        end.record(stream());
        end.wait();
        const double ms = end.milliseconds_since(begin);
        if (i > 0 && (i == 1 || ms < best)) best = ms;
      }
      std::printf("timing: attention, 7B shape, 4096 rows against %llu keys: %.3f ms, %.0f TFLOP/s by %s\n",
                  static_cast<unsigned long long>(keys), best, 4 * pairs * kWidth * kHeads / best / 1e9,
                  attentions.name().c_str());
    }
  }
}

}  // namespace
}  // namespace ropewalk::verify
