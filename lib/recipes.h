#pragma once

#include <string>
#include <vector>

#include "lib/file.h"
#include "lib/lazy_tensor.h"
#include "lib/model_config.h"

namespace ropewalk {

/// Bytes of `info` at `offset_bytes` of an open file, read with pread. The caller has checked that they lie inside the
/// file.
TensorPtr file_tensor(TensorInfo info, std::shared_ptr<const File> file, std::uint64_t offset_bytes);

/// Bytes held in memory (generated tensors such as rope_freqs, factors of tests). bytes.size() == info.bytes().
TensorPtr memory_tensor(TensorInfo info, std::vector<std::byte> bytes);
/// f32 values held in memory.
TensorPtr memory_tensor(std::string name, std::vector<std::uint64_t> shape, std::vector<float> values);

/// The same rows under another name.
TensorPtr renamed(TensorPtr parent, std::string name);
/// The same rows, said to be laid out as `pairs`: for a reader that knows what a plain container does not say.
TensorPtr labelled(TensorPtr parent, RotaryPairs pairs);

/// One rounding to `dtype` (to nearest even), from the widest type the parent offers. Raw pass-through if the parent
/// already has that dtype and raw bytes.
/// Overflow of a finite value to infinity throws Error(bad_input) naming file, tensor and element, unless `saturate`
/// clamps to the largest finite (counted in clamped()).
/// Infinities and NaN pass on into plain types and are refused in blocks (value_range.h).
TensorPtr cast(TensorPtr parent, DType dtype, bool saturate = false);

/// Rows of each head re-ordered between half-split and interleaved rotary pairs; the parent itself if it stands in that
/// order, Error(bad_input) if its pairs are `none` or the sizes do not fit. `parent` has n_heads * head_dim rows, or is
/// a bias with that many elements in its only row. Only the first rotary_dim channels of a head move. Source: llama.cpp
/// 0.5 LlamaModel.permute and its inverse.
TensorPtr with_rotary_pairs(TensorPtr parent, RotaryPairs target, std::uint64_t n_heads, std::uint64_t head_dim,
                            std::uint64_t rotary_dim);
/// The same for a rotary projection (or its bias, or a LoRA B of it) of a model of that configuration.
TensorPtr with_rotary_pairs(TensorPtr parent, RotaryPairs target, const ModelConfig& config);

/// A weight that with_rotary_pairs() re-ordered, taken apart, so that a writer of both orders reads its parent once:
/// row r of it is row r / n * n + source[r % n] of `parent`, n = source.size().
struct RowOrder {
  TensorPtr parent;
  std::vector<std::uint32_t> source;
};
/// nullptr for any other tensor, biases among them.
std::shared_ptr<const RowOrder> row_order(const LazyTensor& tensor);

/// W + scale * B A, evaluated in double (docs/numerics.md): products in rank order summed in double, then times the
/// scale, then plus W.
/// weight: [out, in]; b: [out, rank]; a: [rank, in]. Several terms are added to W one after the other, in order; none:
/// the weight itself.
/// A term that makes an infinity or NaN of a finite value is Error(bad_input) naming the element, when it is read.
/// Wide; info().dtype is the weight's. prepare() reads A and B, release() drops them. Error(bad_input) if the shapes do
/// not fit.
struct LowRankTerm {
  TensorPtr a, b;
  double scale;
};
TensorPtr with_low_rank_delta(TensorPtr weight, std::vector<LowRankTerm> terms);

}  // namespace ropewalk
