// transformers, configuration_*.py and modeling_rope_utils.py of the releases named. Texts of errors are theirs.
#include "formats/engines/hf_config.h"

#include <algorithm>
#include <array>

namespace ropewalk::formats::engines {
namespace {

const std::array kFamilies = {
    Family{"llama", {4, 28}, {4, 43}, 10000, 2048, 0, true},
    Family{"mistral", {4, 34}, {4, 48}, 10000, 131072, 0, true},
    Family{"qwen2", {4, 37}, {4, 45}, 10000, 32768, 0, true},
    Family{"qwen3", {4, 51}, {4, 51}, 10000, 32768, 128, true},
    Family{"phi3", {4, 41}, {4, 48}, 10000, 4096, 0, true},
    Family{"gemma3_text", {4, 50}, {4, 50}, 1000000, 131072, 256, true},
    Family{"gpt_oss", {4, 55}, {4, 55}, 150000, 131072, 64, true},
};
const Family kOther = {"", {4, 28}, {4, 43}, 10000, 2048, 0, false};

bool is(const HfConfig& config, std::string_view model_type) { return config.family->model_type == model_type; }

/// CONFIG_MAPPING[model_type].
void find_class(const Walk& walk, const HfConfig& config, const HfVersion& version) {
  if (version.at_least(config.family->since)) return;
  const std::string type = walk.model_type();
  if (!version.at_least({4, 33})) raise("KeyError", "'" + type + "'", walk.pointer_to("model_type"));
  raise("ValueError",
        "The checkpoint you are trying to load has model type `" + type +
            "` but Transformers does not recognize this architecture",
        walk.pointer_to("model_type"));
}

void attributes(Walk& walk, HfConfig& config) {
  config.context = walk.get("max_position_embeddings", config.family->context);
  config.theta = walk.get("rope_theta", config.family->theta);
  if (walk.has("original_max_position_embeddings"))
    config.original = walk.get("original_max_position_embeddings", nullptr);
  else if (is(config, "phi3")) config.original = walk.defaulted(4096);
}

/// What is None or a dict in the file's rope_scaling; anything else reaches `not_a_dict`.
template <class NotADict>
void read_rope_scaling(const Walk& walk, HfConfig& config, NotADict not_a_dict) {
  const Json* scaling = walk.raw("rope_scaling");
  if (!scaling || scaling->is_null()) return;
  if (scaling->is_object()) config.rope = Dict(*scaling, walk.pointer_to("rope_scaling"));
  else not_a_dict(*scaling);
}

// 4.31 - 4.42: configuration_llama.py, _rope_scaling_validation -------------------------------------------------------

void validate_two_fields(const Walk& walk, const HfConfig& config, const HfVersion& version) {
  const Json* scaling = walk.raw("rope_scaling");
  if (!scaling || scaling->is_null()) return;
  const std::string pointer = walk.pointer_to("rope_scaling");
  const bool first = !version.at_least({4, 33});
  if (!config.rope || config.rope->size() != 2)
    raise("ValueError",
          std::string("`rope_scaling` must be a dictionary with ") + (version.at_least({4, 40}) ? "" : "with ") +
              "two fields, `" + (first ? "name" : "type") + "` and `factor`, got " + python_repr(*scaling),
          pointer);
  const Value* type = config.rope->find("type");
  if (!type || (type->json != "linear" && type->json != "dynamic"))
    raise("ValueError",
          std::string("`rope_scaling`'s ") + (first ? "name" : "type") +
              " field must be one of ['linear', 'dynamic'], got " + (type ? python_str(type->json) : "None"),
          pointer);
  const Value* factor = config.rope->find("factor");
  if (!factor || !factor->json.is_number_float() || factor->json.get<double>() <= 1)
    raise("ValueError",
          std::string("`rope_scaling`'s factor field must be a") + (first ? "n" : "") + " float > 1, got " +
              (factor ? python_str(factor->json) : "None"),
          factor ? factor->pointer : pointer);
}

// 4.43 - 4.57: modeling_rope_utils.py, rope_config_validation ---------------------------------------------------------

std::vector<std::string> required_keys(const std::string& type, bool v5) {
  if (type == "linear" || type == "dynamic") return {"factor"};
  if (type == "yarn")
    return v5 ? std::vector<std::string>{"factor", "original_max_position_embeddings"}
              : std::vector<std::string>{"factor"};
  if (type == "longrope") {
    std::vector<std::string> keys = {"short_factor", "long_factor"};
    if (v5) keys.push_back("original_max_position_embeddings");
    return keys;
  }
  if (type == "llama3") return {"factor", "original_max_position_embeddings", "low_freq_factor", "high_freq_factor"};
  return {};
}

void require_keys(const Dict& rope, const std::string& type, bool v5) {
  std::string missing;
  for (const std::string& key : required_keys(type, v5))
    if (!rope.contains(key)) missing += (missing.empty() ? "'" : ", '") + key + "'";
  if (!missing.empty())
    raise("KeyError",
          std::string("Missing required keys in `") + (v5 ? "rope_parameters" : "rope_scaling") +
              "` for 'rope_type'='" + type + "': {" + missing + "}",
          rope.pointer);
}

void load_rope_scaling(const Walk& walk, HfConfig& config, const HfVersion& version) {
  const std::string pointer = walk.pointer_to("rope_scaling");
  read_rope_scaling(walk, config, [&](const Json& value) {
    if (value.is_string() || value.is_array())
      raise("AttributeError", "'" + python_type(value) + "' object has no attribute 'get'", pointer);
    raise("TypeError", "argument of type '" + python_type(value) + "' is not iterable", pointer);
  });
  if (!config.rope) {
    if (is(config, "gpt_oss") && !walk.has("rope_scaling")) {
      const Json own = {{"rope_type", "yarn"}, {"factor", 32.0},    {"beta_fast", 32.0},
                        {"beta_slow", 1.0},    {"truncate", false}, {"original_max_position_embeddings", 4096}};
      config.rope.emplace();
      for (const auto& item : own.items()) config.rope->set(item.key(), walk.defaulted(item.value()));
    }
    return;
  }
  Dict& rope = *config.rope;
  if (const Value* type = rope.find("type")) rope.set("rope_type", *type);  // type wins
  const Value* type = rope_type(rope);
  if (!type)
    raise("KeyError", "Missing required keys in `rope_scaling` for 'rope_type'='None': {'rope_type'}", pointer);
  if (type->json.is_array() || type->json.is_object())
    raise("TypeError", "unhashable type: '" + python_type(type->json) + "'", type->pointer);
  if (!type->json.is_string()) return;  // no validation function; the rotary embedding fails
  const std::string name = type->json.get<std::string>();
  require_keys(rope, name, false);
  // 4.43 and 4.44 compare an attention_factor that is None with 0
  if (name == "longrope" && !version.at_least({4, 45}) && !rope.contains("attention_factor"))
    raise("TypeError", "'<' not supported between instances of 'NoneType' and 'int'", pointer);
}

// phi3: configuration_phi3.py -----------------------------------------------------------------------------------------

void check_lists(const Walk& walk, const Dict& rope, const HfVersion& version, const char* name, double partial) {
  const int rotary =
      version.at_least({4, 49}) ? channels(split_head_dim(walk) * partial, rope.pointer) : split_head_dim(walk);
  for (const std::string key : {"short_factor", "long_factor"}) {
    const Value* list = rope.find(key);
    const bool v5_none = version.at_least({5}) && (!list || list->json.is_null());
    if (v5_none) continue;
    const bool numbers = list && list->json.is_array() &&
                         std::all_of(list->json.begin(), list->json.end(), [](const Json& x) { return is_number(x); });
    if (!numbers)
      raise("ValueError",
            std::string("`") + name + "`'s " + key + " field must be a list of numbers, got " +
                (list ? python_str(list->json) : "None"),
            list ? list->pointer : rope.pointer);
    if (list->json.size() != std::size_t(rotary / 2))
      raise("ValueError",
            std::string("`") + name + "`'s " + key + " field must have length " + std::to_string(rotary / 2) +
                ", got " + std::to_string(list->json.size()),
            list->pointer);
  }
}

void load_phi3(Walk& walk, HfConfig& config, const HfVersion& version) {
  const Json* scaling = walk.raw("rope_scaling");
  if (!scaling || scaling->is_null()) return;
  const std::string pointer = walk.pointer_to("rope_scaling");
  const bool adjusts = version.at_least({4, 43});
  if (!scaling->is_object() && adjusts)
    raise("AttributeError", "'" + python_type(*scaling) + "' object has no attribute 'get'", pointer);
  if (!scaling->is_object() || scaling->size() != 3)
    raise("ValueError",
          "`rope_scaling` must be a dictionary with three fields, `type`, `short_factor` and `long_factor`, got " +
              python_repr(*scaling),
          pointer);
  config.rope = Dict(*scaling, pointer);
  Dict& rope = *config.rope;
  const Value* type = rope.find("type");
  const bool old_name = type && (type->json == "su" || type->json == "yarn");
  if (adjusts && old_name) rope.set("type", {"longrope", type->pointer});
  type = rope.find("type");
  const bool accepted = type && (adjusts ? type->json == "longrope" : old_name);
  if (!accepted)
    raise("ValueError",
          std::string("`rope_scaling`'s type field must be one of ") + (adjusts ? "['longrope']" : "['su', 'yarn']") +
              ", got " + (type ? python_str(type->json) : "None"),
          pointer);
  double partial = 1;
  if (version.at_least({4, 49}) && walk.has("partial_rotary_factor"))
    partial = number(walk.get("partial_rotary_factor", 1.0), "unsupported operand type(s) for *: 'int' and '{type}'");
  check_lists(walk, rope, version, "rope_scaling", partial);
}

// 5.x: RotaryEmbeddingConfigMixin -------------------------------------------------------------------------------------

// config classes became strict dataclasses between 5.3.0 and 5.19.0, which were run
constexpr std::initializer_list<int> kStrict = {5, 4};

[[noreturn]] void raise_validation(const HfVersion& version, const std::string& text, const std::string& pointer) {
  if (!version.at_least(kStrict)) raise("ValueError", text, pointer);
  raise("StrictDataclassClassValidationError",
        "Class validation error for validator 'validate_rope': ValueError: " + text, pointer);
}

/// What the strict classes check beside the rope: head_dim is an int to some, the width is a multiple to others.
void validate_heads(const Walk& walk, const HfConfig& config) {
  const Json* head_dim = walk.raw("head_dim");
  if (config.family->head_dim != 0 && head_dim && head_dim->is_null())
    raise("StrictDataclassFieldValidationError",
          "Validation error for field 'head_dim': TypeError: Field 'head_dim' expected int, got NoneType (value: None)",
          walk.pointer_to("head_dim"));
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

std::vector<std::string> layer_types(const Walk& walk) {
  std::vector<std::string> out;
  if (const Json* types = walk.raw("layer_types"); types && types->is_array())
    for (const Json& type : *types)
      if (type.is_string() && std::find(out.begin(), out.end(), type.get<std::string>()) == out.end())
        out.push_back(type.get<std::string>());
  return out;
}

/// Gemma3TextConfig.convert_rope_params_to_dict: a legacy rope_scaling is the full layers' alone.
void load_gemma3(Walk& walk, HfConfig& config) {
  const Json* parameters = walk.raw("rope_parameters");
  for (const std::string layer : {"full_attention", "sliding_attention"}) {
    Dict rope;
    rope.pointer = walk.pointer_to("rope_parameters") + "/" + layer;
    if (parameters && parameters->is_object() && parameters->contains(layer) && parameters->at(layer).is_object())
      rope = Dict(parameters->at(layer), rope.pointer);
    if (const Json* scaling = walk.raw("rope_scaling"); layer == "full_attention" && scaling && scaling->is_object()) {
      const Dict legacy(*scaling, walk.pointer_to("rope_scaling"));
      for (const auto& [key, value] : legacy.entries()) rope.set(key, value);
    }
    rope.set_default("rope_theta",
                     layer == "full_attention" ? config.theta : walk.get("rope_local_base_freq", 10000.0));
    config.layers.push_back({layer, rope});
  }
}

void load_v5(Walk& walk, HfConfig& config, const HfVersion& version, bool as_loaded) {
  if (is(config, "gemma3_text")) {
    load_gemma3(walk, config);
  } else {
    const char* key = dictionary_key(walk);
    if (key) refuse_other_than_dict(walk, key, version);
    Dict outer = key ? Dict(*walk.raw(key), walk.pointer_to(key)) : Dict();
    if (!key && is(config, "gpt_oss")) {
      const Json own = {{"rope_type", "yarn"}, {"factor", 32.0},    {"beta_fast", 32.0},
                        {"beta_slow", 1.0},    {"truncate", false}, {"original_max_position_embeddings", 4096}};
      for (const auto& item : own.items()) outer.set(item.key(), walk.defaulted(item.value()));
    }
    // LlamaConfig and Phi3Config have no layer_types when the dictionary is converted: to them it is a flat one
    const bool layered = !is(config, "llama") && !is(config, "phi3");
    const std::vector<std::string> types = layered ? layer_types(walk) : std::vector<std::string>();
    for (const std::string& layer : types)
      if (const Value* nested = outer.find(layer)) {
        if (!nested->json.is_object() && !nested->json.is_null())
          raise("AttributeError", "'" + python_type(nested->json) + "' object has no attribute 'setdefault'",
                nested->pointer);
        config.layers.push_back({layer, nested->json.is_object()
                                            ? std::optional<Dict>(Dict(nested->json, nested->pointer))
                                            : std::nullopt});
      }
    config.rope = std::move(outer);  // beside the nested ones it still holds `truncate`
  }
  const bool nested = !config.layers.empty();
  const auto complete = [&](Dict& rope) {
    rope.set_default("rope_theta", config.theta);
    // None at the top level is passed over; a field of Phi3Config, which multiplies by it
    if (const Json* partial = walk.raw("partial_rotary_factor"); partial && (!partial->is_null() || is(config, "phi3")))
      rope.set_default("partial_rotary_factor", walk.get("partial_rotary_factor", 1.0));
    standardise(walk, config, rope,
                nested || (as_loaded && !is(config, "phi3")));  // a field of Phi3Config, an attribute of others
    // phi3 renames only after the original context was filled in for the types that are known by then
    const Value* type = rope.find("rope_type");
    if (is(config, "phi3") && (type->json == "su" || type->json == "yarn"))
      rope.set("rope_type", {"longrope", type->pointer});
    validate(config, walk, rope, version);
  };
  if (!nested) complete(*config.rope);
  for (auto& [layer, rope] : config.layers)
    if (rope) complete(*rope);
}

}  // namespace

bool HfVersion::at_least(std::initializer_list<int> other) const {
  return !std::lexicographical_compare(numbers.begin(), numbers.end(), other.begin(), other.end());
}

HfVersion transformers_of(const EngineVersion& engine) {
  if (engine.engine == Engine::vllm)
    return engine.at_least({0, 29})   ? HfVersion{{5, 20, 2}}
           : engine.at_least({0, 21}) ? HfVersion{{5, 19, 0}}
           : engine.at_least({0, 12}) ? HfVersion{{4, 57, 6}}
           : engine.at_least({0, 10}) ? HfVersion{{4, 55, 4}}
           : engine.at_least({0, 8})  ? HfVersion{{4, 51, 3}}
                                      : HfVersion{{4, 47, 1}};
  if (engine.engine == Engine::sglang)
    return engine.at_least({0, 5, 15})  ? HfVersion{{5, 19, 0}}
           : engine.at_least({0, 5, 4}) ? HfVersion{{5, 3, 0}}
           : engine.at_least({0, 5})    ? HfVersion{{4, 57, 6}}
                                        : HfVersion{{4, 51, 3}};
  return {engine.numbers};
}

const Family& family_of(const std::string& model_type) {
  for (const Family& family : kFamilies)
    if (model_type == family.model_type) return family;
  return kOther;
}

const Value* rope_type(const Dict& rope) {
  return rope.contains("rope_type") ? rope.find("rope_type") : rope.find("type");
}

int split_head_dim(const Walk& walk) {
  const int hidden = walk.positive_int("hidden_size"), heads = walk.positive_int("num_attention_heads");
  return hidden / heads;
}

std::optional<Value> head_dim_attribute(const Walk& walk, const HfConfig& config, const HfVersion& version) {
  if (!config.family->known && walk.has("qk_rope_head_dim"))
    return walk.get("qk_rope_head_dim", nullptr);  // multi-head latent attention: the part that rotates
  const bool given = walk.has("head_dim");
  const Json* value = walk.raw("head_dim");
  if (given && !value->is_null()) return walk.get("head_dim", nullptr);
  // classes that work it out for themselves
  const bool llama = is(config, "llama") && version.at_least({4, 45});
  const bool mistral = is(config, "mistral") && (!version.at_least({4, 52}) || config.v5);
  if (llama || mistral || !config.family->known) return walk.defaulted(split_head_dim(walk));
  if (given) return walk.get("head_dim", nullptr);  // None
  if (is(config, "mistral")) return walk.defaulted(nullptr);
  if (config.family->head_dim != 0) return walk.defaulted(config.family->head_dim);
  return std::nullopt;
}

HfConfig load_hf_config(Walk& walk, const HfVersion& version, bool as_loaded) {
  HfConfig config;
  config.family = &family_of(walk.model_type());
  config.v5 = version.at_least({5});
  find_class(walk, config, version);
  attributes(walk, config);
  if (version.at_least(kStrict)) validate_heads(walk, config);
  if (config.v5) load_v5(walk, config, version, as_loaded);
  else if (is(config, "phi3")) load_phi3(walk, config, version);
  else if (is(config, "mistral")) {  // an attribute nobody validates; from 4.53 anything but a dict is passed over
    read_rope_scaling(walk, config, [&](const Json& value) {
      if (version.at_least({4, 48}) && !version.at_least({4, 53}))
        raise("AttributeError", "'" + python_type(value) + "' object has no attribute 'get'",
              walk.pointer_to("rope_scaling"));
    });
  } else if (version.at_least(config.family->shared)) load_rope_scaling(walk, config, version);
  else {
    read_rope_scaling(walk, config, [](const Json&) {});
    if (is(config, "llama") || !config.family->known) validate_two_fields(walk, config, version);
  }
  return config;
}

}  // namespace ropewalk::formats::engines
