#pragma once

#include "formats/json_fields.h"
#include "formats/quantized/packed_tensors.h"
#include "formats/quantized/quantized.h"

namespace ropewalk::formats::quantized {

// One reader per quant_method, each in a file of its own. `fields` are those of quantization_config.
struct Method {
  const ConfigText& config;
  const Json& quantization;
  DType dtype;  // of the configuration: f16, bf16 or f32
  std::vector<std::string>& warnings;
};

/// Replaces packed weights in `tensors`; Quantization::bytes is filled in by the caller.
Quantization read_awq(PackedTensors& tensors, const Method& method);
Quantization read_bitsandbytes(PackedTensors& tensors, const Method& method);
Quantization read_compressed_tensors(PackedTensors& tensors, const Method& method);
Quantization read_fp8(PackedTensors& tensors, const Method& method);
Quantization read_gptq(PackedTensors& tensors, const Method& method);
Quantization read_mxfp4(PackedTensors& tensors, const Method& method);

}  // namespace ropewalk::formats::quantized
