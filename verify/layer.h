#pragma once

#include <memory>
#include <span>
#include <vector>

#include "lib/model_config.h"
#include "verify/batch.h"
#include "verify/kv_cache.h"
#include "verify/model_weights.h"
#include "verify/rotary.h"
#include "verify/workers.h"

namespace ropewalk::verify {

/// Buffers of one sweep, reused by every chunk of every layer.
struct LayerScratch {
  struct PerThread {
    AlignedBuffer normed, projected, activated, thin;
  };
  AlignedBuffer queries;  // [chunk rows, n_heads * head_dim]; attention writes its result over them
  std::vector<PerThread> threads;
  /// After run_layer() what reached the matrices, row_stride(width) floats a row of the chunk: normed before Q, K and V;
  /// `queries` before the output projection; normed before gate and up; activated before down.
  bool keep_inputs = false;
  AlignedBuffer attention_normed, mlp_normed, activated;  // of keep_inputs
};

/// One layer over one chunk, in place: x += attention(norm(x)); x += mlp(norm(x)).
///   residual: row `first_row` of the first stretch on, `row_stride(d_model)` floats apart
///   caches[stretch.cache]: keys and values of the stretch's window before its first position; receives those of the
///     chunk
///   rotary[stretch.window]: covers the window's positions
/// A row's bits depend on its window's tokens up to it alone.
void run_layer(const ModelConfig& config, const LayerWeights& weights, const Chunk& chunk, float* residual,
               std::vector<KvCache>& caches, std::span<const std::shared_ptr<const RotaryTable>> rotary,
               const Workers& workers, LayerScratch& scratch);

}  // namespace ropewalk::verify
