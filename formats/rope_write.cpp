// config.json with another rope: one meaning for every reader that can express it (docs/rope-dialects.md).
#include "formats/rope_config.h"
#include "formats/rope_fields.h"

namespace ropewalk::formats {
namespace {

constexpr const char* kOriginal = "original_max_position_embeddings";

/// Replaces a member in place; a new one goes where the alphabet puts it, as transformers writes files.
void put(Json& object, const std::string& key, Json value) {
  if (object.contains(key)) {
    object[key] = std::move(value);
    return;
  }
  Json rebuilt = Json::object();
  bool placed = false;
  for (auto& item : object.items()) {
    if (!placed && item.key() > key) {
      rebuilt[key] = value;
      placed = true;
    }
    rebuilt[item.key()] = std::move(item.value());
  }
  if (!placed) rebuilt[key] = std::move(value);
  object = std::move(rebuilt);
}

/// The dictionary of version 4, which version 5 reads too: both spellings of the type; factor a float, since
/// transformers up to 4.42, vLLM and SGLang fail on an int; and beside attention_factor its equivalent for those that
/// multiply by attn_factor (vLLM up to 0.28, SGLang).
Json scaling_dictionary(const Json& parameters) {
  Json out = {{"rope_type", parameters.at("rope_type")}, {"type", parameters.at("rope_type")}};
  for (const auto& item : parameters.items()) {
    if (item.key() == "rope_type" || item.key() == "rope_theta") continue;
    const bool count = item.key() == kOriginal;
    out[item.key()] = item.value().is_number_integer() && !count ? Json(item.value().get<double>()) : item.value();
  }
  const bool yarn = parameters.at("rope_type") == "yarn";
  if (yarn && parameters.contains("attention_factor") && parameters.at("attention_factor").is_number() &&
      !parameters.contains("attn_factor"))
    out["attn_factor"] =
        parameters.at("attention_factor").get<double>() / yarn_attention_factor(parameters.at("factor").get<double>());
  return out;
}

}  // namespace

Json config_with_rope(const Json& config, const RopeRequest& request, const ModelConfig& base) {
  Json out = config;
  const Json& parameters = request.rope_parameters;
  const double theta = parameters.contains("rope_theta") ? parameters.at("rope_theta").get<double>() : base.rope.theta;
  const bool scaled = parameters.at("rope_type") != "default";
  if (yarn_remote_code(config))
    out.erase("auto_map");  // its modeling file would compute another rope from the same dictionary

  if (scaled) put(out, "rope_scaling", scaling_dictionary(parameters));
  else if (out.contains("rope_scaling")) out["rope_scaling"] = nullptr;
  if (config.contains("rope_parameters")) {
    Json inside = scaled ? scaling_dictionary(parameters) : Json{{"rope_type", "default"}};
    inside.erase("type");
    inside["rope_theta"] = theta;
    out["rope_parameters"] = std::move(inside);
  }
  put(out, "rope_theta", theta);
  put(out, "max_position_embeddings", request.context);
  for (const char* key : kContextKeys)
    if (out.contains(key)) out[key] = request.context;
  if (out.contains(kOriginal)) {  // at the top level it would beat the dictionary's
    if (parameters.contains(kOriginal)) out[kOriginal] = parameters.at(kOriginal);
    else out.erase(kOriginal);
  }
  return out;
}

}  // namespace ropewalk::formats
