// transformers 5.x: RotaryEmbeddingConfigMixin and the classes that have it. Texts of errors are theirs.
#include <algorithm>
#include <cmath>

#include "formats/engines/class_defaults.h"
#include "formats/engines/hf_config_private.h"

namespace ropewalk::formats::engines {
namespace {

// config classes became strict dataclasses between 5.3.0 and 5.19.0, which were run
constexpr std::initializer_list<int> kStrict = {5, 4};

[[noreturn]] void raise_validation(const HfVersion& version, const std::string& text, const std::string& pointer) {
  if (!version.at_least(kStrict)) raise("ValueError", text, pointer);
  raise("StrictDataclassClassValidationError",
        "Class validation error for validator 'validate_rope': ValueError: " + text, pointer);
}

/// A field of the strict classes (5.23.0, run: each of these with a fraction, text, null and true).
struct IntField {
  const char* key;
  bool or_none = false;
};

/// The fields that are an int, of a class that was run, in the order in which they are checked.
std::vector<IntField> int_fields(const HfConfig& config) {
  const bool own_heads = is(config, "mistral") || is(config, "gemma3_text") || is(config, "gpt_oss");
  std::vector<IntField> out = {{"vocab_size"},
                               {"hidden_size"},
                               {"intermediate_size"},
                               {"num_hidden_layers"},
                               {"num_attention_heads"},
                               {"num_key_value_heads", !own_heads},
                               {"max_position_embeddings"}};
  if (is(config, "phi3")) out.push_back({"original_max_position_embeddings"});
  if (is(config, "llama") || is(config, "mistral")) out.push_back({"head_dim", true});
  else if (config.family->head_dim != 0) out.push_back({"head_dim"});
  if (!is(config, "llama")) out.push_back({"sliding_window", true});
  if (is(config, "qwen2") || is(config, "qwen3")) out.push_back({"max_window_layers"});
  return out;
}

void validate_numbers(const Walk& walk, const HfConfig& config) {
  if (!config.family->known) return;
  for (const IntField& field : int_fields(config)) {
    const Json* value = walk.raw(field.key);
    if (!value || value->is_number_integer() || (field.or_none && value->is_null())) continue;
    const std::string name = "'" + std::string(field.key) + "'", shown = python_repr(*value);
    // the parser keeps no whole number past 64 bits: nobody can tell it from one with a point
    if (value->is_number_float() && std::abs(value->get<double>()) >= 0x1p63)
      not_followed("a " + std::string(field.key) + " of " + shown, walk.pointer_to(field.key));
    raise("StrictDataclassFieldValidationError",
          "Validation error for field " + name + ": TypeError: Field " + name +
              (field.or_none ? " with value " + shown + " doesn't match any type in (<class 'int'>, <class 'NoneType'>)"
                             : " expected int, got " + python_type(*value) + " (value: " + shown + ")"),
          walk.pointer_to(field.key));
  }
}

/// The width is a multiple to some.
void validate_heads(const Walk& walk, const HfConfig& config) {
  if (!is(config, "llama") && !is(config, "gemma3_text")) return;
  if (!walk.has("hidden_size") || !walk.has("num_attention_heads")) return;  // the class has numbers of its own
  const int hidden = walk.positive_int("hidden_size"), heads = walk.positive_int("num_attention_heads");
  if (hidden % heads != 0)
    raise("StrictDataclassClassValidationError",
          "Class validation error for validator 'validate_architecture': ValueError: The hidden size (" +
              std::to_string(hidden) + ") is not a multiple of the number of attention heads (" +
              std::to_string(heads) + ").",
          walk.pointer_to("hidden_size"));
}

void standardise(Walk& walk, HfConfig& config, Dict& rope, bool own_original) {
  const Value* type = rope_type(rope);
  rope.set("rope_type", type ? *type : walk.defaulted("default"));
  const std::string name =
      rope.find("rope_type")->json.is_string() ? rope.find("rope_type")->json.get<std::string>() : "";
  if (name != "llama3" && name != "yarn" && name != "longrope") return;
  if (config.original && !own_original)
    rope.set("original_max_position_embeddings", *config.original);  // beats the dictionary's own
  else rope.set_default("original_max_position_embeddings", config.context);
}

void validate(const HfConfig& config, const Walk& walk, Dict& rope, const HfVersion& version) {
  const Json type = rope.find("rope_type")->json;
  if (!type.is_string()) return;
  const std::string name = type.get<std::string>();
  require_keys(rope, name, true);
  if (!is(config, "phi3")) return;
  if (name != "default" && name != "longrope")
    raise_validation(version, "`rope_parameters`'s type field must be one of ['longrope'], got " + name, rope.pointer);
  try {
    const Value* partial = rope.find("partial_rotary_factor");
    check_lists(walk, rope, version, "rope_parameters",
                partial ? number(*partial, "unsupported operand type(s) for *: 'int' and '{type}'") : 1.0);
  } catch (const Raised& raised) {
    if (raised.error.kind != "ValueError") throw;
    raise_validation(version, raised.error.text, raised.error.pointer);
  }
}

/// The dictionary that counts, unstandardised: rope_scaling if it holds anything, else rope_parameters; nothing if both
/// are empty or None.
const char* dictionary_key(const Walk& walk) {
  for (const char* key : {"rope_scaling", "rope_parameters"})
    if (const Json* value = walk.raw(key); value && truthy(*value)) return key;
  return nullptr;
}

void refuse_other_than_dict(const Walk& walk, const char* key, const HfVersion& version) {
  const Json* value = walk.raw(key);
  if (value->is_object()) return;
  if (!version.at_least(kStrict))
    raise("AttributeError", "'" + python_type(*value) + "' object has no attribute 'setdefault'", walk.pointer_to(key));
  raise("StrictDataclassFieldValidationError",
        "Validation error for field 'rope_parameters': TypeError: Field 'rope_parameters' with value " +
            python_repr(*value) + " doesn't match any type in (dict, None)",
        walk.pointer_to(key));
}

/// rope_parameters is a dictionary or None to the strict classes, beside a rope_scaling too.
void validate_parameters_field(const Walk& walk, const HfVersion& version) {
  const Json* value = walk.raw("rope_parameters");
  if (value && !value->is_null()) refuse_other_than_dict(walk, "rope_parameters", version);
}

/// Gemma 3's classes and Olmo 3 call dict.update with rope_scaling.
void refuse_what_update_refuses(const Walk& walk) {
  const Json* scaling = walk.raw("rope_scaling");
  if (!scaling || scaling->is_object() || !truthy(*scaling)) return;
  const std::string pointer = walk.pointer_to("rope_scaling");
  if (scaling->is_string())
    raise("ValueError", "dictionary update sequence element #0 has length 1; 2 is required", pointer);
  if (!scaling->is_array()) raise("TypeError", "'" + python_type(*scaling) + "' object is not iterable", pointer);
  if (is_number(scaling->front()))
    raise("TypeError", "cannot convert dictionary update sequence element #0 to a sequence", pointer);
  not_followed("a rope_scaling that is a list of pairs", pointer);
}

/// Each kind of layer once; where the file names none, what a class that was run fills in: gpt_oss alternates, qwen's
/// windows are off (with them, layers from max_window_layers on slide).
std::vector<std::string> layer_types(const Walk& walk, const HfConfig& config) {
  std::vector<std::string> out;
  const Json* types = walk.raw("layer_types");
  if ((!types || types->is_null()) && has_layer_types_field(config))
    return is(config, "gpt_oss") ? std::vector<std::string>{"sliding_attention", "full_attention"}
                                 : std::vector<std::string>{"full_attention"};
  if (types && types->is_array())
    for (const Json& type : *types)
      if (type.is_string() && std::find(out.begin(), out.end(), type.get<std::string>()) == out.end())
        out.push_back(type.get<std::string>());
  return out;
}

/// What stands for the rope of one kind of layer.
std::optional<Dict> nested_rope(const Value& nested, const char* asked) {
  if (nested.json.is_null()) return std::nullopt;
  if (!nested.json.is_object())
    raise("AttributeError", "'" + python_type(nested.json) + "' object has no attribute '" + asked + "'",
          nested.pointer);
  return Dict(nested.json, nested.pointer);
}

/// convert_rope_params_to_dict of Gemma3TextConfig and Olmo3Config: rope_scaling, flat as it is, updates the full layers' dictionary. Where
/// the file has no rope_parameters that one holds rope_type default, so that `type` alone changes nothing.
Dict full_layers(const Walk& walk, Dict rope, const Json* parameters) {
  const Json* scaling = walk.raw("rope_scaling");
  const bool given = parameters && !parameters->is_null();
  if (!given) rope.set("rope_type", walk.defaulted("default"));
  if (!scaling || scaling->is_null()) return rope;
  const std::string pointer = walk.pointer_to("rope_scaling");
  if (given && parameters->is_object()) {
    const auto own = parameters->find("full_attention");
    if (own == parameters->end()) raise("KeyError", "'full_attention'", pointer);
    if (own->is_null()) raise("AttributeError", "'NoneType' object has no attribute 'update'", pointer);
  }
  if (!scaling->is_object()) return rope;
  const Dict update(*scaling, pointer);
  for (const auto& [key, value] : update.entries()) rope.set(key, value);
  return rope;
}

/// `full_theta`, `sliding_theta`: of dictionaries that have none.
void load_both_kinds(Walk& walk, HfConfig& config, const Value& full_theta, const Value& sliding_theta) {
  const Json* parameters = walk.raw("rope_parameters");
  for (const std::string layer : {"full_attention", "sliding_attention"}) {
    Dict rope;
    rope.pointer = walk.pointer_to("rope_parameters") + "/" + layer;
    if (parameters && parameters->is_object() && parameters->contains(layer))
      if (const auto given = nested_rope({parameters->at(layer), rope.pointer}, "setdefault")) rope = *given;
    const bool full = layer == "full_attention";
    if (full) rope = full_layers(walk, std::move(rope), parameters);
    rope.set_default("rope_theta", full ? full_theta : sliding_theta);
    config.layers.push_back({layer, rope});
  }
  // beside the nested ones it holds `truncate`
  config.rope = parameters && parameters->is_object() ? Dict(*parameters, walk.pointer_to("rope_parameters")) : Dict();
}

}  // namespace

void load_v5(Walk& walk, HfConfig& config, const HfVersion& version, bool as_loaded) {
  const std::string type_of_model = walk.model_type();
  if (is_gpt_neox(type_of_model)) config.theta = walk.get("rotary_emb_base", 10000.0);
  const bool transformers = walk.engine.engine == Engine::transformers;
  const bool olmo3 = type_of_model == "olmo3" && transformers;
  if (version.at_least(kStrict)) {
    if (config.family->known || takes_gemma3_names(type_of_model) || olmo3) validate_parameters_field(walk, version);
    validate_numbers(walk, config);
    check_layer_types_field(walk, config);
    validate_heads(walk, config);
  }
  if (takes_gemma3_names(type_of_model) || olmo3) refuse_what_update_refuses(walk);
  if (takes_gemma3_names(type_of_model)) {
    load_both_kinds(walk, config, config.theta, walk.get("rope_local_base_freq", 10000.0));
  } else if (olmo3) {
    // Olmo3Config pops rope_theta for the full layers, and what is left for the others is the default
    load_both_kinds(walk, config, walk.get("rope_theta", 500000.0), walk.defaulted(500000.0));
  } else {
    const char* key = dictionary_key(walk);
    if (key) refuse_other_than_dict(walk, key, version);
    Dict outer = key ? Dict(*walk.raw(key), walk.pointer_to(key)) : Dict();
    if (!key) outer = class_rope_dictionary(walk).value_or(Dict());
    // LlamaConfig, MistralConfig and Phi3Config have no layer_types when the dictionary is converted: to them it is a
    // flat one, whose entries are looked at when it is validated
    const bool flat = config.family->known && !has_layer_types_field(config);
    for (const std::string& layer : layer_types(walk, config))
      if (const Value* nested = outer.find(layer)) {
        const std::optional<Dict> rope = nested_rope(*nested, flat ? "get" : "setdefault");
        if (!flat) config.layers.push_back({layer, rope});
      }
    config.rope = std::move(outer);  // beside the nested ones it still holds `truncate`
  }
  const bool nested = !config.layers.empty();
  const auto complete = [&](Dict& rope) {
    rope.set_default("rope_theta", config.theta);
    if (is_gpt_neox(type_of_model)) rope.set_default("partial_rotary_factor", walk.get("rotary_pct", 0.25));
    if (const Value* type = rope_type(rope); type && type->json == "mrope" && takes_mrope(type_of_model))
      rope.set("rope_type", {"default", type->pointer});
    // None at the top level is passed over; a field of Phi3Config, which multiplies by it
    if (const Json* partial = walk.raw("partial_rotary_factor"); partial && (!partial->is_null() || is(config, "phi3")))
      rope.set_default("partial_rotary_factor", walk.get("partial_rotary_factor", 1.0));
    else if (const double share = class_rope(type_of_model).share; share != 1)
      rope.set_default("partial_rotary_factor", walk.defaulted(share));
    standardise(walk, config, rope,
                nested || (as_loaded && !is(config, "phi3")));  // a field of Phi3Config, an attribute of others
    // phi3 renames only after the original context was filled in for the types that are known by then
    const Value* type = rope.find("rope_type");
    const bool old_name = is(config, "phi3") && (type->json == "su" || type->json == "yarn");
    if (old_name) rope.set("rope_type", {"longrope", type->pointer});
    validate(config, walk, rope, version);
    // the rotary embedding standardises again, by the new name
    if (old_name && !as_loaded && config.original) rope.set("original_max_position_embeddings", *config.original);
  };
  if (!nested) complete(*config.rope);
  for (auto& [layer, rope] : config.layers)
    if (rope) complete(*rope);
  if (version.at_least(kStrict)) check_layer_types(walk, config, true);
}

}  // namespace ropewalk::formats::engines
