// layer_types: PreTrainedConfig.validate_layer_type and the fields of the classes in transformers 5 (5.23.0 was run),
// layer_type_validation of configuration_utils.py in 4.57.6 (run). Texts of errors are theirs.
#include <algorithm>
#include <array>

#include "formats/engines/hf_config_private.h"

namespace ropewalk::formats::engines {
namespace {

/// ALLOWED_ATTN_LAYER_TYPES of 5.23.0, and the older names that it takes for some of them.
constexpr std::array kKinds = {"full_attention",
                               "sliding_attention",
                               "chunked_attention",
                               "window_attention",
                               "indexed_attention",
                               "compressed_sparse_attention",
                               "heavily_compressed_attention",
                               "minimax_m3_sparse",
                               "conv",
                               "moe",
                               "hybrid",
                               "hybrid_sliding",
                               "reference_sliding_attention",
                               "linear_attention",
                               "mamba",
                               "attention",
                               "deepseek_sparse_attention",
                               "qwen_sparse_attention"};
constexpr std::array kKindsV4 = {"full_attention", "sliding_attention", "chunked_attention", "linear_attention"};

template <std::size_t n>
bool is_kind(const Json& value, const std::array<const char*, n>& kinds) {
  return value.is_string() && std::find(kinds.begin(), kinds.end(), value.get_ref<const std::string&>()) != kinds.end();
}

/// Python's iteration: over the keys of a dictionary, over the letters of a string (none of them is a kind).
Json entries_of(const Json& types) {
  if (types.is_array()) return types;
  Json entries = Json::array();
  if (types.is_object())
    for (const auto& item : types.items()) entries.push_back(item.key());
  else if (types.is_string() && !types.get_ref<const std::string&>().empty()) entries.push_back("?");
  return entries;
}

[[noreturn]] void raise_in(bool v5, const std::string& text, const std::string& pointer) {
  if (!v5) raise("ValueError", text, pointer);
  raise("StrictDataclassClassValidationError",
        "Class validation error for validator 'validate_layer_type': ValueError: " + text, pointer);
}

}  // namespace

bool has_layer_types_field(const HfConfig& config) {
  return config.family->known && !is(config, "llama") && !is(config, "mistral") && !is(config, "phi3");
}

void check_layer_types_field(const Walk& walk, const HfConfig& config) {
  const Json* types = walk.raw("layer_types");
  if (!types || types->is_null() || !has_layer_types_field(config)) return;
  if (types->is_array() && std::all_of(types->begin(), types->end(), [](const Json& one) { return one.is_string(); }))
    return;
  raise("StrictDataclassFieldValidationError",
        "Validation error for field 'layer_types': TypeError: Field 'layer_types' with value " + python_repr(*types) +
            " doesn't match any type in (list[str], <class 'NoneType'>)",
        walk.pointer_to("layer_types"));
}

void check_layer_types(const Walk& walk, const HfConfig& config, bool v5) {
  const Json* types = walk.raw("layer_types");
  if (!config.family->known || !types || types->is_null()) return;
  const std::string pointer = walk.pointer_to("layer_types");
  if (types->is_number() || types->is_boolean())
    raise("TypeError", "'" + python_type(*types) + "' object is not iterable", pointer);
  const Json entries = entries_of(*types);
  for (std::size_t layer = 0; layer < entries.size(); ++layer)
    if (!(v5 ? is_kind(entries[layer], kKinds) : is_kind(entries[layer], kKindsV4)))
      raise_in(v5, "The `layer_types` entries must be in ('full_attention', 'sliding_attention', ...)",
               types->is_array() ? pointer + "/" + std::to_string(layer) : pointer);
  const Json* layers = walk.raw("num_hidden_layers");
  if (!layers || !layers->is_number_integer()) return;  // absent: the class's own number
  if (*layers != entries.size())
    raise_in(v5,
             "`num_hidden_layers` (" + layers->dump() + ") must be equal to the number of " +
                 (v5 ? "`layer_types` (" : "layer types (") + std::to_string(entries.size()) + ")",
             pointer);
}

}  // namespace ropewalk::formats::engines
