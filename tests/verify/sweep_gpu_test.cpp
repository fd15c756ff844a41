// The layer sweep on a device against the host's. Label gpu; skips aloud without a device.
#include "verify/device_sweep.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "tests/verify/device_for_test.h"
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

TEST_F(DeviceSweepGpu, EqualBitsInAnyMemoryAndTwice) {
  const Checkpoint model = random_model(even_config(), 3);
  std::vector<Window> windows;
  for (const std::size_t length :
       {Attentions::kFewestPositions + 100, 40ul, 40ul, 900ul})  // the first: cuDNN's, if any
    windows.push_back(random_ids(length, 1000, static_cast<unsigned>(length)));
  SweepReport report;
  SweepOptions options = options_of(DeviceOptions{});
  options.report = &report;
  const auto want = score(model, windows, options);
  EXPECT_EQ(report.device.find(", cuDNN ") != std::string::npos, CudnnSdpa().why_not().empty()) << report.device;
  bool spilled = false;
  for (std::uint64_t cap = std::uint64_t{1} << 30; !spilled; cap = report.device_bytes - 1) {
    options.device->memory_bytes = cap;
    std::vector<std::vector<TokenScore>> got;
    try {
      got = score(model, windows, options);
    } catch (const Error&) {
      break;  // cuBLASLt's workspace comes off the cap: nothing smaller fits
    }
    for (std::size_t w = 0; w < windows.size(); ++w)
      for (std::size_t t = 0; t < want[w].size(); ++t)
        ASSERT_TRUE(got[w][t].nll == want[w][t].nll && got[w][t].argmax == want[w][t].argmax)
            << cap << ": window " << w << ", position " << t;
    spilled = report.spilled;
  }
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
