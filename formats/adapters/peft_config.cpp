#include "formats/adapters/peft_config.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>

#include "formats/json_fields.h"
#include "lib/error.h"

namespace ropewalk::formats {
namespace {

/// Fields of LoraConfig (PEFT 0.21.2) that a merge of plain LoRA does not need: bookkeeping, training-time switches,
/// and the choice of targets, which formats/adapters/peft_targets.h compares with the tensors in the file. fan_in_fan_out is
/// ignored by PEFT too where the module is a Linear, as all of llama's are;
/// the sub-configurations of initialisations matter only with the init_lora_weights that names them.
constexpr std::array kNoEffect = {
    "peft_type",      "peft_version",      "task_type",       "inference_mode",  "base_model_name_or_path",
    "revision",       "auto_mapping",      "lora_dropout",    "lora_alpha",      "r",
    "use_rslora",     "init_lora_weights", "target_modules",  "exclude_modules", "layers_to_transform",
    "layers_pattern", "fan_in_fan_out",    "megatron_config", "megatron_core",   "qalora_group_size",
    "loftq_config",   "eva_config",        "corda_config",    "lora_ga_config",  "ensure_weight_tying",
    "runtime_config"};
/// Those that change what a merge must do, and are not read yet, with their types there; null is none of it.
enum class Type { boolean, text, list, object, list_or_object };
struct Field {
  const char* name;
  Type type;
};
constexpr std::array kNotReadYet = {Field{"use_dora", Type::boolean},
                                    Field{"lora_bias", Type::boolean},
                                    Field{"bias", Type::text},
                                    Field{"modules_to_save", Type::list},
                                    Field{"rank_pattern", Type::object},
                                    Field{"alpha_pattern", Type::object},
                                    Field{"use_qalora", Type::boolean},
                                    Field{"use_bdlora", Type::object},
                                    Field{"layer_replication", Type::list},
                                    Field{"trainable_token_indices", Type::list_or_object},
                                    Field{"kasa_config", Type::object},
                                    Field{"velora_config", Type::object},
                                    Field{"arrow_config", Type::object},
                                    Field{"alora_invocation_tokens", Type::list},
                                    Field{"target_parameters", Type::list},
                                    Field{"monteclora_config", Type::object}};
/// init_lora_weights that leave the base as it was.
constexpr std::array kPlainInits = {"gaussian", "eva", "orthogonal", "mica"};

bool is_off(const Json& value) {
  return value.is_null() || value == false || value == "none" ||
         ((value.is_object() || value.is_array()) && value.empty());
}

/// What the value should have been; nullptr if it is of its type.
const char* expected_instead(const Json& value, Type type) {
  switch (type) {
    case Type::boolean: return value.is_boolean() ? nullptr : "true or false";
    case Type::text:
      return value == "none" || value == "all" || value == "lora_only" ? nullptr : "\"none\", \"all\" or \"lora_only\"";
    case Type::list: return value.is_array() ? nullptr : "a list";
    case Type::object: return value.is_object() ? nullptr : "an object";
    case Type::list_or_object: return value.is_array() || value.is_object() ? nullptr : "a list or an object";
  }
  return nullptr;
}

void check_config(const JsonFields& fields, const Json& config) {
  const auto type = fields.optional_string("peft_type");
  if (!type) fields.fail_unset("peft_type", "\"LORA\"", "is this the adapter_config.json of a PEFT adapter?");
  if (*type != "LORA")
    fields.fail(ErrorKind::unsupported, "peft_type", "peft_type is \"" + *type + "\", expected \"LORA\"",
                "adapters of this kind are not merged by ropewalk");
  for (const auto& [key, value] : config.items()) {
    const auto field = std::find_if(kNotReadYet.begin(), kNotReadYet.end(),
                                    [&name = key](const Field& one) { return one.name == name; });
    const bool known = field != kNotReadYet.end();
    if (known && !value.is_null())
      if (const char* expected = expected_instead(value, field->type))
        fields.fail(ErrorKind::bad_input, key, "'" + key + "' is " + shown(value) + ", expected " + expected,
                    "correct the value in the file");
    if (std::find(kNoEffect.begin(), kNoEffect.end(), key) != kNoEffect.end() || is_off(value)) continue;
    fields.fail(ErrorKind::unsupported, key,
                "'" + key + "' is " + shown(value) +
                    (known ? ", which changes the merge and is not read yet"
                           : ", a field whose effect on a merge is not known to ropewalk (PEFT 0.21.2)"),
                known ? "only plain LoRA and rsLoRA adapters can be merged"
                      : "remove it if it changes nothing in the weights, else the adapter cannot be merged yet");
  }
  if (const Json* init = fields.find_set("init_lora_weights"); init && !init->is_boolean()) {
    const std::string name = fields.optional_string("init_lora_weights").value_or("");
    if (std::find(kPlainInits.begin(), kPlainInits.end(), name) == kPlainInits.end())
      fields.fail(ErrorKind::unsupported, "init_lora_weights",
                  "'init_lora_weights' is \"" + name + "\": the base was changed before training",
                  "convert the adapter to plain LoRA with PEFT (path_initial_model_for_weight_conversion)");
  }
}

void drop_prefix(std::string& path, std::string_view prefix) {
  if (path.starts_with(prefix)) path.erase(0, prefix.size());
}

}  // namespace

PeftConfig read_peft_config(const std::string& path, const std::string& text) {
  PeftConfig config;
  config.json = parse_json(path, text);
  config.text = text;
  if (!config.json.is_object())
    throw Error(ErrorKind::bad_input, {.path = path, .line = 1, .column = 1},
                std::string("the file holds ") + config.json.type_name() + ", expected an object",
                "save the adapter again");
  const JsonFields fields(path, text, config.json);
  check_config(fields, config.json);
  config.base_model = fields.optional_string("base_model_name_or_path").value_or("");
  config.rank = fields.integer("r", 1, 1 << 20);
  if (!fields.find_set("lora_alpha"))
    fields.fail_unset("lora_alpha", "a number", "the scale depends on it: save the adapter again");
  const double alpha = *fields.optional_number("lora_alpha", -1e9, 1e9);
  config.scale =
      fields.boolean("use_rslora", false) ? alpha / std::sqrt(double(config.rank)) : alpha / double(config.rank);
  return config;
}

std::optional<LoraFactor> parse_lora_key(std::string key) {
  for (std::size_t at = key.find("_orig_mod."); at != std::string::npos; at = key.find("_orig_mod."))
    key.erase(at, 10);          // torch.compile, at any depth
  drop_prefix(key, "module.");  // DataParallel
  drop_prefix(key, "base_model.model.");
  drop_prefix(key, "module.");
  constexpr std::string_view kTails[] = {".lora_A.weight", ".lora_A.default.weight", ".lora_B.weight",
                                         ".lora_B.default.weight"};
  for (const std::string_view tail : kTails) {
    if (!key.ends_with(tail)) continue;
    key.erase(key.size() - tail.size());
    drop_prefix(key, "base_model.model.");
    if (key.starts_with("model.model.")) key.erase(0, 6);
    if (key.starts_with("layers.")) key.insert(0, "model.");
    if (key.empty()) return std::nullopt;
    return LoraFactor{key, tail.starts_with(".lora_A")};
  }
  return std::nullopt;
}

}  // namespace ropewalk::formats
