#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "lib/checkpoint.h"
#include "verify/gates.h"

namespace ropewalk::verify {

/// One tensor of the candidate against the source's value.
struct WeightDifference {
  std::string name;
  DType type;                 // the candidate's encoding
  double max_error = 0;       // absolute; NaN where one side alone is no number, infinity where one alone is infinite
  double mean_error = 0;      // mean of absolute errors
  double rmse = 0;            // root mean square of the errors
  double rms = 0;             // root mean square of the source's finite values, to judge the errors by
  double worst_of_bound = 0;  // largest error / what one rounding to the encoding may cost; 0 if equal
  bool pass = true;           // every error within its bound, and something of the values is left
  std::string flag = {};      // why it is pointed out, passing or not; empty: it is not
};

inline constexpr double kNothingLeft = 0.9, kOutlier = 3;

/// What storing `value` in `type` may change it by, one rounding to nearest; `block_max`: largest magnitude of its
/// block (block types only).
///   f16:  2^-11 |w| + 2^-25    (11 significant bits; half of the smallest subnormal step)
///   bf16: 2^-8 |w| + 2^-134    (8 significant bits)
///   q8_0: d/2 + 127 |d - f16(d)| with d = block_max / 127: block_max (1/254 + 2^-11) + 127 * 2^-25, times 1 + 2^-20
///     for float arithmetic on the way
///   f32 and f64: 0: what a checkpoint stores fits
double encoding_bound(DType type, double value, double block_max);

/// The encoding of a matrix that rounds most, by encoding_bound; f32 if there is no matrix. Vectors (norms, biases) do
/// not count: they are stored finer.
DType coarsest_encoding(const std::vector<TensorPtr>& tensors);

/// Every tensor of the source that the candidate has in the same shape, in the source's rotary order. Stored in the
/// same type on both sides, values must be equal: infinities and NaN too, which then are no error. Two f64 are compared in
/// f64. Block types promise no bound for an element; there a tensor fails
///   whose RMSE is kNothingLeft of its RMS or more: one bit a weight at its best leaves 0.60 of a normal distribution (Max
///     1960, table I), so no encoding loses that much, and a tensor that was zeroed, swapped or permuted does;
///   that is a vector: consumers keep norms and biases in float, and a gain of few bits bends every channel behind it.
/// A norm's gains are flagged where they are no numbers, passing or not, and, with both ranges, where they err and leave the
/// source's range.
/// One whose RMSE over RMS is more than kOutlier times the median of the candidate's tensors of its type is flagged.
/// Encodings without a decoder are Error(unsupported); of several errors the first tensor's, whatever the threads.
std::vector<WeightDifference> compare_weights(const Checkpoint& source, const Checkpoint& candidate, int threads,
                                              const std::function<void(std::uint64_t bytes)>& progress);
/// "weights": no tensor errs by more than its encoding may, and there was one to compare.
Gate weight_gate(std::span<const WeightDifference> differences);

}  // namespace ropewalk::verify
