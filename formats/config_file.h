#pragma once

#include <string>

#include "formats/json.h"

namespace ropewalk::formats {

/// Error(bad_input) for JSON that says nothing of a model (tokenizer_config.json, generation_config.json, an adapter's,
/// an index): read as a model's config.json it would be one without faults.
void require_model_config(const std::string& path, const Json& json);

}  // namespace ropewalk::formats
