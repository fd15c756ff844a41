#pragma once

// What the tests of quantized checkpoints share: files put together from the tensors of a golden, and the sha256 of what
// a recipe gives.

#include "formats/quantized/quantized.h"
#include "formats/safetensors.h"
#include "lib/recipes.h"
#include "lib/sha256.h"
#include "tests/formats/hf_test_support.h"
#include "tests/lib/any_partition.h"

namespace ropewalk::formats {

inline std::string sha256_of(std::string_view bytes) {
  Sha256 hash;
  hash.update(std::as_bytes(std::span(bytes)));
  return hash.finish();
}

/// The tensor's bytes in its own type, or in `dtype`.
inline std::string tensor_sha256(const TensorPtr& tensor, std::optional<DType> dtype = std::nullopt) {
  return sha256_of(raw_bytes(*cast(tensor, dtype.value_or(tensor->dtype()))));
}

inline std::map<std::string, TensorPtr> tensors_by_name(const std::vector<TensorPtr>& tensors) {
  std::map<std::string, TensorPtr> out;
  for (const TensorPtr& tensor : tensors) out[tensor->name()] = tensor;
  return out;
}

/// dequantize() of tensors with a configuration.
inline std::map<std::string, TensorPtr> dequantized(std::vector<TensorPtr> tensors, const Json& config,
                                                    std::vector<std::string>* warnings = nullptr,
                                                    Quantization* found = nullptr) {
  const std::string path = "config.json", text = config.dump(2);
  std::vector<std::string> own;
  const auto quantization = dequantize(tensors, {path, text, config}, warnings ? *warnings : own);
  if (found && quantization) *found = *quantization;
  return tensors_by_name(tensors);
}

}  // namespace ropewalk::formats
