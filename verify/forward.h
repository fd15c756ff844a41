#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "verify/batch.h"
#include "verify/head_statistics.h"
#include "verify/layer.h"
#include "verify/sweep.h"

namespace ropewalk::verify {

/// A model half way through: the residual of all windows, to be taken through one layer after another.
/// Memory: residual (rows x d_model floats), keys and values of one layer of the windows in flight, one layer's
/// weights.
class Forward {
 public:
  /// Checks configuration and ids, reads the embeddings. `model` and `workers` must outlive it. `chunk_rows`: rows
  /// computed at once; does not change a bit.
  Forward(const Checkpoint& model, std::span<const Window> windows, const Workers& workers,
          std::size_t chunk_rows = kChunkRows);
  /// `see`: called after each chunk, in order of the rows, with what reached the layer's matrices (keep_inputs).
  using SeeInputs = std::function<void(const Chunk& chunk, const LayerScratch& inputs)>;
  void run_layer(int layer, const SeeInputs& see = {});

  const ModelConfig& config() const noexcept { return model_.config; }
  std::size_t rows() const noexcept { return rows_; }
  /// Where the hidden states of a row are now; those of another run that came as far may take their place.
  const float* row(std::size_t index) const noexcept { return residual_.data() + index * stride_; }
  float* row(std::size_t index) noexcept { return residual_.data() + index * stride_; }
  std::size_t stride() const noexcept { return stride_; }

 private:
  const Checkpoint& model_;
  const Workers& workers_;
  std::vector<std::size_t> lengths_;
  std::vector<Chunk> chunks_;
  std::vector<std::shared_ptr<const RotaryTable>> rotary_;  // by window
  std::size_t rows_ = 0, stride_ = 0;
  AlignedBuffer residual_;
  LayerWeights weights_;
  std::vector<KvCache> caches_;
  LayerScratch scratch_;
};

/// Tables for windows of these lengths; one for all unless the rope depends on the length. Error(unsupported) if it
/// rotates more channels than a head has.
std::vector<std::shared_ptr<const RotaryTable>> rotary_tables(const Checkpoint& model,
                                                              std::span<const std::size_t> lengths);

/// Error(bad_input) naming window, position and id.
void check_ids(const Checkpoint& model, std::span<const Window> windows);

/// Logits of a few rows, a block of the vocabulary at a time.
class HeadRows {
 public:
  static constexpr std::size_t kRows = 96;  // at most

  /// Applies the final norm to rows x[0 .. rows).
  void start(const ModelConfig& config, const HeadWeights& head, const float* x, std::size_t x_stride,
             std::size_t rows);
  /// Columns [first_column, first_column + width()), first_column a multiple of kVocabBlock. Row r at logits(r).
  void compute(std::size_t first_column);
  std::size_t width() const noexcept { return width_; }
  float* logits(std::size_t row) noexcept { return logits_.data() + row * row_stride(kVocabBlock); }

 private:
  const HeadWeights* head_ = nullptr;
  std::size_t rows_ = 0, width_ = 0;
  AlignedBuffer normed_, thin_, logits_;
};

/// Final norm, head and statistics of every row. `each_block(first_row, rows, first_column, head_rows)` sees the logits
/// before they are taken in; may be empty.
using SeeLogits = std::function<void(std::size_t, std::size_t, std::size_t, HeadRows&)>;
std::vector<HeadRow> run_head(const Forward& forward, const HeadWeights& head, std::span<const std::int32_t> next,
                              const Workers& workers, const SeeLogits& see);

/// piece(first row, rows, slot) over blocks of at most HeadRows::kRows rows.
void for_row_blocks(const Workers& workers, std::size_t rows,
                    const std::function<void(std::size_t, std::size_t, std::size_t)>& piece);

}  // namespace ropewalk::verify
