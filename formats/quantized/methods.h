#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "formats/json_fields.h"
#include "formats/quantized/packed_tensors.h"
#include "formats/quantized/quantized.h"

namespace ropewalk::formats::quantized {

// One reader per quant_method, each in a file of its own. `fields` are those of quantization_config.
struct Method {
  const ConfigText& config;
  const Json& quantization;
  std::vector<std::string>& warnings;

  JsonFields fields() const { return {config.path, config.text, quantization}; }
  /// Of the unquantized weights, as config.json says: f16, bf16 or f32, and f16 with a warning if it says nothing.
  /// Error(unsupported) for another.
  DType dtype() const;
};

/// The quant_methods that are read.
std::vector<std::string_view> method_names();

/// What `group_size` (or `key`) says of a row of `in` inputs: how many groups; -1 or nothing else below 1 is one of all.
/// nullopt if it says nothing. Error(bad_input) for what is no size.
std::optional<std::uint64_t> groups_said(const JsonFields& fields, const char* key, std::uint64_t in);

/// Replaces packed weights in `tensors`; Quantization::bytes is filled in by the caller.
Quantization read_awq(PackedTensors& tensors, const Method& method);
Quantization read_bitsandbytes(PackedTensors& tensors, const Method& method);
Quantization read_compressed_tensors(PackedTensors& tensors, const Method& method);
Quantization read_fp8(PackedTensors& tensors, const Method& method);
Quantization read_gptq(PackedTensors& tensors, const Method& method);
Quantization read_mxfp4(PackedTensors& tensors, const Method& method);

}  // namespace ropewalk::formats::quantized
