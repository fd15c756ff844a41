// Plans of a device's memory, run on a device played on the host (host_accelerator.h): the same bits under all of them,
// down to the least, and what is refused says the least that works.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "lib/error.h"
#include "tests/verify/device_sweeps.h"
#include "tests/verify/random_adapters.h"

namespace ropewalk::verify {
namespace {

/// f(limit) sweeps under ever less memory and returns what it planned, until nothing fits.
template <class F>
void for_every_plan(std::uint64_t limit, F f) {
  try {
    while (!::testing::Test::HasFatalFailure()) {
      const std::uint64_t planned = f(limit);
      ASSERT_LE(planned, limit);
      limit = planned - 1;  // the next plan is another one
    }
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::device);
    EXPECT_NE(std::string(error.what()).find("the smallest --device-memory that works"), std::string::npos)
        << error.what();
  }
}

TEST(DeviceMemory, EqualBitsUnderAnyMemory) {
  const Checkpoint awkward = random_model(awkward_config(), 4),
                   blocks = stored_as(random_model(block_config(), 5), DType::f16);
  for (const Precision precision : {Precision::automatic, Precision::bf16, Precision::f32})
    for (const Checkpoint* model : {&awkward, &blocks}) {
      const std::vector<Window> windows = windows_of({70, 6, 6, 31}, model->config.n_vocab);
      HostAccelerator roomy(1, kRoom);
      SweepReport report;
      const auto want = device_score(roomy, *model, windows, in(precision, &report), {});
      EXPECT_EQ(report.slots, 3u);
      EXPECT_FALSE(report.spilled);
      EXPECT_LE(roomy.most_used(), report.device_bytes);
      unsigned seed = 10;
      for (const std::size_t slots : {2, 3})
        for (const std::size_t ring : {2, 5}) {
          DeviceTuning tuning = small();
          tuning.slots = slots, tuning.ring = ring, tuning.chunk_rows = ring == 2 ? 7 : 64,
          tuning.head_rows = slots == 2 ? 5 : 40;
          HostAccelerator device(seed++, kRoom);
          EXPECT_TRUE(same(device_score(device, *model, windows, in(precision), tuning), want))
              << "slots " << slots << ", ring " << ring;
        }
      // Every plan down to the least memory that works, where residuals are spilled.
      DeviceTuning tuning = small();
      tuning.slots = 0;
      bool spilled = false;
      for_every_plan(report.device_bytes, [&](std::uint64_t limit) {
        HostAccelerator device(seed++, limit);
        SweepReport one;
        EXPECT_TRUE(same(device_score(device, *model, windows, in(precision, &one), tuning), want)) << limit;
        EXPECT_LE(device.most_used(), one.device_bytes);
        spilled = spilled || one.spilled;
        return one.device_bytes;
      });
      EXPECT_TRUE(spilled);
    }
}

/// A head of four tiles, the last of them cut short, that outweighs everything else.
ModelConfig wide_head() {
  ModelConfig c = awkward_config();
  c.n_layers = 1, c.d_model = 12, c.n_heads = 2, c.n_kv_heads = 1, c.head_dim = 8, c.d_ff = 16;
  c.n_vocab = int(3 * kHeadTile + 301);
  return c;
}

TEST(DeviceMemory, TheHeadInPiecesGivesTheSameBits) {
  const Checkpoint plain = random_model(wide_head(), 1), adapted = with_random_adapters(plain, {"lm_head"}, 2, true),
                   other = stored_as(random_model(wide_head(), 3), DType::bf16);
  std::vector<Window> windows = windows_of({21, 9}, plain.config.n_vocab);
  windows[0][4] = int(kHeadTile) - 1, windows[0][5] = int(kHeadTile), windows[0][6] = plain.config.n_vocab - 1;
  for (const Precision precision : {Precision::bf16, Precision::f32})
    for (const Checkpoint* model : {&plain, &adapted}) {
      SweepReport report;
      HostAccelerator roomy(1, kRoom);
      const auto want = device_score(roomy, *model, windows, in(precision, &report), small());
      const PairResult want_pair = device_compare(roomy, *model, other, windows, in(precision), small());
      EXPECT_EQ(report.head_pieces, 1u);
      std::size_t most = 0;
      unsigned seed = 20;
      for_every_plan(report.device_bytes, [&](std::uint64_t limit) {
        HostAccelerator device(seed++, limit);
        SweepReport one;
        EXPECT_TRUE(same(device_score(device, *model, windows, in(precision, &one), small()), want)) << limit;
        EXPECT_LE(device.most_used(), one.device_bytes);
        most = std::max(most, one.head_pieces);
        return one.device_bytes;
      });
      EXPECT_EQ(most, 4u);
      DeviceTuning pieces = small();
      pieces.head_columns = 2 * kHeadTile;
      HostAccelerator device(seed, kRoom);
      EXPECT_TRUE(same(device_compare(device, *model, other, windows, in(precision, &report), pieces), want_pair));
      EXPECT_EQ(report.head_pieces, 2u);
      EXPECT_LE(device.most_used(), report.device_bytes);
    }
}

TEST(DeviceMemory, AHeadInPiecesAgreesWithTheHost) {
  const Checkpoint a = random_model(wide_head(), 4), b = random_model(wide_head(), 5);
  const std::vector<Window> windows = windows_of({30}, a.config.n_vocab);
  DeviceTuning pieces = small();
  pieces.head_columns = kHeadTile;
  HostAccelerator device(2, kRoom);
  const PairResult got = device_compare(device, a, b, windows, in(Precision::f32), pieces),
                   want = compare(a, b, windows, on_host());
  const LogitsResult got_logits = device_logits(device, a, windows[0], 7, in(Precision::f32), pieces),
                     want_logits = logits(a, windows[0], 7, on_host());
  for (std::size_t t = 0; t < 30; ++t) {
    EXPECT_NEAR(got.scores[0][t].kl, want.scores[0][t].kl, 1e-4);  // device_sweep_test.cpp
    EXPECT_NEAR(got.scores[0][t].nll_a, want.scores[0][t].nll_a, 1e-5);
    EXPECT_EQ(got.scores[0][t].same_top1, want.scores[0][t].same_top1);
  }
  ASSERT_EQ(got_logits.logits.size(), want_logits.logits.size());
  for (std::size_t i = 0; i < want_logits.logits.size(); ++i)
    ASSERT_NEAR(got_logits.logits[i], want_logits.logits[i], 1e-5) << i;
  const PairResult itself = device_compare(device, a, a, windows, in(Precision::bf16), pieces);
  for (const PairScore& score : itself.scores[0]) EXPECT_EQ(score.kl, 0) << "exactly";
}

// Tiles of a head stand behind the layers among what is read; they are none.
TEST(DeviceMemory, SlotsAreForLayersAlone) {
  ModelConfig config = wide_head();
  config.n_layers = 3;
  const Checkpoint model = random_model(config, 9);
  HostAccelerator device(1, kRoom);
  SweepReport report;
  device_score(device, model, windows_of({9}, model.config.n_vocab), in(Precision::bf16, &report), {});
  EXPECT_EQ(report.slots, 3u);
}

TEST(DeviceMemory, WithoutItsWaitsAHeadInPiecesIsWrong) {
  const Checkpoint model = random_model(wide_head(), 6);
  const std::vector<Window> windows = windows_of({40}, model.config.n_vocab);
  DeviceTuning pieces = small();
  pieces.head_columns = kHeadTile, pieces.ring = 64;
  HostAccelerator device(1, kRoom);
  const auto want = device_score(device, model, windows, in(Precision::bf16), pieces);
  int wrong = 0;
  for (unsigned seed = 0; seed < 4; ++seed) {
    HostAccelerator deaf(seed, kRoom);
    deaf.deaf_in_head = true;
    wrong += same(device_score(deaf, model, windows, in(Precision::bf16), pieces), want) ? 0 : 1;
  }
  EXPECT_GT(wrong, 0);
}

/// Five heads of keys and values, which no number of groups but one and five divides, and windows whose keys and values
/// outweigh everything else.
ModelConfig many_heads() {
  ModelConfig c = awkward_config();
  c.n_layers = 2, c.d_model = 24, c.n_heads = 10, c.n_kv_heads = 5, c.head_dim = 16, c.d_ff = 16, c.n_vocab = 61;
  return c;
}

TEST(DeviceMemory, HeadsOfKeysAndValuesInTurnsGiveTheSameBits) {
  ModelConfig sliding = many_heads();
  sliding.sliding_window = 50, sliding.rotary_pairs = RotaryPairs::interleaved;
  const Checkpoint plain = stored_as(random_model(many_heads(), 1), DType::f16),
                   adapted = with_random_adapters(random_model(sliding, 2), {"k_proj", "o_proj"}, 3, true);
  const std::vector<Window> windows = windows_of({13, 13, 200}, plain.config.n_vocab);
  for (const auto& [model, precision] :
       {std::pair(&plain, Precision::automatic), {&adapted, Precision::bf16}, {&plain, Precision::f32}}) {
    SweepReport report;
    HostAccelerator roomy(1, kRoom);
    const auto want = device_score(roomy, *model, windows, in(precision, &report), small());
    EXPECT_EQ(report.kv_groups, 1u);
    unsigned seed = 20;
    for (const std::size_t groups : {2, 3, 5})  // residuals on the device
      for (const std::size_t rows : {17, 64}) {
        DeviceTuning tuning = small();
        tuning.kv_groups = groups, tuning.chunk_rows = rows;
        HostAccelerator device(seed++, kRoom);
        SweepReport one;
        EXPECT_TRUE(same(device_score(device, *model, windows, in(precision, &one), tuning), want)) << groups;
        EXPECT_EQ(one.kv_groups, groups);
        EXPECT_FALSE(one.spilled);
        EXPECT_LE(device.most_used(), one.device_bytes);
      }
    if (precision == Precision::f32) continue;  // the same plans
    std::size_t most = 0;
    for_every_plan(report.device_bytes, [&](std::uint64_t limit) {
      HostAccelerator device(seed++, limit);
      SweepReport one;
      EXPECT_TRUE(same(device_score(device, *model, windows, in(precision, &one), small()), want)) << limit;
      EXPECT_LE(device.most_used(), one.device_bytes);
      most = std::max(most, one.kv_groups);
      return one.device_bytes;
    });
    EXPECT_EQ(most, 5u);
  }
}

TEST(DeviceMemory, ModelsWithOtherHeadsTakeTurnsSideBySide) {
  ModelConfig config = many_heads();
  config.n_heads = config.n_kv_heads = 3, config.n_layers = 3;
  const Checkpoint a = random_model(many_heads(), 4), b = random_model(config, 5);
  const std::vector<Window> windows = windows_of({90, 40}, a.config.n_vocab);
  HostAccelerator roomy(1, kRoom);
  const PairResult want = device_compare(roomy, a, b, windows, in(Precision::bf16), small());
  for (const std::size_t groups : {2, 4}) {
    DeviceTuning tuning = small();
    tuning.kv_groups = groups;
    HostAccelerator device(unsigned(groups), kRoom);
    EXPECT_TRUE(same(device_compare(device, a, b, windows, in(Precision::bf16), tuning), want));
  }
}

// Residuals on the device: the spill queue has nothing but what groups of heads attended to.
TEST(DeviceMemory, WithoutItsWaitsHeadsInTurnsAreWrong) {
  const Checkpoint model = random_model(many_heads(), 6);
  const std::vector<Window> windows = windows_of({120}, model.config.n_vocab);
  DeviceTuning tuning = small();
  tuning.kv_groups = 3, tuning.chunk_rows = 8;
  HostAccelerator device(1, kRoom);
  const auto want = device_score(device, model, windows, in(Precision::bf16), tuning);
  int deaf_wrong = 0, unheard_wrong = 0;
  for (unsigned seed = 0; seed < 4; ++seed) {
    HostAccelerator deaf(seed, kRoom), unheard(seed, kRoom);
    deaf.deaf_queue = Accelerator::Queue::spill, unheard.unheard = Accelerator::Queue::spill;
    deaf_wrong += same(device_score(deaf, model, windows, in(Precision::bf16), tuning), want) ? 0 : 1;
    unheard_wrong += same(device_score(unheard, model, windows, in(Precision::bf16), tuning), want) ? 0 : 1;
  }
  EXPECT_GT(deaf_wrong, 0);
  EXPECT_GT(unheard_wrong, 0);
}

/// What "the smallest --device-memory that works is" says of a pass that does not fit; 0 if it fits.
std::uint64_t least_memory(const Checkpoint& model, const Checkpoint* other, std::span<const Window> windows,
                           std::uint64_t cap, std::uint64_t held, Precision precision) {
  HostAccelerator device(1, cap - held);
  device.held = held;
  try {
    if (other) device_compare(device, model, *other, windows, in(precision), small());
    else device_score(device, model, windows, in(precision), small());
    return 0;
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::device);
    const std::string text = error.what(), words = "the smallest --device-memory that works is ";
    EXPECT_EQ(text.find('\n'), std::string::npos);
    const std::size_t at = text.find(words);
    EXPECT_NE(at, std::string::npos) << text;
    return at == std::string::npos ? 0 : std::stoull(text.substr(at + words.size()));
  }
}

// Long windows, whose keys and values do not fit; many short ones; a head that outweighs the layers; a pair.
TEST(DeviceMemory, TooLittleMemoryNamesTheLeastThatWorks) {
  ModelConfig wide_head = block_config();
  wide_head.n_vocab = 4001;
  const Checkpoint plain = random_model(awkward_config(), 21), headed = random_model(wide_head, 22);
  const std::vector<Window> longer = windows_of({150}, 97), many = windows_of({20, 20, 31, 9}, 97),
                            tiny = windows_of({5}, 97);
  for (const Precision precision : {Precision::bf16, Precision::f32})
    for (const auto& [model, other] :
         {std::pair<const Checkpoint*, const Checkpoint*>{&plain, nullptr}, {&headed, nullptr}, {&plain, &plain}})
      for (const std::vector<Window>* windows : {&longer, &many, &tiny}) {
        const std::uint64_t held = windows == &many ? 70000 : 0;
        const std::uint64_t least = least_memory(*model, other, *windows, held + 1000, held, precision);
        ASSERT_GT(least, held + 1000);
        EXPECT_EQ(least_memory(*model, other, *windows, least - 1, held, precision), least) << "one byte less";
        EXPECT_EQ(least_memory(*model, other, *windows, least, held, precision), 0u) << "the least does not work";
      }
}

}  // namespace
}  // namespace ropewalk::verify
