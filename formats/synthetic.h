#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/hf_folder.h"
#include "lib/model_config.h"

namespace ropewalk::formats {

/// "synthetic:CONFIG.json" (or its folder): the path; nullopt for anything else.
std::optional<std::filesystem::path> synthetic_config(std::string_view model);

/// What every file written from such weights says of itself.
inline constexpr const char* kSyntheticDescription =
    "Random weights of this shape, made for measuring time and memory; what they say means nothing.";

/// A Hugging Face folder as if weights lay in it: config.json read, no tensors yet (synthetic_tensors needs what it
/// says). Whatever else the folder holds is not carried, but its tokenizer serves.
HfFiles read_synthetic_config(const std::filesystem::path& path);

/// Random weights of that shape, for benchmarks and capacity planning: normal, 1 / sqrt(fan-in), norms 1, biases 0, the
/// same bytes on every machine. Matrices are stored in `dtype` (f32, f16 or bf16) and are cut, as raw bytes, out of a
/// few pools of 8 MiB: values repeat, memory does not grow with the model. Layer l has layer l % 4's weights.
/// Error(unsupported) for another dtype.
std::vector<TensorPtr> synthetic_tensors(const ModelConfig& config, DType dtype);

/// The dtype of a config.json: dtype or torch_dtype, bf16 if it says nothing.
DType synthetic_dtype(const Json& config, const std::string& config_path);

}  // namespace ropewalk::formats
