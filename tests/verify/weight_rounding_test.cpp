#include "verify/weight_rounding.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <random>

#include "lib/codecs/decode.h"
#include "lib/codecs/encode.h"
#include "lib/convert.h"
#include "tests/verify/device_sweeps.h"
#include "tests/verify/random_adapters.h"
#include "tests/verify/simd_targets_for_test.h"

namespace ropewalk::verify {
namespace {

/// By the definition, one value after another.
RoundingSums by_definition(std::span<const float> values, DType to) {
  RoundingSums out;
  for (const float w : values) {
    const double rounded = to == DType::bf16 ? double(bf16_to_f32(f32_to_bf16(w))) : double(f16_to_f32(f32_to_f16(w)));
    const double error = (std::isfinite(rounded) ? rounded : 0) - double(w);
    out.add({double(w) * double(w), error * error, w == 0 ? 0 : std::abs(error) / std::abs(double(w))});
  }
  return out;
}

TEST(WeightRounding, IsWhatItsDefinitionSays) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0, 0.02f);
  for (const std::size_t n : {std::size_t{1}, std::size_t{31}, std::size_t{4096}, std::size_t{10003}}) {
    std::vector<float> values(n);
    for (float& x : values) x = normal(random);
    if (n > 40) values[3] = 0, values[7] = 1e6f;  // past f16
    for (const DType to : {DType::bf16, DType::f16}) {
      const RoundingSums got = measure_rounding(DType::f32, std::as_bytes(std::span(values)), to),
                         want = by_definition(values, to);
      // sums of at most 10003 doubles in another order; the largest is a quotient of floats
      EXPECT_NEAR(got.squares, want.squares, 1e-11 * want.squares);
      EXPECT_NEAR(got.error_squares, want.error_squares, 1e-11 * want.error_squares);
      EXPECT_NEAR(got.largest, want.largest, 1e-6 * want.largest);
      EXPECT_GT(want.largest, 0);
      if (n > 40 && to == DType::f16) {
        EXPECT_EQ(got.largest, 1) << "lost entirely";
      }
    }
  }
}

TEST(WeightRounding, TheSameBitsOnEveryTarget) {
  std::vector<float> values(10003);
  std::mt19937 random(4);
  for (float& x : values) x = std::normal_distribution<float>(0, 0.02f)(random);
  const auto measured = [&] { return measure_rounding(DType::f32, std::as_bytes(std::span(values)), DType::bf16); };
  const RoundingSums want = measured();
  for (const SimdTarget& target : simd_targets()) {
    const ForcedTarget forced(target);
    const RoundingSums got = measured();
    EXPECT_TRUE(got.squares == want.squares && got.error_squares == want.error_squares && got.largest == want.largest)
        << target.name;
  }
}

TEST(WeightRounding, OfEveryHalfAndOfBlocks) {
  std::vector<float> halves;
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits)
    if ((bits & 0x7c00) != 0x7c00) halves.push_back(f16_to_f32(static_cast<std::uint16_t>(bits)));
  std::vector<std::byte> stored(halves.size() * 2);
  encode_f32(DType::f16, halves, stored);
  const RoundingSums got = measure_rounding(DType::f16, stored, DType::bf16), want = by_definition(halves, DType::bf16);
  EXPECT_NEAR(got.error_squares, want.error_squares, 1e-10 * want.error_squares);
  // 8 significant bits of 11: the worst is 1 + 2^-8 on its way to 1 or 1 + 2^-7
  EXPECT_NEAR(got.largest, std::ldexp(1.0, -8) / (1 + std::ldexp(1.0, -8)), 1e-9);
  EXPECT_EQ(measure_rounding(DType::f16, stored, DType::f16).largest, 0);

  std::vector<float> values(96);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = float(std::sin(double(i)));
  std::vector<std::byte> blocks(3 * 34);
  encode_f32(DType::q8_0, values, blocks);
  decode_f32(DType::q8_0, blocks, values);
  const RoundingSums q = measure_rounding(DType::q8_0, blocks, DType::bf16),
                     q_want = by_definition(values, DType::bf16);
  EXPECT_NEAR(q.error_squares, q_want.error_squares, 1e-12 * q_want.error_squares);
}

/// Blocks of `dtype` with every value of its scale's byte that gives finite values, every code under each.
std::vector<std::byte> every_small_block(DType dtype) {
  std::vector<std::byte> out;
  for (int scale = 0; scale <= (dtype == DType::mxfp4 ? 252 : 126); ++scale) {  // 253: 12 * 2^125 is past f32
    std::vector<std::byte> block(std::size_t(info(dtype).block_bytes));
    const std::size_t scales = dtype == DType::mxfp4 ? 1 : 4;
    for (std::size_t at = 0; at < block.size(); ++at)
      block[at] = static_cast<std::byte>(at < scales ? scale : int((at - scales) % 16 * 0x11));
    out.insert(out.end(), block.begin(), block.end());
  }
  return out;
}

// Which 16-bit type rounds a block type less: bf16 holds each value of mxfp4 and nvfp4, f16 those of nvfp4 alone.
TEST(WeightRounding, OfBlocksWithScalesOfTheirOwn) {
  for (const DType dtype : {DType::mxfp4, DType::nvfp4}) {
    const std::vector<std::byte> blocks = every_small_block(dtype);
    const RoundingSums kept = measure_rounding(dtype, blocks, DType::bf16);
    EXPECT_GT(kept.squares, 0);
    EXPECT_EQ(kept.largest, 0) << info(dtype).name;
    EXPECT_FALSE(has_f16_scales(dtype));
  }
  EXPECT_EQ(measure_rounding(DType::mxfp4, every_small_block(DType::mxfp4), DType::f16).largest, 1) << "lost entirely";
  EXPECT_EQ(measure_rounding(DType::nvfp4, every_small_block(DType::nvfp4), DType::f16).largest, 0) << "of few bits";
  int others = 0;
  std::mt19937 random(2);
  for (const DTypeInfo& type : kDTypes) {
    if (!has_f16_scales(type.dtype) || !has_block_encoder(type.dtype) ||
        importances_of(type.dtype) == Importances::required)
      continue;
    std::vector<float> values(1024);
    for (float& x : values) x = std::normal_distribution<float>(0, 0.02f)(random);
    std::vector<std::byte> blocks(*byte_size(type.dtype, values.size()));
    encode_blocks(type.dtype, values, values.size(), {}, blocks);
    const RoundingSums f16 = measure_rounding(type.dtype, blocks, DType::f16),
                       bf16 = measure_rounding(type.dtype, blocks, DType::bf16);
    EXPECT_LT(f16.error_squares, bf16.error_squares) << type.name;
    // +-1, 2 or 0 times an f16: nothing is added
    const bool is_exact =
        std::ranges::count(std::array{DType::q1_0, DType::q2_0, DType::tq1_0, DType::tq2_0}, type.dtype);
    EXPECT_EQ(f16.largest == 0, is_exact) << type.name;
    ++others;
  }
  EXPECT_GE(others, 10);
  EXPECT_FALSE(has_f16_scales(DType::f16)) << "no block type";
}

SweepReport report_of(const Checkpoint& model, Precision precision) {
  SweepReport report;
  HostAccelerator device(1, kRoom);
  device_score(device, model, windows_of({9}, model.config.n_vocab), in(precision, &report), small());
  return report;
}

TEST(WeightRounding, ASweepReportsWhatItRounds) {
  ModelConfig config = awkward_config();
  config.d_model = 64, config.d_ff = 96;
  const Checkpoint model = random_model(config, 2);
  RoundingSums want;  // of what is multiplied: layers and head, not the embedding
  for (const TensorPtr& tensor : model.tensors) {
    if (tensor->info().shape.size() != 2 || tensor->name() == "model.embed_tokens.weight") continue;
    std::vector<float> values(tensor->info().elements());
    tensor->read_f32({0, tensor->info().rows()}, values);
    want.add(by_definition(values, DType::bf16));
  }
  const SweepReport report = report_of(model, Precision::bf16);
  ASSERT_EQ(report.rounding.size(), 1u);
  EXPECT_NEAR(report.rounding[0].largest, want.largest, 1e-6 * want.largest);
  EXPECT_NEAR(report.rounding[0].rms, std::sqrt(want.error_squares / want.squares), 1e-9);
  // spacing 2^-7 between 1 and 2: errors of 2^-8 / sqrt 3 of values between one and two times that
  EXPECT_LT(report.rounding[0].rms, std::ldexp(1.0, -8) / std::sqrt(3.0));
  EXPECT_GT(report.rounding[0].rms, std::ldexp(1.0, -9) / std::sqrt(3.0));

  EXPECT_EQ(report_of(model, Precision::f32).rounding[0].largest, 0) << "exact terms";
  EXPECT_EQ(report_of(stored_as(model, DType::bf16), Precision::bf16).rounding[0].largest, 0) << "as stored";
  EXPECT_EQ(report_of(stored_as(model, DType::f16), Precision::automatic).rounding[0].largest, 0) << "as stored";
  EXPECT_GT(report_of(stored_as(model, DType::f16), Precision::bf16).rounding[0].rms, 1e-4);
  EXPECT_EQ(report_of(with_random_adapters(stored_as(model, DType::bf16), all_modules(), 3, true), Precision::bf16)
                .rounding[0]
                .largest,
            0)
      << "factors of adapters are held in terms";
}

// Of a model stored in two types only what is rounded counts, in the sum of squares too.
TEST(WeightRounding, OfAMixedModelIsThatOfWhatIsRounded) {
  ModelConfig config = awkward_config();
  config.d_model = 64, config.d_ff = 96;
  Checkpoint model = random_model(config, 2);
  RoundingSums want;
  for (TensorPtr& tensor : model.tensors) {
    if (tensor->info().shape.size() != 2) continue;
    if (tensor->name().find("down_proj") == std::string::npos) {
      tensor = cast(tensor, DType::bf16);
      continue;
    }
    std::vector<float> values(tensor->info().elements());
    tensor->read_f32({0, tensor->info().rows()}, values);
    want.add(by_definition(values, DType::bf16));
  }
  const SweepReport report = report_of(model, Precision::bf16);
  EXPECT_NEAR(report.rounding[0].largest, want.largest, 1e-6 * want.largest);
  EXPECT_NEAR(report.rounding[0].rms, std::sqrt(want.error_squares / want.squares), 1e-9);
}

TEST(WeightRounding, TheTypeThatRoundsTheStoredWeightsLessIsChosen) {
  ModelConfig config = awkward_config();
  config.d_model = 64, config.d_ff = 128, config.n_heads = 4, config.n_kv_heads = 2, config.head_dim = 16;
  const Checkpoint model = random_model(config, 3);
  EXPECT_EQ(report_of(stored_as(model, DType::q8_0), Precision::automatic).precision, "f16");
  const auto in_small_blocks = [](const TensorPtr& tensor) {
    std::vector<float> values(tensor->info().elements());
    tensor->read_f32({0, tensor->info().rows()}, values);
    TensorInfo stored = tensor->info();
    stored.dtype = DType::mxfp4;
    std::vector<std::byte> blocks(stored.bytes());
    encode_blocks(DType::mxfp4, values, stored.columns(), {}, blocks);
    return memory_tensor(stored, std::move(blocks));
  };
  Checkpoint blocks = model;
  for (TensorPtr& tensor : blocks.tensors)
    if (tensor->info().shape.size() == 2) tensor = in_small_blocks(tensor);
  const SweepReport small = report_of(blocks, Precision::automatic);
  EXPECT_EQ(small.precision, "bf16");
  EXPECT_EQ(small.rounding[0].largest, 0);
  Checkpoint mixed = stored_as(model, DType::q8_0);
  for (std::size_t i = 0; i < mixed.tensors.size(); ++i)
    if (mixed.tensors[i]->name() == "model.layers.1.mlp.down_proj.weight")
      mixed.tensors[i] = in_small_blocks(model.tensors[i]);
  EXPECT_EQ(report_of(mixed, Precision::automatic).precision, "bf16") << "f16 would flush its small blocks";
}

TEST(WeightRounding, IsMeasuredOnceForEachModelAndType) {
  const Checkpoint model = random_model(awkward_config(), 5);
  const std::vector<Window> windows = windows_of({9}, model.config.n_vocab);
  KnownRounding known;
  const auto sweep = [&](const Checkpoint& one, Precision precision) {
    SweepReport report;
    SweepOptions options = in(precision, &report);
    options.known = &known;
    HostAccelerator device(1, kRoom);
    device_score(device, one, windows, options, small());
    return report.rounding.at(0);
  };
  const WeightRounding measured = sweep(model, Precision::bf16);
  EXPECT_EQ(measured.rms, report_of(model, Precision::bf16).rounding[0].rms);
  ASSERT_TRUE(known.find(model, DType::bf16));
  EXPECT_EQ(known.find(model, DType::bf16)->largest, measured.largest);
  EXPECT_FALSE(known.find(model, DType::f16));
  EXPECT_EQ(sweep(model, Precision::bf16).rms, measured.rms);
  EXPECT_EQ(sweep(model, Precision::f32).rms, 0) << "exact terms";

  // Believed, so not measured again; and only of that model and type.
  const Checkpoint same_first = with_random_adapters(model, {"down_proj"}, 6, false);
  ASSERT_EQ(same_first.tensors.front(), model.tensors.front());
  KnownRounding told;
  told.add(model, DType::bf16, {0.5, 0.25});
  known = told;
  EXPECT_EQ(sweep(model, Precision::bf16).largest, 0.5);
  EXPECT_LT(sweep(same_first, Precision::bf16).largest, 0.01);
}

}  // namespace
}  // namespace ropewalk::verify
