// The layer sweep on a device against the host's. Label gpu; skips aloud without a device.
#include "verify/device_sweep.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <set>
#include <vector>

#include "tests/verify/device_for_test.h"
#include "tests/verify/golden_models.h"
#include "tests/verify/quantized_model.h"
#include "tests/verify/random_adapters.h"
#include "tests/verify/random_model.h"
#include "verify/cuda/attentions.h"

namespace ropewalk::verify {
namespace {

/// Sizes of real models in small: multiples of what tensor cores and cuBLASLt take.
ModelConfig even_config() {
  ModelConfig c = awkward_config();
  c.d_model = 256, c.n_heads = 4, c.n_kv_heads = 2, c.head_dim = 64, c.d_ff = 704, c.n_vocab = 1000;
  c.rope.rotary_dim = 64, c.rope.theta = 1e4;
  c.attention_bias = c.mlp_bias = false;
  return c;
}

SweepOptions options_of(std::optional<DeviceOptions> device) {
  SweepOptions out;
  out.device = device;
  return out;
}

/// Mean KL(host || device) over positions.
double mean_kl(const LogitsResult& host, const LogitsResult& device, std::size_t n_vocab) {
  double total = 0;
  const std::size_t rows = host.logits.size() / n_vocab;
  for (std::size_t row = 0; row < rows; ++row) {
    const float *a = host.logits.data() + row * n_vocab, *b = device.logits.data() + row * n_vocab;
    const double max_a = *std::max_element(a, a + n_vocab), max_b = *std::max_element(b, b + n_vocab);
    double sum_a = 0, sum_b = 0;
    for (std::size_t i = 0; i < n_vocab; ++i) sum_a += std::exp(a[i] - max_a), sum_b += std::exp(b[i] - max_b);
    for (std::size_t i = 0; i < n_vocab; ++i) {
      const double la = a[i] - max_a - std::log(sum_a), lb = b[i] - max_b - std::log(sum_b);
      total += std::exp(la) * (la - lb);
    }
  }
  return total / double(rows);
}

class DeviceSweepGpu : public DeviceTest {};

TEST_F(DeviceSweepGpu, LogitsAgreeWithTheHosts) {
  for (const ModelConfig& config : {even_config(), awkward_config()}) {
    const Checkpoint model = random_model(config, 1);
    const Window window = random_ids(Attentions::kFewestPositions + 52, config.n_vocab, 2);  // cuDNN's, where it is
    const LogitsResult host = logits(model, window, 0, options_of({}));
    const LogitsResult f32 = logits(model, window, 0, options_of(DeviceOptions{.precision = Precision::f32})),
                       bf16 = logits(model, window, 0, options_of(DeviceOptions{.precision = Precision::bf16}));
    const auto n_vocab = std::size_t(config.n_vocab);
    const double exact = mean_kl(host, f32, n_vocab), rounded = mean_kl(host, bf16, n_vocab);
    RecordProperty("kl_f32", std::to_string(exact));
    EXPECT_LE(exact, 1e-8);
    EXPECT_LE(rounded, 1e-3);
    EXPECT_GT(rounded, 0) << "bf16 rounds nothing: it did not run in bf16";
  }
}

/// Where fixtures are: unpacked beside the build, or carried along by scripts/gpu-check.
std::filesystem::path fixtures() {
  const char* carried = std::getenv("ROPEWALK_GPU_GOLDENS");
  return std::filesystem::path(carried ? carried : ROPEWALK_GOLDEN_DIR) / "fixtures";
}

/// "figure: NAME: VALUE <= LIMIT", which scripts/gpu-check puts into its table.
void expect_at_most(const std::string& name, double value, double limit) {
  std::printf("figure: %s: %.3g <= %g\n", name.c_str(), value, limit);
  EXPECT_TRUE(value <= limit) << name << ": " << value;
}

/// Largest difference from the float64 logits of a golden: its first 64 and last 16 positions.
double error_of(const LogitsResult& got, const std::map<std::string, GoldenTensor>& golden, std::size_t positions) {
  const GoldenTensor &first = golden.at("logits_first64"), &last = golden.at("logits_last16");
  const float* got_last = got.logits.data() + (positions - last.shape[0]) * last.columns();
  return max_or_nan(max_difference(got.logits, first.values, first.values.size()),
                    max_difference(got_last, last.values, last.values.size()));
}

// The bounds on trained models: f32's logits within ten times the host's own error from float64.
TEST_F(DeviceSweepGpu, FixturesAgreeWithTheHost) {
  for (const auto& [name, golden_name] :
       {std::pair<std::string, std::string>{"stories260K", "stories260K-512"}, {"tolstoy-4m", "tolstoy-4m-256"}}) {
    if (name != "stories260K" && !std::filesystem::exists(fixtures() / "models" / name)) continue;  // not carried along
    const Checkpoint model = open_golden((fixtures() / "models" / name).string()).checkpoint;
    const auto golden = read_golden(fixtures() / "goldens/forward" / golden_name / "golden.safetensors");
    const GoldenTensor& ids = golden.at("input_ids");
    const Window window(ids.values.begin(), ids.values.begin() + std::ptrdiff_t(ids.columns()));
    const LogitsResult host = logits(model, window, 0, options_of({}));
    const LogitsResult f32 = logits(model, window, 0, options_of(DeviceOptions{.precision = Precision::f32})),
                       bf16 = logits(model, window, 0, options_of(DeviceOptions{.precision = Precision::bf16}));
    const auto n_vocab = std::size_t(model.config.n_vocab);
    expect_at_most(name + ", mean KL of bf16 from the host's f32", mean_kl(host, bf16, n_vocab), 1e-3);
    expect_at_most(name + ", mean KL of --precision f32 from the host's f32", mean_kl(host, f32, n_vocab), 1e-8);
    expect_at_most(name + ", largest error of --precision f32 from float64, in the host's own",
                   error_of(f32, golden, window.size()) / error_of(host, golden, window.size()), 10);
  }
}

TEST_F(DeviceSweepGpu, AnAdapterBesideItsWeightsAgreesWithTheHost) {
  ModelConfig config = even_config();
  const Checkpoint model = with_random_adapters(random_model(config, 7), all_modules(), 8, true);
  const Window window = random_ids(700, config.n_vocab, 9);
  const LogitsResult host = logits(model, window, 0, options_of({}));
  for (const auto& [precision, limit] : {std::pair{Precision::f32, 1e-8}, {Precision::bf16, 1e-3}})
    EXPECT_LE(mean_kl(host, logits(model, window, 0, options_of(DeviceOptions{.precision = precision})),
                      std::size_t(config.n_vocab)),
              limit);
}

// Every block type in turn, decoded there.
TEST_F(DeviceSweepGpu, BlockTypesAgreeWithTheHost) {
  const std::vector<DType> types = block_types_without({DType::mxfp4});
  Checkpoint model = quantized_model(random_model(superblock_config(4), 11), types);
  const Window window = random_ids(700, model.config.n_vocab, 12);
  const auto check = [&](const char* precision) {
    const LogitsResult host = logits(model, window, 0, options_of({}));
    for (const auto& [wanted, limit] : {std::pair{Precision::f32, 1e-8}, {Precision::automatic, 1e-3}}) {
      SweepReport report;
      SweepOptions options = options_of(DeviceOptions{.precision = wanted});
      options.report = &report;
      EXPECT_LE(mean_kl(host, logits(model, window, 0, options), std::size_t(model.config.n_vocab)), limit);
      EXPECT_EQ(report.precision, wanted == Precision::f32 ? "f32" : precision);
    }
  };
  check("f16");
  model.tensors[4] = quantized(*model.tensors[4], DType::mxfp4);
  check("bf16");
}

// Where there are several of one make.
TEST_F(DeviceSweepGpu, SeveralDevicesGiveTheBitsOfOne) {
  const DeviceList list = list_devices();
  std::vector<int> indices;
  for (const DeviceInfo& one : list.devices)
    if (one.name == list.devices.front().name) indices.push_back(one.index);
  if (indices.size() < 2) GTEST_SKIP() << "SKIPPED: several GPUs were not tested: there is one";
  const Checkpoint model = random_model(even_config(), 10);
  std::vector<Window> windows;
  for (const std::size_t length : {1500, 40, 40, 900, 2500})
    windows.push_back(random_ids(length, 1000, static_cast<unsigned>(length)));
  const auto want = score(model, windows, options_of(DeviceOptions{})),
             got = score(model, windows, options_of(DeviceOptions{.indices = indices}));
  for (std::size_t w = 0; w < windows.size(); ++w)
    for (std::size_t t = 0; t < want[w].size(); ++t)
      ASSERT_TRUE(got[w][t].nll == want[w][t].nll && got[w][t].argmax == want[w][t].argmax) << w << ", " << t;
}

// Of ids all over the head's tiles, each taken out of them as its window's last row is there.
TEST_F(DeviceSweepGpu, EndingsHaveTheBitsOfTheirWholeWindows) {
  ModelConfig config = even_config();
  config.n_vocab = int(3 * kHeadTile + 1);
  const Checkpoint model = random_model(config, 11);
  const std::vector<Window> windows = {random_ids(40, 1000, 1), random_ids(901, 1000, 2)};
  const std::vector<std::vector<std::int32_t>> endings = {{0, 5000, config.n_vocab - 1}, {9000, 4095, 4096}};
  const auto found = score_endings(model, windows, endings, options_of(DeviceOptions{}));
  for (std::size_t w = 0; w < windows.size(); ++w)
    for (std::size_t i = 0; i < 3; ++i) {
      Window whole = windows[w];
      whole.push_back(endings[w][i]);
      EXPECT_EQ(found[w].endings[i], score(model, {&whole, 1}, options_of(DeviceOptions{}))[0].back().nll) << w;
    }
}

TEST_F(DeviceSweepGpu, EqualBitsInAnyMemoryAndTwice) {
  ModelConfig config = even_config();
  config.n_vocab = int(3 * kHeadTile + 1);
  const Checkpoint model = random_model(config, 3);
  std::vector<Window> windows;
  for (const std::size_t length :
       // The first two: cuDNN's, if any. One row more than a power of two: chunks of any size would leave it alone.
       {Attentions::kFewestPositions + 100, Attentions::kFewestPositions + 1, 40ul, 40ul, 900ul})
    windows.push_back(random_ids(length, 1000, static_cast<unsigned>(length)));
  SweepReport report;
  SweepOptions options = options_of(DeviceOptions{});
  options.report = &report;
  const auto want = score(model, windows, options);
  EXPECT_EQ(report.attention.starts_with("cuDNN "), CudnnSdpa().why_not().empty()) << report.attention;
  std::set<std::size_t> chunks = {report.chunk_rows};
  bool spilled = false;
  std::size_t head_pieces = 1, kv_groups = 1;
  const std::uint64_t held = open_device(std::nullopt, std::uint64_t{1} << 30)->held_bytes();  // of the cap, workspaces
  for (std::uint64_t cap = std::uint64_t{1} << 30;; cap = held + report.device_bytes - 1) {
    options.device->memory_bytes = cap;
    std::vector<std::vector<TokenScore>> got;
    try {
      got = score(model, windows, options);
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("the smallest --device-memory"), std::string::npos) << error.what();
      break;
    }
    for (std::size_t w = 0; w < windows.size(); ++w)
      for (std::size_t t = 0; t < want[w].size(); ++t)
        ASSERT_TRUE(got[w][t].nll == want[w][t].nll && got[w][t].argmax == want[w][t].argmax)
            << cap << ": window " << w << ", position " << t;
    spilled = spilled || report.spilled;
    head_pieces = std::max(head_pieces, report.head_pieces), kv_groups = std::max(kv_groups, report.kv_groups);
    chunks.insert(report.chunk_rows);
  }
  EXPECT_GT(chunks.size(), 1u) << "no window was cut otherwise: nothing was compared";
  EXPECT_TRUE(spilled);
  EXPECT_EQ(kv_groups, 2u) << "heads of keys and values took no turns";
  EXPECT_EQ(head_pieces, 4u) << "the head came in no pieces";
}

TEST_F(DeviceSweepGpu, AModelAgainstItselfIsExactlyZero) {
  const Checkpoint model = random_model(even_config(), 4);
  const std::vector<Window> windows = {random_ids(600, 1000, 5), random_ids(600, 1000, 6)};
  const PairResult result = compare(model, model, windows, options_of(DeviceOptions{}));
  for (const double distance : result.layer_distance) EXPECT_EQ(distance, 0);
  for (const auto& window : result.scores)
    for (const PairScore& score : window) EXPECT_EQ(score.kl, 0);
}

}  // namespace
}  // namespace ropewalk::verify
