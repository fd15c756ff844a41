#pragma once

#include <string>

#include "formats/json.h"
#include "lib/model_config.h"

namespace ropewalk::formats {

/// Far above any model; products of a model's sizes fit in 63 bits.
inline constexpr int kMostLayers = 10'000;

/// config.json as transformers 5.23.0 reads it (both dialects: rope_theta/rope_scaling/torch_dtype of version 4,
/// rope_parameters/dtype of version 5;
/// the YaRN repository's remote-code dialect, recognised by auto_map, never run) for model_type llama and mistral.
/// `path` and `text` are for messages (file:line:column). Error(bad_input) for missing or ill-typed fields,
/// Error(unsupported) for other architectures and rope types. `warnings` collects what deserves a line.
ModelConfig read_hf_config(const std::string& path, const std::string& text, const Json& config,
                           std::vector<std::string>& warnings);

}  // namespace ropewalk::formats
