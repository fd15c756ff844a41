#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "formats/adapters/peft.h"
#include "lib/model_config.h"

namespace ropewalk::formats {

/// What an adapter says of the model it was trained on, held against `base`, which it is merged into: the rope and context
/// of a config.json in its folder, a model_max_length in its tokenizer_config.json, the length and rope in a trainer's
/// arguments (training_files.h). One warning for each that differs, with both in words; a config.json or arguments that
/// cannot be read are said not to have been compared.
std::vector<std::string> beside_adapter(const PeftAdapter& adapter, const ModelConfig& base);

/// How `named`, the folder of the model that an adapter names as its base, is another model than `base`: rope, context,
/// vocabulary, or that they are the same; nullopt as `named`: it was not found here, and nothing was compared.
std::string base_differences(const std::optional<std::filesystem::path>& named, const ModelConfig& base);

}  // namespace ropewalk::formats
