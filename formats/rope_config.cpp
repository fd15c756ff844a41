#include "formats/rope_config.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "formats/json_fields.h"
#include "formats/rope_fields.h"
#include "lib/ascii_case.h"
#include "lib/nearest_word.h"

namespace ropewalk::formats {
namespace {

constexpr const char* kEngine = "transformers 5.23.0";

/// Python's truth of a JSON value.
bool truthy(const Json& value) {
  if (value.is_null()) return false;
  if (value.is_boolean()) return value.get<bool>();
  if (value.is_number()) return value.get<double>() != 0;
  return !value.empty();
}

/// Where the one dictionary stands: rope_scaling if it holds anything, else rope_parameters, else nowhere
/// (RotaryEmbeddingConfigMixin.convert_rope_params_to_dict).
std::string dictionary_pointer(const Json& config) {
  if (config.contains("rope_scaling") && truthy(config.at("rope_scaling"))) return "/rope_scaling";
  if (config.contains("rope_parameters") && truthy(config.at("rope_parameters"))) return "/rope_parameters";
  return "";
}

/// One reading of one file. The rules are modeling_rope_utils.py's of transformers 5.23.0; docs/rope-dialects.md lists
/// them.
class TransformersReader {
 public:
  TransformersReader(RopeFields fields, const Json& config, const RopeGeometry& geometry,
                     std::vector<std::string>& warnings)
      : fields_(std::move(fields)), config_(config), geometry_(geometry), warnings_(warnings) {}

  RopeSpec read() {
    refuse_nested();
    const std::string type = rope_type();
    RopeSpec spec;
    spec.context = geometry_.context;
    spec.theta = fields_.theta();
    warn_of_two_bases();
    spec.rotary_dim =
        type == "default" ? geometry_.head_dim : rotary_dim(type);  // the default table ignores partial_rotary_factor
    if (type == "default") spec.scaling = RopeUnscaled{};
    else if (type == "linear") spec.scaling = RopeLinear{factor()};
    else if (type == "dynamic") spec.scaling = RopeDynamic{factor(), geometry_.context};
    else if (type == "yarn") read_yarn(spec);
    else if (type == "longrope") read_longrope(spec);
    else if (type == "llama3") spec.scaling = llama3();
    else if (type == "proportional")
      spec.scaling = RopeProportional{fields_.in_dictionary("factor") ? factor() : 1.0, geometry_.head_dim};
    else refuse_type(type);
    warn_of_unread_keys(type);
    spec.provenance = fields_.take_provenance();
    return spec;
  }

 private:
  void refuse_nested() const {
    const Json* dictionary = fields_.dictionary();
    if (!dictionary || !config_.contains("layer_types") || !config_.at("layer_types").is_array()) return;
    for (const Json& layer_type : config_.at("layer_types"))
      if (layer_type.is_string() && dictionary->contains(layer_type.get<std::string>()))
        fields_.fail(ErrorKind::unsupported, "/layer_types",
                     "rope parameters per layer type, which this architecture's rotary embedding in transformers "
                     "5.23.0 does not take",
                     "give one dictionary for all layers");
  }

  std::string rope_type() {
    const char* key = fields_.in_dictionary("rope_type") ? "rope_type" : "type";
    const Json* value = fields_.value(key);
    if (!value) {
      fields_.record_default("method");
      if (fields_.dictionary() && fields_.in_dictionary("factor"))
        warnings_.push_back(
            "the rope dictionary has a factor but no rope_type: transformers 5.23.0 reads it as plain rope");
      return "default";
    }
    if (!value->is_string())
      fields_.fail(ErrorKind::bad_input, fields_.pointer_to(key),
                   std::string(key) + " is " + value->dump().substr(0, 40) + ", a name was expected",
                   "name the method, such as \"yarn\"");
    fields_.record("method", fields_.pointer_to(key));
    const Json* other = fields_.value("type");
    if (other && *other != *value)
      warnings_.push_back("rope_type is " + value->dump() + " but type is " + other->dump() +
                          ": transformers 5.23.0 reads rope_type, 4.43 to 4.57 type in most classes");
    return value->get<std::string>();
  }

  void warn_of_two_bases() {
    const Json* inside = fields_.value("rope_theta");
    if (!inside || !config_.contains("rope_theta")) return;
    const Json& top = config_.at("rope_theta");
    if (top.is_number() && inside->is_number() && top.get<double>() != inside->get<double>())
      warnings_.push_back("rope_theta is " + top.dump() + " at the top level and " + inside->dump() +
                          " in the rope dictionary: transformers 5.23.0 uses the second, transformers 4 and exllama "
                          "the first");
  }

  [[noreturn]] void refuse_type(const std::string& type) const {
    const std::vector<std::string> known = {"default",  "linear", "dynamic",     "yarn",
                                            "longrope", "llama3", "proportional"};
    const std::string near = nearest_word(lower_case(type), known).value_or("");
    fields_.fail(ErrorKind::unsupported, fields_.pointer_to(fields_.in_dictionary("rope_type") ? "rope_type" : "type"),
                 "rope type '" + type.substr(0, 60) + "' is unknown to transformers 5.23.0" +
                     (near.empty() ? "" : " (did you mean '" + near + "'?)"),
                 "known are default, linear, dynamic, yarn, longrope, llama3, proportional");
  }

  /// int(head_dim * partial_rotary_factor); proportional keeps whole pairs of the head instead.
  int rotary_dim(const std::string& type) {
    double share = 1;
    if (fields_.in_dictionary("partial_rotary_factor")) share = fields_.number("partial_rotary_factor", "rotary_dim");
    else if (config_.contains("partial_rotary_factor") && !config_.at("partial_rotary_factor").is_null()) {
      const Json& value = config_.at("partial_rotary_factor");
      if (!value.is_number())
        fields_.fail(ErrorKind::bad_input, "/partial_rotary_factor",
                     "partial_rotary_factor is " + value.dump().substr(0, 40) + ", a number was expected",
                     "correct it");
      fields_.record("rotary_dim", "/partial_rotary_factor");
      share = value.get<double>();
    }
    const char* const key = "partial_rotary_factor";
    const std::string place = fields_.in_dictionary(key) ? fields_.pointer_to(key) : std::string("/") + key;
    if (!(share > 0 && share <= 1))
      fields_.fail(ErrorKind::bad_input, place,
                   std::string(key) + " is " + trimmed(share) + ", a share of a head's channels in (0, 1] was expected",
                   "correct it");
    const int dim = type == "proportional" ? 2 * int(share * geometry_.head_dim / 2) : int(geometry_.head_dim * share);
    if (dim < 2 || dim % 2 != 0)
      fields_.fail(ErrorKind::bad_input, place,
                   "partial_rotary_factor makes " + std::to_string(dim) + " of " + std::to_string(geometry_.head_dim) +
                       " channels rotate; an even number from 2 was expected",
                   "correct it");
    if (dim != geometry_.head_dim && type != "proportional")
      warnings_.push_back("only " + std::to_string(dim) + " of " + std::to_string(geometry_.head_dim) +
                          " channels of a head rotate: transformers 5.23.0 computes this table for llama and mistral, "
                          "but its forward pass then fails on the shapes");
    return dim;
  }

  double factor() {
    const double value = fields_.positive("factor", "factor");
    if (value < 1)
      warnings_.push_back("the rope factor is " + fields_.value("factor")->dump() + ", below 1: the context shrinks");
    return value;
  }
  /// A null factor is the ratio of the contexts; a missing one is an error (for yarn).
  double factor_or_ratio(int original) {
    if (!fields_.in_dictionary("factor") || !fields_.value("factor")->is_null()) return factor();
    fields_.record_derived("factor", "max_position_embeddings / original context");
    return double(geometry_.context) / original;
  }

  /// The top level beats the dictionary when the rotary embedding is built; without either it is
  /// max_position_embeddings.
  int original_context() {
    if (fields_.at_top_level("original_max_position_embeddings")) {
      const Json* inside = fields_.value("original_max_position_embeddings");
      if (inside && *inside != config_.at("original_max_position_embeddings"))
        warnings_.push_back("original_max_position_embeddings is " +
                            config_.at("original_max_position_embeddings").dump() + " at the top level and " +
                            inside->dump() +
                            " in the rope dictionary: transformers 5.23.0 uses the first, llama.cpp and transformers "
                            "4.51 to 4.57 the second");
      return fields_.context_at("/original_max_position_embeddings", "original_context");
    }
    if (fields_.in_dictionary("original_max_position_embeddings"))
      return fields_.context_at(fields_.pointer_to("original_max_position_embeddings"), "original_context");
    fields_.record("original_context", "/max_position_embeddings");
    return geometry_.context;
  }

  void read_yarn(RopeSpec& spec) {
    if (!fields_.in_dictionary("factor")) factor();  // fails, naming the key
    if (spec.theta == 1)
      fields_.fail(ErrorKind::bad_input, "/rope_theta", "rope_theta is 1, with which YaRN's ramp has no bounds",
                   "use the base the model was trained with");
    const int original = original_context();
    RopeYarn yarn{factor_or_ratio(original), original};
    yarn.beta_fast = beta("beta_fast", 32, original);
    yarn.beta_slow = beta("beta_slow", 1, original);
    if (yarn.beta_fast < yarn.beta_slow)
      warnings_.push_back("beta_fast is below beta_slow: YaRN's ramp runs backwards");
    if (const Json* truncate = fields_.value("truncate")) {
      yarn.truncate = truthy(*truncate);
      fields_.record("truncate", fields_.pointer_to("truncate"));
    }
    spec.attention_factor = fields_.optional_number("attention_factor", "attention_factor");
    if (!spec.attention_factor) {
      const double mscale = fields_.optional_number("mscale", "mscale").value_or(0);
      const double all_dim = fields_.optional_number("mscale_all_dim", "mscale_all_dim").value_or(0);
      if (mscale != 0 && all_dim != 0)
        spec.attention_factor =
            yarn_attention_factor(yarn.factor, mscale) / yarn_attention_factor(yarn.factor, all_dim);
    }
    refuse_magnitude(spec.attention_factor);
    const double implied = double(geometry_.context) / original;
    if (implied != yarn.factor && geometry_.context != original)
      warnings_.push_back("the rope factor is " + trimmed(yarn.factor) +
                          " but max_position_embeddings / original_max_position_embeddings is " + trimmed(implied) +
                          ": transformers 5.23.0 uses the factor, 4.51 to 4.55 the ratio");
    spec.scaling = yarn;
  }

  /// transformers multiplies by any number; no model was trained with one that is not above 0.
  void refuse_magnitude(const std::optional<double>& attention) const {
    if (!attention || is_attention_factor(*attention)) return;
    const Json* given = fields_.value("attention_factor");
    const bool own = given && !given->is_null();
    fields_.fail(ErrorKind::bad_input, fields_.pointer_to(own ? "attention_factor" : "mscale"),
                 (own ? "attention_factor is " + given->dump().substr(0, 40)
                      : "mscale and mscale_all_dim make an attention factor of " + trimmed(*attention)) +
                     ", a number above 0 that float32 holds was expected",
                 "correct it");
  }

  /// Absent, null and 0 all mean the default. ln(original / (2 pi beta)) must be a number: math.log raises below 0 and
  /// where the product overflows, math.floor where the quotient does.
  double beta(const char* key, double otherwise, int original) {
    const double value = fields_.optional_number(key, key).value_or(0);
    if (value == 0) fields_.record_default(key);
    const double wavelengths = original / (value * 2 * std::numbers::pi);
    if (value != 0 && !(wavelengths > 0 && std::isfinite(wavelengths)))
      fields_.fail(
          ErrorKind::bad_input, fields_.pointer_to(key),
          std::string(key) + " is " + trimmed(value) +
              (value < 0 ? ", a number of rotations above 0 was expected"
                         : std::string(", too ") + (wavelengths > 0 ? "small" : "large") + " for its logarithm"),
          "correct it");
    return value == 0 ? otherwise : value;
  }

  RopeLlama3 llama3() {
    const double s = factor(), low = fields_.positive("low_freq_factor", "low_freq_factor"),
                 high = fields_.positive("high_freq_factor", "high_freq_factor");
    if (high < low)
      fields_.fail(ErrorKind::bad_input, fields_.pointer_to("high_freq_factor"),
                   "high_freq_factor is below low_freq_factor, between which llama3 blends", "correct them");
    return {s, low, high, original_context()};
  }

  void read_longrope(RopeSpec& spec) {
    const std::size_t pairs = std::size_t(spec.rotary_dim / 2);
    RopeLongrope longrope;
    longrope.short_factor = fields_.positive_list("short_factor", pairs, "short_factor");
    longrope.long_factor = fields_.positive_list("long_factor", pairs, "long_factor");
    longrope.original_context = original_context();
    if (longrope.original_context == 1)
      fields_.fail(ErrorKind::bad_input, fields_.pointer_to("original_max_position_embeddings"),
                   "the original context is 1 token, and longrope divides by its logarithm",
                   "give the context the base model was trained with");
    spec.attention_factor = fields_.optional_number("attention_factor", "attention_factor");
    const bool given = fields_.in_dictionary("factor") && !fields_.value("factor")->is_null();
    if (!spec.attention_factor && given) {  // without a factor the ratio of the contexts is what rope_table uses
      const double s = factor();
      spec.attention_factor = longrope_attention_factor(s, longrope.original_context);
    }
    refuse_magnitude(spec.attention_factor);
    spec.scaling = std::move(longrope);
  }

  void warn_of_unread_keys(const std::string& type) const {
    if (!fields_.dictionary()) return;
    std::vector<std::string> read = {"rope_type", "type", "rope_theta", "partial_rotary_factor",
                                     "finetuned"};  // finetuned: no rule, no harm
    const auto add = [&](std::initializer_list<const char*> keys) {
      read.insert(read.end(), keys.begin(), keys.end());
    };
    if (type != "default") add({"factor"});
    if (type == "yarn")
      add({"original_max_position_embeddings", "attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim",
           "truncate"});
    if (type == "llama3") add({"original_max_position_embeddings", "low_freq_factor", "high_freq_factor"});
    if (type == "longrope")
      add({"original_max_position_embeddings", "attention_factor", "short_factor", "long_factor"});
    // what extend writes beside attention_factor, for engines that multiply by this one
    const Json *given = fields_.value("attention_factor"), *times = fields_.value("attn_factor"),
               *factor = fields_.value("factor");
    if (type == "yarn" && given && times && factor && given->is_number() && times->is_number() && factor->is_number() &&
        std::abs(times->get<double>() * yarn_attention_factor(factor->get<double>()) - given->get<double>()) < 1e-9)
      add({"attn_factor"});
    const Json *below = fields_.value("short_mscale"), *above = fields_.value("long_mscale");
    if (type == "longrope" && given && below && above && *below == *given && *above == *given)
      add({"short_mscale", "long_mscale"});  // those that read no attention_factor
    std::string unread;
    for (const auto& item : fields_.dictionary()->items())
      if (std::find(read.begin(), read.end(), item.key()) == read.end())
        unread += (unread.empty() ? "" : ", ") + item.key().substr(0, 60);
    if (!unread.empty())
      warnings_.push_back("transformers 5.23.0 does not read these keys of a rope dictionary of type " + type + ": " +
                          unread);
  }

  RopeFields fields_;
  const Json& config_;
  RopeGeometry geometry_;
  std::vector<std::string>& warnings_;
};

bool same_rope(const RopeSpec& a, const RopeSpec& b) {
  if (a.rotary_dim != b.rotary_dim || a.scaling.index() != b.scaling.index()) return false;
  for (int length : {1, std::max(1, a.context), 2 * std::min(std::max(1, a.context), 1 << 29)}) {
    const RopeTable x = rope_table(a, length), y = rope_table(b, length);
    if (x.inv_freq != y.inv_freq || x.attention_factor != y.attention_factor) return false;
  }
  return true;
}

}  // namespace

RopeSpec read_transformers_rope(const std::string& path, const std::string& text, const Json& config,
                                const RopeGeometry& geometry, std::vector<std::string>& warnings) {
  for (const char* key : {"rope_scaling", "rope_parameters"})
    if (config.contains(key) && truthy(config.at(key)) && !config.at(key).is_object()) {
      RopeFields whole(path, text, config, "", kEngine);
      whole.fail(
          ErrorKind::bad_input, std::string("/") + key,
          std::string(key) + " is " + config.at(key).dump().substr(0, 40) + ", a dictionary or null was expected",
          "correct it");
    }
  const std::string pointer = dictionary_pointer(config);
  if (pointer == "/rope_scaling" && config.contains("rope_parameters") && truthy(config.at("rope_parameters")) &&
      config.at("rope_parameters") != config.at("rope_scaling")) {
    nlohmann::json scaling = config.at("rope_scaling"),
                   parameters = config.at("rope_parameters");  // compared without regard to order
    for (nlohmann::json* one : {&scaling, &parameters})
      for (const char* key : {"type", "rope_theta"})  // another spelling, and what each also finds at the top level
        if (one->is_object()) one->erase(key);
    if (scaling != parameters)
      warnings.push_back(
          "both rope_scaling and rope_parameters are given and differ: transformers 5.23.0 reads rope_scaling only");
  }
  return TransformersReader(RopeFields(path, text, config, pointer, kEngine), config, geometry, warnings).read();
}

RopeSpec read_hf_rope(const std::string& path, const std::string& text, const Json& config,
                      const RopeGeometry& geometry, std::vector<std::string>& warnings) {
  const auto refuse_fault = [&](const RopeSpec& spec) {
    if (const auto fault = rope_fault(spec))
      throw Error(ErrorKind::bad_input, json_place(path, text, pointer_of(spec, fault->field)), fault->problem,
                  fault->fix);
  };
  const std::optional<std::string> code = yarn_remote_code(config);
  if (!code) {
    RopeSpec spec = read_transformers_rope(path, text, config, geometry, warnings);
    refuse_fault(spec);
    if (const auto unknown = unknown_remote_code(config);
        unknown && !std::holds_alternative<RopeUnscaled>(spec.scaling))
      warnings.push_back("auto_map names " + *unknown +
                         ", which ropewalk does not know and does not run: with that code the rope may be another");
    return spec;
  }

  const RopeSpec spec = read_yarn_remote_rope(path, text, config, geometry, *code);
  refuse_fault(spec);
  const std::string used =
      "auto_map names " + *code + ".py, which is not run: its rope, " + describe(spec) + ", is used";
  try {
    std::vector<std::string> unused;
    const RopeSpec plain = read_transformers_rope(path, text, config, geometry, unused);
    if (!same_rope(spec, plain))
      warnings.push_back(used + "; without remote code transformers 5.23.0 would compute " + describe(plain));
  } catch (const Error& error) {
    warnings.push_back(used + "; without remote code transformers 5.23.0 would refuse it (" + error.problem() + ")");
  }
  return spec;
}

}  // namespace ropewalk::formats
