// transformers, configuration_*.py and modeling_rope_utils.py of the releases named (4.x;
// hf_config_v5.cpp has 5.x). Texts of errors are theirs.
#include <algorithm>
#include <array>

#include "formats/engines/class_defaults.h"
#include "formats/engines/hf_config_private.h"
#include "formats/engines/model_types.h"

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

/// CONFIG_MAPPING[model_type].
[[noreturn]] void raise_unknown_class(const std::string& type, const HfVersion& version, const std::string& pointer) {
  if (!version.at_least({4, 33})) raise("KeyError", "'" + type + "'", pointer);
  raise("ValueError",
        "The checkpoint you are trying to load has model type `" + type +
            "` but Transformers does not recognize this architecture",
        pointer);
}
void find_class(const Walk& walk, const HfConfig& config, const HfVersion& version) {
  if (!version.at_least(config.family->since))
    raise_unknown_class(walk.model_type(), version, walk.pointer_to("model_type"));
  // vllm and sglang have configurations of their own for some classes
  if (walk.engine.engine == Engine::transformers || walk.engine.engine == Engine::llama_cpp)
    require_class(walk, version);
}

void attributes(Walk& walk, HfConfig& config) {
  config.context = walk.get("max_position_embeddings", config.family->context);
  const ClassRope& other = class_rope(walk.model_type());
  config.theta = walk.get("rope_theta", config.family->known ? config.family->theta
                                        : config.v5          ? other.theta
                                                             : other.theta_v4);
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

/// The division of the validation of 4.56 and 4.57, where the original context is anything but None.
void refuse_original_of_zero(const Dict& rope) {
  const Value* original = rope.find("original_max_position_embeddings");
  if (!original || original->json.is_null()) return;
  if (number(*original, "unsupported operand type(s) for /: 'int' and '{type}'") == 0)
    raise("ZeroDivisionError", original->json.is_number_float() ? "float division by zero" : "division by zero",
          original->pointer);
}

void load_rope_scaling(const Walk& walk, HfConfig& config, const HfVersion& version) {
  const std::string pointer = walk.pointer_to("rope_scaling");
  // Gemma 3's classes and Olmo 3 validate the dictionary as it stands; others write type over rope_type before
  const bool as_it_stands = takes_gemma3_names(walk.model_type()) || walk.model_type() == "olmo3";
  read_rope_scaling(walk, config, [&](const Json& value) {
    if (value.is_string() || value.is_array() || as_it_stands)
      raise("AttributeError", "'" + python_type(value) + "' object has no attribute 'get'", pointer);
    raise("TypeError", "argument of type '" + python_type(value) + "' is not iterable", pointer);
  });
  if (!config.rope) {
    if (!walk.has("rope_scaling")) config.rope = class_rope_dictionary(walk);
    return;
  }
  Dict& rope = *config.rope;
  if (const Value* type = rope.find("type"); type && !as_it_stands) rope.set("rope_type", *type);  // type wins
  const Value* type = rope_type(rope);
  if (!type)
    raise("KeyError", "Missing required keys in `rope_scaling` for 'rope_type'='None': {'rope_type'}", pointer);
  if (type->json.is_array() || type->json.is_object())
    raise("TypeError", "unhashable type: '" + python_type(type->json) + "'", type->pointer);
  if (!type->json.is_string()) return;  // no validation function; the rotary embedding fails
  const std::string name = type->json.get<std::string>();
  const bool validated = name == "default" || !required_keys(name, false).empty();
  if (validated && !rope.contains("rope_type"))
    raise("KeyError", "Missing required keys in `rope_scaling` for 'rope_type'='" + name + "': {'rope_type'}", pointer);
  require_keys(rope, name, false);
  if (name == "yarn" && version.at_least({4, 56})) refuse_original_of_zero(rope);
  // 4.43 and 4.44 compare an attention_factor that is None with 0
  if (name == "longrope" && !version.at_least({4, 45}) && !rope.contains("attention_factor"))
    raise("TypeError", "'<' not supported between instances of 'NoneType' and 'int'", pointer);
}

// phi3: configuration_phi3.py -----------------------------------------------------------------------------------------

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

}  // namespace

// shared with hf_config_v5.cpp ----------------------------------------------------------------------------------------

bool is(const HfConfig& config, std::string_view model_type) { return config.family->model_type == model_type; }

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

std::optional<Dict> class_rope_dictionary(const Walk& walk) {
  const Json own = class_dictionary(walk.model_type());
  if (own.is_null()) return std::nullopt;
  Dict rope;
  for (const auto& item : own.items()) rope.set(item.key(), walk.defaulted(item.value()));
  return rope;
}

// what others take ----------------------------------------------------------------------------------------------------

void require_class(const Walk& walk, const HfVersion& version) {
  const std::string type = walk.asked_type();
  const bool later = version.at_least({5}) ? false : since_transformers_5(type);
  if ((later || (type == "olmo3" && !version.at_least({4, 57}))) && !walk.has("auto_map"))
    raise_unknown_class(type, version, "/model_type");
}

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
  // a text_config leaves out what its class has: 4096 / 32 channels, in phi3 3072 / 32 (5.23.0 and 4.57.6). ExLlama does
  // not read through transformers
  const bool raw = walk.engine.engine == Engine::exllamav2 || walk.engine.engine == Engine::exllamav3;
  if (walk.nested() && !raw && !walk.has("hidden_size") && !walk.has("num_attention_heads")) {
    const std::string type = walk.model_type();
    if (type == "llama" || type == "mistral" || type == "qwen2" || type == "qwen3") return 128;
    if (type == "phi3") return 96;
  }
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
  const int own_width = given ? 0 : class_rope(walk.model_type()).head_dim;
  if (own_width != 0) return walk.defaulted(own_width);
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
  if (!config.v5 && version.at_least({4, 57}) && has_layer_types_field(config)) check_layer_types(walk, config, false);
  return config;
}

}  // namespace ropewalk::formats::engines
