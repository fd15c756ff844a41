#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "lib/checkpoint.h"

namespace ropewalk::verify {

/// One sequence: positions start at 0.
using Window = std::vector<std::int32_t>;

struct SweepOptions {
  int threads = 0;  // 0: lib's available_threads()
  std::function<void(int layers_done, int layers)> progress = {};
  std::function<bool()> cancelled = {};  // asked between pieces of work, never by two threads at once: true ends the call with Cancelled
};

/// What one model thinks of one token given those before it.
struct TokenScore {
  double nll = 0;          // -log p(ids[t+1] | ids[..t])
  std::int32_t argmax = 0; // first of equals
  float entropy = 0;       // nats
};

/// All layers over all windows, one layer's weights at a time (docs/design.md, section 6). Same bits for any thread count, for windows batched or alone, on every SIMD target.
/// scores[w][t], t < windows[w].size() - 1. Error(bad_input) for ids outside the vocabulary or weights that are not finite.
std::vector<std::vector<TokenScore>> score(const Checkpoint& model, std::span<const Window> windows, const SweepOptions& options);

/// Consecutive windows in parts that a sweep holds in at most `bytes` of residuals and results, or of one window that needs more. Sweeping part by part gives the same bits, and reads the weights once for each.
std::vector<std::span<const Window>> split_windows(const ModelConfig& config, std::span<const Window> windows, std::uint64_t bytes);

/// Logits of the last `last` positions of one window (0: all), [last, n_vocab] row-major f32, with the NLL of every position.
struct LogitsResult {
  std::vector<float> logits;
  std::vector<double> nll;
};
LogitsResult logits(const Checkpoint& model, const Window& window, int last, const SweepOptions& options);

/// Two models over the same windows, side by side.
struct PairScore {
  double nll_a = 0, nll_b = 0;
  double kl = 0;           // KL(a || b) of the next-token distributions, nats, >= 0
  bool same_top1 = false;
};
struct PairResult {
  std::vector<std::vector<PairScore>> scores;   // [window][t], t < size: KL and top-1 exist at every position; NLL of the last is 0 and not scored
  std::vector<double> layer_distance;           // [n_layers]: mean over tokens of |h_a - h_b| / |h_a| (2-norms) after each layer
};
/// `a` is the reference. Error(bad_input) if the vocabularies' sizes differ.
PairResult compare(const Checkpoint& a, const Checkpoint& b, std::span<const Window> windows, const SweepOptions& options);

/// Greedy continuation, argmax of the first of equals; keys and values are kept.
struct Generated {
  std::vector<std::int32_t> ids;  // after the prompt, without the stop token
  bool stopped = false;           // the stop token came; false: n_tokens were reached
};
Generated generate(const Checkpoint& model, const Window& prompt, int n_tokens, std::optional<std::int32_t> stop, const SweepOptions& options);

}  // namespace ropewalk::verify
