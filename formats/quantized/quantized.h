#pragma once

#include <optional>
#include <string>
#include <vector>

#include "formats/json.h"
#include "lib/lazy_tensor.h"

namespace ropewalk::formats {

/// What was found packed in a checkpoint, for people.
struct Quantization {
  std::string method;         // "bitsandbytes nf4, double quantization"
  std::uint64_t weights = 0;  // how many are packed
  std::uint64_t bytes = 0;    // that they take as stored, scales and tables included
};

/// A configuration as read, for messages.
struct ConfigText {
  const std::string& path;
  const std::string& text;
  const Json& json;
};

/// Error(unsupported) naming the method of config.json's quantization_config if its weights are not read here.
void check_quantization_method(const ConfigText& config);

/// In place of the packed tensors of each quantized weight one recipe under the weight's own name, whose rows are what
/// the method's library dequantizes to, bit for bit, in its type (a Conv1D's as the class stores it; any rows, memory
/// of a few rows). Every packed tensor is used once; what belongs to none stays, for the inventory to judge.
/// nullopt, tensors as they were: the configuration names no quantization. Error(bad_input) naming file and tensor for
/// a missing part, a type, shape or number that does not fit; Error(unsupported) for a variant not read.
std::optional<Quantization> dequantize(std::vector<TensorPtr>& tensors, const ConfigText& config,
                                       std::vector<std::string>& warnings);

}  // namespace ropewalk::formats
