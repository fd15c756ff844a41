// The layer sweep of a device, run on a device played on the host (host_accelerator.h), against the host's own sweep:
// chunks, offsets, slots, rings and events.
#include "verify/device_sweep.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "lib/error.h"
#include "tests/verify/device_sweeps.h"
#include "tests/verify/quantized_model.h"

namespace ropewalk::verify {
namespace {

double worst(const std::vector<std::vector<TokenScore>>& got, const std::vector<std::vector<TokenScore>>& want) {
  double out = got.size() == want.size() ? 0 : INFINITY;
  for (std::size_t w = 0; w < want.size() && out < INFINITY; ++w) {
    if (got[w].size() != want[w].size()) return INFINITY;
    for (std::size_t t = 0; t < want[w].size(); ++t) {
      const double error =
          std::abs(got[w][t].nll - want[w][t].nll) + std::abs(double(got[w][t].entropy) - double(want[w][t].entropy));
      out = error <= out ? out : std::isnan(error) ? INFINITY : error;
    }
  }
  return out;
}
// Both sides are f32 with sums in different order: a logit errs by at most about depth * 2^-24 of its terms in each of
// 3 layers and the head, 200 * 2^-24 * 10 = 1e-4; what is seen is 1e-5.
constexpr double kF32 = 1e-4;

TEST(DeviceSweep, F32AgreesWithTheHost) {
  ModelConfig plain = awkward_config(), sliding = awkward_config(), interleaved = awkward_config(),
              dynamic = awkward_config();
  sliding.sliding_window = 9, sliding.mlp_bias = false;
  interleaved.rotary_pairs = RotaryPairs::interleaved, interleaved.tied_head = true, interleaved.attention_bias = false;
  dynamic.rope.scaling = RopeDynamic{.factor = 2, .original_context = 16};
  for (const ModelConfig& config : {plain, sliding, interleaved, dynamic}) {
    const Checkpoint model = random_model(config, 1);
    const std::vector<Window> windows = windows_of({5, 5, 9, 9, 70, 1, 33, 7}, config.n_vocab);
    HostAccelerator device(1, kRoom);
    EXPECT_LT(
        worst(device_score(device, model, windows, in(Precision::f32), small()), score(model, windows, on_host())),
        kF32);
  }
}

TEST(DeviceSweep, StoredTypesAgreeWithTheHost) {
  const Checkpoint base = random_model(block_config(), 2);
  const std::vector<Window> windows = windows_of({50, 12, 12}, 97);
  for (const DType dtype : {DType::bf16, DType::f16, DType::q8_0}) {
    const Checkpoint model = stored_as(base, dtype);
    HostAccelerator device(2, kRoom);
    const auto want = score(model, windows, on_host());
    EXPECT_LT(worst(device_score(device, model, windows, in(Precision::f32), small()), want), kF32) << info(dtype).name;
    // 16 bits: some 20 roundings of 2^-9 (bf16) or 2^-12 (f16) on the way to logits of size 2 to 8.
    SweepReport report;
    EXPECT_LT(worst(device_score(device, model, windows, in(Precision::automatic, &report), small()), want),
              dtype == DType::bf16 ? 0.3 : 0.04)
        << info(dtype).name;
    EXPECT_EQ(report.precision, dtype == DType::bf16 ? "bf16" : "f16");
    EXPECT_EQ(report.device, "host");
  }
}

TEST(DeviceSweep, BytesCrossAsTheyAreStored) {
  const Checkpoint model = stored_as(random_model(block_config(), 3), DType::q8_0);
  const std::vector<Window> windows = windows_of({20}, 97);
  SweepReport report;
  HostAccelerator device(3, kRoom);
  device_score(device, model, windows, in(Precision::automatic, &report), small());
  std::uint64_t stored = 0;  // the tied head crosses again as itself; the embedding is read by the host
  for (const TensorPtr& tensor : model.tensors) stored += tensor->info().bytes();
  // Vectors stand on 256 bytes each in a slot.
  EXPECT_GE(report.weight_bytes, stored);
  EXPECT_LT(report.weight_bytes, stored + 3 * 2 * 256 + 256);
}

// Every block type there is, a matrix or two in each, cut into pieces of a few rows. f16 holds what has f16 scales, bf16
// what has a power of two beside them.
TEST(DeviceSweep, EveryBlockTypeCrossesAsItIsStored) {
  const std::vector<Window> windows = windows_of({12}, 97);
  const std::vector<DType> types = block_types_without({DType::mxfp4});
  EXPECT_EQ(types.size(), 24u);
  const Checkpoint halves = quantized_model(random_model(superblock_config(4), 30), types);
  Checkpoint with_powers = halves;
  with_powers.tensors[4] = quantized(*halves.tensors[4], DType::mxfp4);
  ASSERT_EQ(with_powers.tensors[4]->info().shape.size(), 2u);
  for (const auto& [model, precision] : {std::pair{&halves, "f16"}, {&with_powers, "bf16"}}) {
    const auto want = score(*model, windows, on_host());
    HostAccelerator device(20, kRoom), again(21, kRoom);
    SweepReport report;
    EXPECT_LT(worst(device_score(device, *model, windows, in(Precision::f32, &report), small()), want), kF32);
    std::uint64_t stored = 0;  // without the embedding, which the host reads; vectors fill their 256 bytes
    for (const TensorPtr& tensor : model->tensors)
      if (tensor->name() != "model.embed_tokens.weight") stored += tensor->info().bytes();
    EXPECT_EQ(report.weight_bytes, stored);
    EXPECT_LT(worst(device_score(again, *model, windows, in(Precision::automatic, &report), small()), want),
              precision == std::string("bf16") ? 0.3 : 0.04);  // as above
    EXPECT_EQ(report.precision, precision);
    EXPECT_EQ(report.weight_bytes, stored);
    EXPECT_GT(report.rounding.at(0).rms, 0);
  }
}

TEST(DeviceSweep, AutomaticPrecisionOfBlockTypes) {
  const auto chosen = [](std::initializer_list<DType> types) {
    return natural_type(quantized_model(random_model(superblock_config(1), 31), std::vector<DType>(types)));
  };
  EXPECT_EQ(chosen({DType::q4_k, DType::q6_k}), ElementType::f16);
  EXPECT_EQ(chosen({DType::q4_k, DType::nvfp4}), ElementType::f16);
  EXPECT_EQ(chosen({DType::nvfp4}), ElementType::bf16);
  EXPECT_EQ(chosen({DType::mxfp4}), ElementType::bf16);
  EXPECT_EQ(chosen({DType::mxfp4, DType::q8_0}), ElementType::bf16);
}

TEST(DeviceSweep, WideHeadsAreRefusedBeforeTheirWeightsAreRead) {
  ModelConfig wide = awkward_config();
  wide.n_layers = 1, wide.n_heads = 1, wide.n_kv_heads = 1, wide.head_dim = 258;
  HostAccelerator device(23, kRoom);
  try {
    device_score(device, random_model(wide, 33), windows_of({5}, wide.n_vocab), in(Precision::automatic), small());
    FAIL() << "no device attends with such heads";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::unsupported);
    EXPECT_NE(std::string(error.what()).find("a head has 258 channels; a device takes 256 at most"), std::string::npos)
        << error.what();
  }
  EXPECT_EQ(device.most_used(), 0u);
}

// The block whose scale is infinite, in a file's bytes.
TEST(DeviceSweep, BlocksThatAreNotFiniteAreRefused) {
  for (const DType dtype : {DType::q4_k, DType::q6_k, DType::iq4_xs}) {
    const std::vector<DType> types = {dtype};
    Checkpoint model = quantized_model(random_model(superblock_config(1), 32), types);
    TensorPtr& tensor = model.tensors[model.tensors.size() - 3];
    ASSERT_EQ(tensor->info().shape.size(), 2u) << tensor->name();
    const TensorInfo info = tensor->info();
    std::vector<std::byte> bytes(info.bytes());
    tensor->read_raw({0, info.rows()}, bytes);
    const std::size_t row = 20, scale = info.row_bytes() * row + (dtype == DType::q6_k ? 208 : 0);  // a block a row
    bytes[scale] = std::byte{0}, bytes[scale + 1] = std::byte{0x7c};
    tensor = memory_tensor(info, bytes);
    HostAccelerator device(22, kRoom);
    try {
      device_score(device, model, windows_of({5}, 97), in(Precision::automatic), small());
      FAIL() << "an infinite scale passed";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::bad_input);
      EXPECT_NE(std::string(error.what()).find(info.name + "' holds "), std::string::npos) << error.what();
      EXPECT_NE(std::string(error.what()).find("in row 20, column "), std::string::npos) << error.what();
    }
  }
}

TEST(DeviceSweep, AWindowsBitsDoNotDependOnItsCompany) {
  const Checkpoint model = stored_as(random_model(block_config(), 6), DType::bf16);
  const std::vector<Window> windows = windows_of({40, 11, 11, 50}, 97);
  HostAccelerator device(4, kRoom);
  const auto together = device_score(device, model, windows, in(Precision::automatic), small());
  for (std::size_t w = 0; w < windows.size(); ++w)
    EXPECT_TRUE(same(device_score(device, model, {&windows[w], 1}, in(Precision::automatic), small()), {together[w]}))
        << w;
}

TEST(DeviceSweep, WithoutItsWaitsTheResultIsWrong) {
  const Checkpoint model = stored_as(random_model(block_config(), 7), DType::f16);
  const std::vector<Window> windows = windows_of({60, 20}, 97);
  HostAccelerator device(1, kRoom);
  const auto want = device_score(device, model, windows, in(Precision::bf16), small());
  int wrong = 0;
  for (unsigned seed = 0; seed < 4; ++seed) {
    HostAccelerator deaf(seed, kRoom);
    deaf.deaf = true;
    wrong += same(device_score(deaf, model, windows, in(Precision::bf16), small()), want) ? 0 : 1;
  }
  EXPECT_GT(wrong, 0) << "the played device runs nothing out of order: the other tests prove nothing";
}

TEST(DeviceSweep, CompareAgreesWithTheHost) {
  const Checkpoint a = random_model(awkward_config(), 8), b = random_model(awkward_config(), 9);
  const std::vector<Window> windows = windows_of({44, 10, 10, 1}, a.config.n_vocab);
  HostAccelerator device(5, kRoom);
  const PairResult got = device_compare(device, a, b, windows, in(Precision::f32), small()),
                   want = compare(a, b, windows, on_host());
  ASSERT_EQ(got.scores.size(), want.scores.size());
  ASSERT_EQ(got.layer_distance.size(), want.layer_distance.size());
  for (std::size_t layer = 0; layer < want.layer_distance.size(); ++layer)
    EXPECT_NEAR(got.layer_distance[layer], want.layer_distance[layer], 1e-5);
  for (std::size_t w = 0; w < windows.size(); ++w) {
    ASSERT_EQ(got.scores[w].size(), want.scores[w].size());
    for (std::size_t t = 0; t < windows[w].size(); ++t) {
      EXPECT_NEAR(got.scores[w][t].kl, want.scores[w][t].kl, kF32 * 10);  // up to 10 nats between these two
      EXPECT_NEAR(got.scores[w][t].nll_a, want.scores[w][t].nll_a, kF32);
      EXPECT_NEAR(got.scores[w][t].nll_b, want.scores[w][t].nll_b, kF32);
      EXPECT_EQ(got.scores[w][t].same_top1, want.scores[w][t].same_top1);
    }
  }
}

TEST(DeviceSweep, AModelAgainstItselfIsExactlyZeroSpilledOrNot) {
  const Checkpoint model = stored_as(random_model(block_config(), 10), DType::bf16);
  const std::vector<Window> windows = windows_of({150, 150, 90}, 97);
  SweepReport report;
  HostAccelerator roomy(6, kRoom);
  device_compare(roomy, model, model, windows, in(Precision::automatic, &report), small());
  bool spilled = false;
  for (std::uint64_t limit = report.device_bytes; !spilled;) {
    HostAccelerator device(7, limit);
    SweepReport one;
    const PairResult result = device_compare(device, model, model, windows, in(Precision::automatic, &one), small());
    for (const double distance : result.layer_distance) EXPECT_EQ(distance, 0);
    for (const auto& window : result.scores)
      for (const PairScore& score : window) EXPECT_TRUE(score.kl == 0 && score.same_top1 && score.nll_a == score.nll_b);
    spilled = one.spilled;
    limit = one.device_bytes - 1;
  }
}

TEST(DeviceSweep, ModelsOfDifferentDepthAreComparedWithoutLayerDistances) {
  ModelConfig shallow = awkward_config();
  shallow.n_layers = 1;
  const Checkpoint a = random_model(awkward_config(), 11), b = random_model(shallow, 12);
  const std::vector<Window> windows = windows_of({40}, a.config.n_vocab);
  HostAccelerator device(8, kRoom);
  const PairResult got = device_compare(device, a, b, windows, in(Precision::f32), small()),
                   want = compare(a, b, windows, on_host());
  EXPECT_TRUE(got.layer_distance.empty());
  for (std::size_t t = 0; t < 40; ++t) EXPECT_NEAR(got.scores[0][t].kl, want.scores[0][t].kl, kF32 * 10);
}

// A head larger than the layers beside it, next to large layers: all slots must go before any head comes.
TEST(DeviceSweep, ModelsOfDifferentSizeKeepToTheirPlan) {
  ModelConfig small_layers = block_config(), large_layers = block_config();
  small_layers.n_vocab = large_layers.n_vocab = 701;
  small_layers.n_layers = 1, small_layers.d_ff = 16;
  large_layers.d_ff *= 4, large_layers.n_layers = 3;
  const Checkpoint a = random_model(small_layers, 13), b = random_model(large_layers, 14);
  const std::vector<Window> windows = windows_of({8}, 97);
  for (const auto& [first, second] : {std::pair(&a, &b), std::pair(&b, &a)}) {
    SweepReport report;
    HostAccelerator roomy(9, kRoom);
    const PairResult want = device_compare(roomy, *first, *second, windows, in(Precision::f32, &report), small());
    EXPECT_LE(roomy.most_used(), report.device_bytes);
    HostAccelerator exact(10, report.device_bytes);
    const PairResult got = device_compare(exact, *first, *second, windows, in(Precision::f32), small());
    for (std::size_t t = 0; t < 8; ++t) EXPECT_EQ(got.scores[0][t].kl, want.scores[0][t].kl);
  }
}

TEST(DeviceSweep, LogitsOfTheLastPositions) {
  const Checkpoint model = random_model(awkward_config(), 13);
  const Window window = random_ids(61, model.config.n_vocab, 1);
  HostAccelerator device(9, kRoom);
  for (const int last : {0, 1, 30}) {
    const LogitsResult got = device_logits(device, model, window, last, in(Precision::f32), small()),
                       want = logits(model, window, last, on_host());
    ASSERT_EQ(got.logits.size(), want.logits.size());
    ASSERT_EQ(got.nll.size(), want.nll.size());
    for (std::size_t i = 0; i < want.logits.size(); ++i) ASSERT_NEAR(got.logits[i], want.logits[i], kF32) << i;
  }
}

TEST(DeviceSweep, WhatDoesNotFitF16IsComputedInBf16) {
  const Checkpoint model = stored_as(random_model(block_config(), 14), DType::f16, 800);
  const std::vector<Window> windows = windows_of({30}, 97);
  SweepReport report;
  HostAccelerator device(10, kRoom);
  const auto scores = device_score(device, model, windows, in(Precision::automatic, &report), small());
  EXPECT_EQ(report.precision, "bf16");
  EXPECT_NE(report.note.find("f16"), std::string::npos);
  for (const TokenScore& score : scores[0]) EXPECT_TRUE(std::isfinite(score.nll));
}

TEST(DeviceSweep, WeightsThatAreNotFiniteAreRefused) {
  Checkpoint model = stored_as(random_model(block_config(), 15), DType::bf16);
  const std::vector<Window> windows = windows_of({30}, 97);
  HostAccelerator device(11, kRoom);
  TensorPtr& tensor = model.tensors[model.tensors.size() - 2];
  ASSERT_EQ(tensor->info().shape.size(), 2u) << tensor->name();
  std::vector<std::byte> bytes(tensor->info().bytes());
  tensor->read_raw({0, tensor->info().rows()}, bytes);
  bytes[4000] = std::byte{0x80}, bytes[4001] = std::byte{0x7f};  // infinity
  const TensorInfo info = tensor->info();
  tensor = memory_tensor(info, bytes);
  try {
    device_score(device, model, windows, in(Precision::automatic), small());
    FAIL() << "an infinite weight passed";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_input);
    EXPECT_NE(std::string(error.what()).find(info.name + "' holds an infinity in row 20, column 80"), std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace ropewalk::verify
