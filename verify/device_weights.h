#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "lib/checkpoint.h"
#include "verify/accelerator.h"
#include "verify/weight_rounding.h"
#include "verify/weight_stream.h"

namespace ropewalk::verify {

/// A matrix of a layer as it lies on the device: parts one below the other (Q, K, V; gate, up), [terms, outputs,
/// depth].
struct DeviceWeight {
  struct Part {
    TensorPtr tensor;
    std::size_t first_output, outputs;
    std::size_t first_row = 0;  // of the tensor
  };
  std::vector<Part> parts;
  std::size_t outputs = 0, depth = 0;
  std::size_t terms = 1;           // bf16 terms whose sum is the weight; 1 if it stands as one 16-bit value
  std::uint64_t offset_bytes = 0;  // in the layer's slot

  /// Adapters that are not merged (lib/unmerged.h): outputs [first_output, ...) of this matrix receive B (A x). The A
  /// factors of all its parts stand one below the other in one matrix of the layer, each B is one of its own.
  struct Delta {
    std::size_t b, first_output, first_rank;  // b: index among the layer's matrices; columns of A x that it takes
  };
  std::size_t a = 0;  // index among the layer's matrices, if there are deltas
  std::vector<Delta> deltas;

  /// From one term to the next, in elements: every term starts as aligned as the first.
  std::size_t term_stride() const { return (outputs * depth + 127) / 128 * 128; }
};
/// Norms and biases, f32.
struct DeviceVector {
  struct Part {
    TensorPtr tensor;  // null: zeros
    std::size_t size;
  };
  std::vector<Part> parts;
  std::size_t size = 0;  // 0: the model has none
  std::uint64_t offset_bytes = 0;
};
/// What a sweep in that type rounds stored weights to; nothing in f32.
constexpr std::optional<DType> rounded_to(ElementType type) {
  if (type == ElementType::f32) return std::nullopt;
  return type == ElementType::f16 ? DType::f16 : DType::bf16;
}
/// bf16 terms of an adapter's factors, and of what flows between them: in f32 exact as the weights are, else 16
/// significant bits, twice those of what is multiplied beside them.
constexpr std::size_t delta_terms(ElementType type) { return type == ElementType::f32 ? 3 : 2; }

/// Columns of logits that exist at once: the head is multiplied, and its statistics are joined, in tiles of so many
/// tokens of the vocabulary. A constant: it decides where sums are cut and which algorithm multiplies, so it decides
/// bits; how many tiles lie on the device at once does not.
constexpr std::size_t kHeadTile = 4096;

/// What a layer, or a tile of the head, needs on the device at once. Factors of adapters follow the matrices named here.
struct DeviceWeights {
  enum LayerMatrix { kQkv, kOutput, kGateUp, kDown };
  enum LayerVector { kAttentionNorm, kMlpNorm, kQkvBias, kOutputBias, kGateUpBias, kDownBias };
  enum HeadIndex { kLogits = 0, kFinalNorm = 0 };
  std::vector<DeviceWeight> matrices;
  std::vector<DeviceVector> vectors;
  std::uint64_t vector_bytes = 0;  // vectors stand first in a slot, one after another
  std::uint64_t bytes = 0;

  std::size_t largest_rank() const;  // of A x, over its matrices; 0: no adapters
};
/// All layers, then the head, tile by tile. `type`: what matrices are multiplied in; f32: as exact bf16 terms.
/// Error(bad_input) for shapes that do not belong to the configuration.
std::vector<DeviceWeights> plan_device_weights(const Checkpoint& model, ElementType type);

/// bf16 terms whose sum is every finite value of `dtype` (below 2^-110, to within 2^-133: ops.h). By significant bits,
/// 8 a term: of an f16 11, of a block type's value those of scale times level, or all 24 where that is rounded.
int exact_bf16_terms(DType dtype) noexcept;

/// bf16 or f16, whichever rounds the stored weights less: f16 if every matrix is f16 or in blocks with f16 scales
/// (has_f16_scales()), nvfp4 beside them, which either type holds exactly; else bf16.
ElementType natural_type(const Checkpoint& model);

/// Consecutive rows of one part of a matrix, or all vectors of a layer.
struct WeightPiece {
  std::optional<std::size_t> matrix;  // nullopt: the vectors
  DType dtype = DType::f32;           // of the bytes
  std::uint64_t bytes = 0;
  std::size_t first_element = 0, elements = 0;  // of the matrix
  TensorPtr done = {};                          // to release after this piece
};
struct WeightPieces {
  std::vector<std::vector<WeightPiece>> of;  // [layers and tiles of the head]
  std::vector<WeightStream::Piece> stream;   // all of them, in that order
  std::uint64_t largest_bytes = 0, total_bytes = 0;
  std::shared_ptr<std::vector<RoundingSums>> sums;  // by piece, written where it is filled

  /// What the pieces filled so far lost to the sweep's type; pieces in order, so the same whoever filled them.
  WeightRounding rounding() const;
};
/// Cuts the weights into pieces of about `piece_bytes` (at least a row unit). Bytes stay as stored where `device` can
/// decode them, else they are widened to f32 on the way. What `type` rounds is measured while it passes, if `measure`.
/// Filling throws Error(bad_input) for values that are not finite. `plan` outlives the result.
WeightPieces cut_weights(const std::vector<DeviceWeights>& plan, ElementType type, const Accelerator& device,
                         std::uint64_t piece_bytes, bool measure);

}  // namespace ropewalk::verify
