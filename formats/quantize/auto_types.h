#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "formats/quantize/quantize.h"

namespace ropewalk::formats {

// Types by measured error under a budget of bytes (--type auto): what a mix's rules guess, looked at. A tensor's error is
// |W - Q|^2 / |W|^2, columns weighed by importances; how much the model minds it is taken as the same for every tensor
// but for a factor (sensitivity()). That noise in one matrix shows in the loss in proportion to its relative square: the
// linearity that arXiv:2411.17525v1 (HIGGS), theorem 1, derives and measures.

/// A tensor whose type is to be chosen, as quantizing would take it.
struct OpenTensor {
  std::string name;
  GgufTensorPlan plan;            // its source (dtype: any of them) and importances, if its encoders may use some
  std::vector<DType> candidates;  // that its rows fit and that can be encoded, smallest first
  double sensitivity = 1;
};

/// What a tensor becomes under one of its candidates.
struct TypeChoice {
  DType dtype;
  std::uint64_t bytes;
  double error;  // relative square, times the sensitivity
};

/// The types looked at without --candidates; those that cannot do without importances are passed over without them.
std::span<const DType> auto_candidates();

/// Measured on a trained model of 4 M parameters, one matrix in Q3_K at a time, KL over relative square: the head has
/// sixteen times the middle layers' median, the embedding seven, the first layer three. About half of that is taken.
double sensitivity(std::string_view name, bool tied_head);

/// Every tensor that quantizing would touch and that no option names a type for, in order of the file. Errors as of
/// quantize_plan.
std::vector<OpenTensor> open_tensors(const GgufPlan& source, const std::string& path, const QuantizeOptions& options,
                                     std::span<const DType> candidates);

/// Bytes the smallest choices need: no budget below.
std::uint64_t least_bytes(std::span<const std::vector<TypeChoice>> choices);
/// Of each tensor the index of its choice: least sum of errors within `budget` bytes, by steepest step along each
/// tensor's lower convex hull, then whatever else still fits. Each choices[i] has at least one; the budget is at least
/// least_bytes().
std::vector<std::size_t> choose_types(std::span<const std::vector<TypeChoice>> choices, std::uint64_t budget);

/// The file type that says best what is in a file: of the block type that most bytes are in.
FileType file_type_of(std::span<const QuantizedTensor> tensors, std::span<const GgufTensorPlan> plans);

}  // namespace ropewalk::formats
