#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "lib/checkpoint.h"
#include "verify/device.h"
#include "verify/weight_rounding.h"

namespace ropewalk::verify {

/// One sequence: positions start at 0.
using Window = std::vector<std::int32_t>;

/// What a device computes in. automatic: the 16-bit type that rounds the stored weights less, where activations fit it.
/// f32: weights and activations split exactly into bf16 terms.
enum class Precision : std::uint8_t { automatic, bf16, f32 };
struct DeviceOptions {
  /// As in cuda:INDEX; none: the first. Of several each takes whole windows, and the bits are those of one, if they are
  /// of one make. A window alone, and so logits(), stays on the first.
  std::vector<int> indices = {};
  Precision precision = Precision::automatic;
  std::optional<std::uint64_t> memory_bytes = {};  // --device-memory, of each
  AttentionBy attention = AttentionBy::automatic;
};

/// How a sweep on a device went.
struct SweepReport {
  std::string device;     // "NVIDIA H200, cuBLASLt 13.0.2"; empty: no sweep yet, or the host
  std::string attention;  // who computed it: "cuDNN 9.19.0"; of devices that differ in that, each once
  std::string precision;  // "bf16", "f16", "f32"; "f16, bf16" where two models differ
  std::string note;       // empty, or what was done otherwise than asked
  double seconds = 0;
  // Of several devices: what crossed to all of them (each byte is read once for all), the largest of everything else, and the fewest slots and rows.
  std::size_t devices = 0;         // that had a window
  double first_wait_seconds = 0;   // for the first layer's weights
  double wait_seconds = 0;         // compute stood still for weights of later layers: reading that was not hidden
  std::uint64_t weight_bytes = 0;  // that crossed to the device
  std::uint64_t device_bytes = 0;  // planned at most
  std::size_t slots = 0, chunk_rows = 0;
  bool spilled = false;  // hidden states in host memory
  // Of several devices the most:
  std::size_t head_pieces = 1;           // in which the head crossed
  std::size_t kv_groups = 1;             // in which heads of keys and values took turns
  std::vector<WeightRounding> rounding;  // of each model
};

/// What rounding changed of models that were swept before, so that it is measured once for each model and type. A model
/// is its tensors, as long as they live. For one thread.
class KnownRounding {
 public:
  std::optional<WeightRounding> find(const Checkpoint& model, DType type) const;
  void add(const Checkpoint& model, DType type, const WeightRounding& rounding);

 private:
  struct Known {
    std::vector<std::weak_ptr<const LazyTensor>> tensors;
    DType type;
    WeightRounding rounding;
  };
  std::vector<Known> all_;
};

class SweepJournal;

struct SweepOptions {
  int threads = 0;                              // 0: lib's available_threads()
  std::function<void(int done)> progress = {};  // of layers; generate: of tokens
  std::optional<DeviceOptions> device = {};     // nullopt: the host
  SweepReport* report = nullptr;                // filled by sweeps on a device
  KnownRounding* known = nullptr;               // of sweeps of the same models before this one
  // verify/sweep_journal.h: score, compare, make_reference, compare_with_reference on the host go on from what it has
  SweepJournal* journal = nullptr;
};

/// What one model thinks of one token given those before it.
struct TokenScore {
  double nll = 0;            // -log p(ids[t+1] | ids[..t])
  std::int32_t argmax = -1;  // first of equals; -1 where every logit is NaN or -infinity
  float entropy = 0;         // nats
};

/// All layers over all windows, one layer's weights at a time (docs/design.md, section 6). Same bits for any thread
/// count, for windows batched or alone, on every SIMD target.
/// scores[w][t], t < windows[w].size() - 1. Error(bad_input) for ids outside the vocabulary or weights that are not
/// finite.
std::vector<std::vector<TokenScore>> score(const Checkpoint& model, std::span<const Window> windows,
                                           const SweepOptions& options);

/// How many consecutive windows, of these lengths, each part has that a sweep holds in at most `bytes` of residuals and
/// results, or of one window that needs more. Sweeping part by part gives the same bits, and reads the weights once for
/// each.
std::vector<std::size_t> split_windows(const ModelConfig& config, std::span<const std::size_t> lengths,
                                       std::uint64_t bytes);

/// Logits of the last `last` positions of one window (0: all), [last, n_vocab] row-major f32, with the NLL of every
/// position.
struct LogitsResult {
  std::vector<float> logits;
  std::vector<double> nll;
};
LogitsResult logits(const Checkpoint& model, const Window& window, int last, const SweepOptions& options);

/// Two models over the same windows, side by side.
struct PairScore {
  double nll_a = 0, nll_b = 0;
  double kl = 0;  // KL(a || b) of the next-token distributions, nats, >= 0
  bool same_top1 = false;
};
struct PairResult {
  // [window][t], t < size: KL and top-1 exist at every position; NLL of the last is 0 and not scored
  std::vector<std::vector<PairScore>> scores;
  // [n_layers]: mean over tokens of |h_a - h_b| / |h_a| (2-norms) after each layer
  std::vector<double> layer_distance;
};
/// `a` is the reference. Error(bad_input) if the vocabularies' sizes differ.
PairResult compare(const Checkpoint& a, const Checkpoint& b, std::span<const Window> windows,
                   const SweepOptions& options);

/// On the host, whatever options.device says. Greedy continuation, argmax of the first of equals. Weights are read once
/// and kept, and so are keys and values, but for a rope whose angles depend on the length. Error(bad_input) naming the
/// position where logits are not finite.
struct Generated {
  std::vector<std::int32_t> ids;  // after the prompt, without the stop token
  bool stopped = false;           // the stop token came; false: n_tokens were reached
};
Generated generate(const Checkpoint& model, const Window& prompt, int n_tokens, std::optional<std::int32_t> stop,
                   const SweepOptions& options);

}  // namespace ropewalk::verify
