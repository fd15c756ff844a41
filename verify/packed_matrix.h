#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "lib/checkpoint.h"
#include "verify/aligned_buffer.h"
#include "verify/workers.h"

namespace ropewalk::verify {

/// Weights of a linear map, read once and laid out as gemm() wants them: [panels, depth, 32], output o in column o % 32
/// of panel o / 32, zeros past the last.
struct PackedMatrix {
  std::size_t outputs = 0, depth = 0, panels = 0;
  AlignedBuffer data;

  const float* panel(std::size_t index) const noexcept { return data.data() + index * depth * kPanel; }
};

/// Outputs of `parts` one after another; each is [outputs, depth], `outputs` gives how many each must have. `out` is
/// overwritten; its memory is used again if it held a matrix of this size (the layers of a model do: fresh pages for
/// each cost 5 % of a sweep).
/// Error(bad_input) naming the tensor if its shape is another or a value is not finite.
struct MatrixPart {
  TensorPtr tensor;
  std::size_t outputs;
};
void pack(std::span<const MatrixPart> parts, std::size_t depth, const Workers& workers, PackedMatrix& out);

/// Two matrices of `outputs` rows interleaved by 16, as swiglu() reads them.
void pack_interleaved(const TensorPtr& gate, const TensorPtr& up, std::size_t outputs, std::size_t depth,
                      const Workers& workers, PackedMatrix& out);

/// The B factors of adapters (lib/unmerged.h) that stand beside matrices packed as above: part i is [outputs, its own
/// rank] and takes columns [first_column, first_column + rank) of the depth; zeros elsewhere, and for a part without a
/// tensor. So one product with what all A factors gave, one after another, adds every part's own delta.
struct FactorPart {
  TensorPtr tensor;  // null: none
  std::size_t outputs, first_column;
};
void pack_factors(std::span<const FactorPart> parts, std::size_t depth, const Workers& workers, PackedMatrix& out);
void pack_factors_interleaved(const FactorPart& gate, const FactorPart& up, std::size_t depth, const Workers& workers,
                              PackedMatrix& out);

/// Error(bad_input) naming file and tensor unless it has exactly that shape.
void require_shape(const LazyTensor& tensor, const std::vector<std::uint64_t>& want);

/// A vector, checked likewise; `size` elements.
std::vector<float> read_vector(const TensorPtr& tensor, std::size_t size);

/// The tensor of that name, or Error(bad_input) naming model and tensor.
TensorPtr required(const Checkpoint& model, const std::string& name);

/// Throws Error(bad_input) naming tensor and element if a value is not finite; the values are rows from `first_row` on.
void require_finite(const LazyTensor& tensor, std::uint64_t first_row, std::span<const float> values);

}  // namespace ropewalk::verify
