#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "formats/json.h"

namespace ropewalk::formats {

/// What a merge needs of adapter_config.json.
struct PeftConfig {
  Json json;               // the whole file
  std::string text;        // as read
  std::string base_model;  // base_model_name_or_path, empty if not said
  std::int64_t rank = 0;
  double scale = 0;  // lora_alpha / r, or lora_alpha / sqrt(r) with use_rslora
};
/// Error(unsupported) naming the field for every kind of adapter and every field, known or not, that would change the
/// merge; Error(bad_input) for what is missing or ill-typed.
PeftConfig read_peft_config(const std::string& path, const std::string& text);

/// One tensor of an adapter, by what its key says.
struct LoraFactor {
  std::string module;  // canonical path: "model.layers.0.self_attn.q_proj"
  bool is_a = false;
};
/// Module and role of a key in any spelling met in the wild; nullopt if it is no factor of a linear layer.
std::optional<LoraFactor> parse_lora_key(std::string key);

}  // namespace ropewalk::formats
