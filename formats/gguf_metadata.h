#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/gguf.h"
#include "formats/json.h"

namespace ropewalk::formats {

// general.* keys from what surrounds the weights, as gguf-py's metadata.py (llama.cpp 0.5) finds them: --metadata
// before --model-name's rivals, then the model card's front matter, config.json's _name_or_path, and the folder's name
// taken apart ("Mistral-7B-Instruct-v0.2": basename, size label, finetune, version).

struct GeneralMetadata {
  std::filesystem::path folder;  // its README.md is the model card
  std::string folder_name;       // the name that is taken apart; may be "org/name"
  Json config;                   // config.json as it stands
  Json generation_config;        // null if there is none: general.sampling.*
  Json overrides;                // --metadata FILE's content, null if none
  // Error(bad_input) for overrides that are no object or name what is not written; else left out, as the converter does
  bool strict_overrides = false;
  std::string model_name;             // --model-name, empty if not given
  std::int64_t total_parameters = 0;  // of the tensors to be written; of an adapter, less than 0: of its deltas
};

/// general.sampling.* and general.name to general.languages, in the converter's order. Error(bad_input) for overrides
/// of the wrong type. A card that is not understood is left out with a line in `notes`.
std::vector<GgufKey> gguf_general_keys(const GeneralMetadata& input, std::vector<std::string>& notes);

/// "7B", "135M", "1.1B": two significant digits, as gguf-py's size_label.
std::string size_label(std::uint64_t parameters);

/// What a model id says. Absent parts are nullopt.
struct ModelIdParts {
  std::optional<std::string> full_name, organization, basename, finetune, version, size_label;
};
ModelIdParts model_id_parts(std::string_view model_id, std::int64_t total_parameters);
/// "Acme-story-7b" -> "Acme Story 7b".
std::string title_of(std::string_view id);

}  // namespace ropewalk::formats
