#pragma once

#include <vector>

#include "lib/checkpoint.h"
#include "verify/packed_matrix.h"

namespace ropewalk::verify {

/// A linear module as stored: weight [outputs, inputs]; no bias: nullptr. With adapters that are not merged
/// (lib/unmerged.h) their factors: y = W x + bias + B (A x).
struct LinearTensors {
  TensorPtr weight, bias;
  std::size_t outputs, inputs;
  TensorPtr a = {}, b = {};  // [rank, inputs], [outputs, rank]; null: none

  std::size_t rank() const { return a ? std::size_t(a->info().rows()) : 0; }
};
/// One decoder layer of the llama family by its tensors' canonical names, with the shapes the configuration asks for.
struct LayerTensors {
  TensorPtr attention_norm, mlp_norm;  // [d_model]
  LinearTensors q, k, v, o, gate, up, down;
};
/// Error(bad_input) naming a tensor that is missing. Shapes are checked where the tensors are read.
LayerTensors layer_tensors(const Checkpoint& model, int layer);
/// lm_head, or the embedding if tied: [n_vocab, d_model].
LinearTensors head_tensors(const Checkpoint& model);

/// Adapters of the modules of one matrix: y += B (A x), added to what the matrix and its bias gave.
struct LowRankFactors {
  PackedMatrix a;  // rank x inputs: the modules' A one after another
  PackedMatrix b;  // outputs as the matrix has them x rank: zero where a row and a column are of different modules

  std::size_t rank() const noexcept { return a.outputs; }  // 0: none
};

/// One decoder layer of the llama family, ready for use. Biases are padded to whole panels; empty if the model has
/// none.
struct LayerWeights {
  std::vector<float> attention_norm, mlp_norm;  // [d_model]
  PackedMatrix qkv;                             // [q heads, k heads, v heads] x d_model
  PackedMatrix output;                          // d_model x (n_heads * head_dim)
  PackedMatrix gate_up;                         // interleaved by 16
  PackedMatrix down;                            // d_model x d_ff
  std::vector<float> qkv_bias, output_bias, gate_up_bias, down_bias;
  LowRankFactors qkv_delta, output_delta, gate_up_delta, down_delta;
};
/// `out` is overwritten and its memory used again.
void read_layer(const Checkpoint& model, int layer, const Workers& workers, LayerWeights& out);

struct HeadWeights {
  std::vector<float> norm;  // [d_model]
  PackedMatrix logits;      // n_vocab x d_model: lm_head, or the embedding if tied
  LowRankFactors delta;
};
HeadWeights read_head(const Checkpoint& model, const Workers& workers);

/// Rows of the embedding for `ids`, `stride` floats apart. Each distinct row is read once.
void read_embeddings(const Checkpoint& model, std::span<const std::int32_t> ids, float* rows, std::size_t stride,
                     const Workers& workers);

/// Error(bad_input) if the numbers contradict each other, Error(unsupported) for a head wider than kMaxHeadDim.
void check_config(const Checkpoint& model);

}  // namespace ropewalk::verify
