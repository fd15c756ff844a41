// The YaRN repository's remote code (jquesnelle/yarn, scaled_rope/): recognised, its arithmetic reproduced, never run.
#include <array>
#include <cmath>
#include <limits>

#include "formats/rope_fields.h"

namespace ropewalk::formats {
namespace {

/// What each modeling file hard-codes.
struct RemoteRope {
  const char* file;
  double beta_fast, beta_slow;
  double magnitude;               // c of the attention factor c ln(s) + 1
  bool yarn_reads_theta;          // false: rope_theta is not passed to the yarn classes, which then use 10000
  bool dynamic_yarn_by_original;  // s of dynamic-yarn: T / original context; else T / max_position_embeddings
};
constexpr std::array<RemoteRope, 3> kRemote = {{
    {"modeling_llama_together_yarn", 32, 1, 0.1, true, true},
    {"modeling_llama_yarn", 32, 1, 0.1, false, false},
    {"modeling_mistral_yarn", 128, 2, 0.07, true, false},
}};

const RemoteRope* find_remote(const std::string& file) {
  for (const RemoteRope& remote : kRemote)
    if (file == remote.file) return &remote;
  return nullptr;
}

double magnitude(const RemoteRope& remote, double s) { return s <= 1 ? 1 : remote.magnitude * std::log(s) + 1; }

}  // namespace

std::optional<std::string> yarn_remote_code(const Json& config) {
  if (!config.contains("auto_map") || !config.at("auto_map").is_object()) return std::nullopt;
  for (const auto& item : config.at("auto_map").items()) {
    if (!item.key().starts_with("AutoModel") || !item.value().is_string()) continue;
    std::string name = item.value().get<std::string>();  // "[org/repository--]module.Class"
    if (const auto dashes = name.find("--"); dashes != std::string::npos) name = name.substr(dashes + 2);
    name = name.substr(0, name.find('.'));
    if (find_remote(name)) return name;
  }
  return std::nullopt;
}

std::optional<std::string> unknown_remote_code(const Json& config) {
  if (!config.contains("auto_map") || !config.at("auto_map").is_object() || yarn_remote_code(config))
    return std::nullopt;
  for (const auto& item : config.at("auto_map").items())
    if (item.key().starts_with("AutoModel") && item.value().is_string())
      return item.value().get<std::string>().substr(0, 100);
  return std::nullopt;
}

RopeSpec read_yarn_remote_rope(const std::string& path, const std::string& text, const Json& config,
                               const RopeGeometry& geometry, const std::string& code) {
  const RemoteRope& remote = *find_remote(code);
  const bool scaled = config.contains("rope_scaling") && !config.at("rope_scaling").is_null();
  const std::string engine = code + ".py of the YaRN repository";
  if (scaled && !config.at("rope_scaling").is_object())
    RopeFields(path, text, config, "", engine)
        .fail(ErrorKind::bad_input, "/rope_scaling", "rope_scaling is no dictionary, which " + engine + " needs",
              "correct it");
  RopeFields fields(path, text, config, scaled ? "/rope_scaling" : "", engine);
  RopeSpec spec;
  spec.context = geometry.context;
  spec.rotary_dim = geometry.head_dim;
  const Json* type = fields.value("type");
  if (scaled && (!type || !type->is_string()))
    fields.fail(ErrorKind::bad_input, "/rope_scaling", "rope_scaling has no 'type', which " + engine + " reads",
                "add \"type\": \"yarn\"");
  const std::string method = scaled ? type->get<std::string>() : "default";
  if (scaled) fields.record("method", "/rope_scaling/type");

  const bool yarn = method == "yarn" || method == "dynamic-yarn";
  if (yarn && !remote.yarn_reads_theta) fields.record_default("theta");  // rope_theta is not passed on
  else
    spec.theta = config.contains("rope_theta") ? RopeFields(path, text, config, "", engine).theta() : 10000,
    fields.record("theta", "/rope_theta");
  if (!scaled) {
    spec.provenance = fields.take_provenance();
    return spec;
  }
  const double s = fields.positive("factor", "factor");
  if (s <= 1)
    fields.fail(ErrorKind::bad_input, "/rope_scaling/factor", "factor is not above 1, which " + engine + " refuses",
                "correct it");
  if (method == "linear" &&
      code != "modeling_mistral_yarn") {  // the Mistral file's linear class stores cos where sin belongs
    spec.scaling = RopeLinear{s};
  } else if (method == "dynamic" && code != "modeling_llama_together_yarn") {
    spec.scaling = RopeDynamic{s, geometry.context};
  } else if (yarn) {
    if (!fields.in_dictionary("original_max_position_embeddings"))
      fields.fail(ErrorKind::bad_input, "/rope_scaling",
                  "rope_scaling has no 'original_max_position_embeddings', which " + engine + " needs",
                  "add the context the base model was trained with");
    const int original = fields.context_at("/rope_scaling/original_max_position_embeddings", "original_context");
    fields.record_default("beta_fast");
    fields.record_default("beta_slow");
    if (method == "yarn") {
      RopeYarn out{s, original};
      out.beta_fast = remote.beta_fast;
      out.beta_slow = remote.beta_slow;
      spec.scaling = out;
      spec.attention_factor = magnitude(remote, s);
      fields.record_default("attention_factor");
    } else {
      const Json* finetuned = fields.value("finetuned");
      const bool tuned =
          remote.dynamic_yarn_by_original && finetuned && finetuned->is_boolean() && finetuned->get<bool>();
      if (remote.magnitude != 0.1 || (remote.dynamic_yarn_by_original && !tuned))
        fields.fail(ErrorKind::unsupported, "/rope_scaling/type",
                    "dynamic-yarn as " + engine + " computes it (its attention factor follows no published rule)",
                    "use the static yarn type");
      RopeDynamicYarn out{original};
      if (tuned && !(s * original <= std::numeric_limits<int>::max()))
        fields.fail(ErrorKind::bad_input, "/rope_scaling/factor",
                    "factor times original_max_position_embeddings is over 2147483647 tokens", "correct them");
      if (tuned) out.finetuned_context = int(std::lround(s * original));
      else out.scale_context = geometry.context;
      spec.scaling = out;
    }
  } else {
    fields.fail(ErrorKind::unsupported, "/rope_scaling/type",
                "rope type '" + method.substr(0, 60) + "' is not one that " + engine + " computes rightly",
                "use yarn, or remove auto_map to have it read by transformers' own rules");
  }
  spec.provenance = fields.take_provenance();
  return spec;
}

}  // namespace ropewalk::formats
