#include <algorithm>
#include <array>
#include <cmath>

#include "lib/error.h"
#include "verify/forward.h"
#include "verify/sweep.h"

namespace ropewalk::verify {
namespace {

/// All layers held in memory, with the keys and values of one growing window of at most `positions`.
class Decoder {
 public:
  Decoder(const Checkpoint& model, std::size_t positions, const Workers& workers)
      : model_(model), workers_(workers), head_(read_head(model, workers)) {
    const ModelConfig& config = model.config;
    for (int layer = 0; layer < config.n_layers; ++layer) {
      read_layer(model, layer, workers, layers_.emplace_back());
      caches_.emplace_back(1);
      caches_.back()[0].reserve(std::size_t(config.n_kv_heads), std::size_t(config.head_dim), positions);
    }
  }

  /// Forgets what was fed; angles are those of a window of `length`.
  void restart(std::size_t length) {
    rotary_ = rotary_tables(model_, std::array{length});
    fed_ = 0;
  }

  /// Appends `ids` and returns the argmax after the last of them. Error(bad_input) where no logit is the largest.
  std::int32_t feed(std::span<const std::int32_t> ids) {
    const std::size_t stride = row_stride(std::size_t(model_.config.d_model));
    std::int32_t best = 0;
    for (std::size_t begin = 0; begin < ids.size(); begin += kChunkRows) {
      const auto part = ids.subspan(begin, std::min(kChunkRows, ids.size() - begin));
      residual_.grow(part.size() * stride);
      read_embeddings(model_, part, residual_.data(), stride, workers_);
      const Chunk chunk = {{0, fed_, part.size(), 0, 0}};
      for (std::size_t layer = 0; layer < layers_.size(); ++layer)
        run_layer(model_.config, layers_[layer], chunk, residual_.data(), caches_[layer], rotary_, workers_, scratch_);
      fed_ += part.size();
      best = argmax(residual_.data() + (part.size() - 1) * stride);
    }
    return best;
  }

 private:
  std::int32_t argmax(const float* row) {
    RowStatistics statistics;
    rows_.start(model_.config, head_, row, 0, 1);
    for (std::size_t column = 0; column < head_.logits.outputs; column += kVocabBlock) {
      rows_.compute(column);
      accumulate(rows_.logits(0), column, rows_.width(), statistics);
    }
    if (statistics.argmax < 0 || !std::isfinite(statistics.log_sum_exp()))
      throw Error(ErrorKind::bad_input, {model_.label},
                  "the logits at position " + std::to_string(fed_ - 1) +
                      " are not finite, so no next token is the likeliest; finite ones were expected",
                  "the weights overflow in f32: see what made them with verify or diff against their source");
    return statistics.argmax;
  }

  const Checkpoint& model_;
  const Workers& workers_;
  HeadWeights head_;
  std::vector<std::shared_ptr<const RotaryTable>> rotary_;
  std::vector<LayerWeights> layers_;
  std::vector<std::vector<KvCache>> caches_;  // [layer][0]
  AlignedBuffer residual_;
  LayerScratch scratch_;
  HeadRows rows_;
  std::size_t fed_ = 0;
};

}  // namespace

Generated generate(const Checkpoint& model, const Window& prompt, int n_tokens, std::optional<std::int32_t> stop,
                   const SweepOptions& options) {
  if (prompt.empty())
    throw Error(ErrorKind::bad_input, {model.label}, "the prompt is empty, at least one token was expected",
                "begin with the BOS token");
  check_config(model);
  check_ids(model, {&prompt, 1});
  const Workers workers(options.threads);
  Window window = prompt;
  Generated out;
  // each length has its own angles: kept keys would be of another table
  const bool recompute = depends_on_length(model.config.rope);
  const std::size_t positions = prompt.size() + std::size_t(std::max(n_tokens, 0));
  Decoder decoder(model, positions, workers);
  if (!recompute) decoder.restart(positions);
  for (int n = 0; n < n_tokens; ++n) {
    if (recompute) decoder.restart(window.size());
    const std::span<const std::int32_t> fresh =
        recompute || n == 0 ? std::span<const std::int32_t>(window) : std::span<const std::int32_t>(window).last(1);
    const std::int32_t next = decoder.feed(fresh);
    if (stop && next == *stop) {
      out.stopped = true;
      break;
    }
    window.push_back(next);
    out.ids.push_back(next);
    if (options.progress) options.progress(n + 1);
  }
  return out;
}

}  // namespace ropewalk::verify
