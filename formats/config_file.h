#pragma once

#include <optional>
#include <string>

#include "formats/json.h"

namespace ropewalk::formats {

/// Error(bad_input) for JSON that says nothing of a model (tokenizer_config.json, generation_config.json, an adapter's,
/// an index): read as a model's config.json it would be one without faults.
void require_model_config(const std::string& path, const Json& json);

/// The language model's part of a config.json: its text_config where the file of a multi-modal model has no width of
/// its own, else the file. Holds a pointer into `config`.
struct ModelPart {
  const Json* json;
  std::string pointer;  // "/text_config", or ""
  bool nested() const { return !pointer.empty(); }
};
ModelPart model_part(const Json& config);

/// model_max_length of a tokenizer_config.json; nullopt where it is no number of tokens (1e30 stands for none).
std::optional<int> tokenizer_limit(const Json& tokenizer_config);

}  // namespace ropewalk::formats
