#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "lib/checkpoint.h"
#include "verify/gates.h"

namespace ropewalk::verify {

struct WorstRow {
  std::uint64_t row = 0;
  double error = 0;  // root mean square of its errors over that of its values
};

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
  std::optional<WorstRow> worst_row = std::nullopt;  // of a matrix of two rows or more
};

inline constexpr double kNothingLeft = 0.9, kOutlier = 3, kTinyRow = 1.0 / 64;

/// What storing `value` in `type` may change it by, one rounding to nearest; `block_max`: largest magnitude of its
/// block (block types only).
///   f16:  2^-11 |w| + 2^-25    (11 significant bits; half of the smallest subnormal step)
///   bf16: 2^-8 |w| + 2^-134    (8 significant bits)
///   q8_0: d/2 + 127 |d - f16(d)| with d = block_max / 127: block_max (1/254 + 2^-11) + 127 * 2^-25, times 1 + 2^-20
///     for float arithmetic on the way
///   f32 and f64: 0: what a checkpoint stores fits
double encoding_bound(DType type, double value, double block_max);

/// The most that WorstRow::error of a good export in `type` may be; infinity for a type that has no such limit: one
/// bounded element by element, and those of about two bits and fewer whose good rows err by 0.7 to 1.03 (iq2_xxs, iq1_s,
/// iq1_m, q1_0, q2_0, tq1_0, tq2_0) or were not measured (nvfp4). A row zeroed errs by 1, one permuted or of another head by
/// 1.4, one negated by 2, one of which half is zeroed by 0.7.
///   0.5  q4_0 to q5_1, q4_k to q6_k, iq4_nl, iq4_xs, mxfp4: good rows measured to 0.19
///   0.6  q3_k, iq3_xxs, iq3_s: to 0.26
///   0.8  q2_k, iq2_xs, iq2_s: to 0.41
double row_limit(DType type);

/// The encoding of a matrix that rounds most, by encoding_bound; f32 if there is no matrix. Vectors (norms, biases) do
/// not count: they are stored finer.
DType coarsest_encoding(const std::vector<TensorPtr>& tensors);

/// Every tensor of the source that the candidate has in the same shape, in the source's rotary order. Stored in the
/// same type on both sides, values must be equal: infinities and NaN too, which then are no error. Two f64 are compared in
/// f64. Block types promise no bound for an element; there a tensor fails
///   whose RMSE is kNothingLeft of its RMS or more: one bit a weight at its best leaves 0.60 of a normal distribution (Max
///     1960, table I), so no encoding loses that much, and a tensor that was zeroed, swapped or permuted does;
///   a row of which errs by more than row_limit of its own RMS: rows are heads, neurons and tokens, of which a tensor can lose
///     many before its own RMSE shows it. A row of less than kTinyRow of the tensor's RMS is held against that;
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
