// What convert_hf_to_gguf.py of llama.cpp 0.5 writes for llama and mistral (conversion/base.py, conversion/llama.py), beside transformers 5.23.0.
#include <cmath>

#include "formats/gguf_rope.h"
#include "lib/error.h"

namespace ropewalk::formats {
namespace {

[[noreturn]] void fail(const std::string& problem) {
  throw Error(ErrorKind::unsupported, {}, problem + ", at which convert_hf_to_gguf.py of llama.cpp 0.5 fails", "leave out --compat");
}

const Json* field(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}
bool holds_anything(const Json* value) { return value && !value->empty() && !(value->is_number() && *value == 0) && !(value->is_boolean() && *value == false); }

std::string type_of(const Json& rope) {
  const Json* type = rope.contains("rope_type") ? field(rope, "rope_type") : field(rope, "type");
  return type && type->is_string() ? type->get<std::string>() : "default";
}

/// AutoConfig refuses some dictionaries; the converter then reads the file itself.
bool transformers_accepts(const Json& rope) {
  if (!rope.is_object()) return false;
  const std::string type = type_of(rope);
  const auto has = [&](std::initializer_list<const char*> keys) {
    for (const char* key : keys)
      if (!rope.contains(key)) return false;
    return true;
  };
  if (type == "linear" || type == "dynamic" || type == "yarn") return has({"factor"});
  if (type == "llama3") return has({"factor", "low_freq_factor", "high_freq_factor"});
  if (type == "longrope") return has({"short_factor", "long_factor"});
  return true;
}

/// The converter's rope_parameters: transformers' normal form, or the file's own dictionary.
Json rope_seen(const Json& config) {
  const Json* scaling = field(config, "rope_scaling");
  const Json* parameters = field(config, "rope_parameters");
  const Json* chosen = holds_anything(scaling) ? scaling : holds_anything(parameters) ? parameters : nullptr;
  Json rope = chosen ? *chosen : Json::object();
  const bool normal = transformers_accepts(rope);
  if (!normal) {  // as the file stands: rope_parameters before rope_scaling
    chosen = config.contains("rope_parameters") ? parameters : scaling;
    rope = chosen ? *chosen : Json::object();
    if (!rope.is_object()) fail("the rope dictionary is no dictionary");
  }
  const auto set_default = [&rope](const char* key, const Json& value) {
    if (!rope.contains(key)) rope[key] = value;
  };
  if (normal) {
    set_default("rope_type", type_of(rope));
    set_default("rope_theta", config.contains("rope_theta") ? config.at("rope_theta") : Json(10000.0));
    const std::string type = type_of(rope);
    // a top-level original_max_position_embeddings is not in it yet: transformers copies it when the rotary embedding is built
    if ((type == "yarn" || type == "llama3" || type == "longrope") && config.contains("max_position_embeddings"))
      set_default("original_max_position_embeddings", config.at("max_position_embeddings"));
  } else {
    if (const Json* theta = field(config, "rope_theta")) set_default("rope_theta", *theta);
    if (const Json* type = field(rope, "type")) set_default("rope_type", *type);
    if (const Json* original = field(config, "original_max_position_embeddings")) set_default("original_max_position_embeddings", *original);
  }
  return rope;
}

GgufValue as_f32(const Json& value, const char* key) {
  if (!value.is_number() && !value.is_boolean()) fail(std::string(key) + " is " + value.dump().substr(0, 40) + ", no number");
  return gguf_f32(value.is_boolean() ? float(value.get<bool>()) : value.get<float>());
}

double number_or(const Json& rope, const char* key, double otherwise) {
  if (!rope.contains(key)) return otherwise;
  if (!rope.at(key).is_number()) fail(std::string(key) + " is no number");
  return rope.at(key).get<double>();
}

/// Every step in float32, as torch does it; pow is rounded from double, torch's own may differ in the last bit.
std::vector<float> llama3_divisors(const Json& config, const Json& rope) {
  const Json* given = field(config, "head_dim");
  if (!given && !(field(config, "hidden_size") && field(config, "num_attention_heads"))) fail("config.json does not say how wide a head is");
  const int dim = given ? given->get<int>() : config.at("hidden_size").get<int>() / config.at("num_attention_heads").get<int>();
  const double base = number_or(rope, "rope_theta", 10000), factor = number_or(rope, "factor", 8), low = number_or(rope, "low_freq_factor", 1),
               high = number_or(rope, "high_freq_factor", 4), original = number_or(rope, "original_max_position_embeddings", 8192);
  std::vector<float> divisors;
  for (int channel = 0; channel < dim; channel += 2) {
    const float frequency = 1.0f / float(std::pow(base, double(float(channel) / float(dim))));
    const float wavelength = float(2 * M_PI) / frequency;
    if (wavelength < float(original / high)) divisors.push_back(1);
    else if (wavelength > float(original / low)) divisors.push_back(float(factor));
    else {
      const float smooth = (float(original) / wavelength - float(low)) / float(high - low);
      divisors.push_back(1.0f / ((1.0f - smooth) / float(factor) + smooth));
    }
  }
  return divisors;
}

}  // namespace

GgufRope gguf_rope_compat(const Json& config) {
  const Json rope = rope_seen(config);
  if (rope.contains("full_attention") || rope.contains("sliding_attention")) fail("rope parameters stand per layer type");
  GgufRope out;
  const auto add = [&out](const char* name, GgufValue value) { out.keys.push_back({std::string("llama.rope.") + name, std::move(value)}); };
  const std::string type = rope.contains("rope_type") && rope.at("rope_type").is_string() ? rope.at("rope_type").get<std::string>() : "";
  const Json* factor = field(rope, "factor");
  if (type == "linear" && factor) {
    add("scaling.type", gguf_string("linear"));
    add("scaling.factor", as_f32(*factor, "factor"));
  } else if (type == "yarn" && factor) {
    add("scaling.type", gguf_string("yarn"));
    add("scaling.factor", as_f32(*factor, "factor"));
    const Json* original = field(rope, "original_max_position_embeddings");
    if (!original || !original->is_number_integer() || *original < 0) fail("original_max_position_embeddings is no whole number");
    add("scaling.original_context_length", gguf_u32(original->get<std::uint32_t>()));
    const auto copy = [&](const char* key, const char* name) {
      if (const Json* value = field(rope, key)) add(name, as_f32(*value, key));
    };
    copy("extrapolation_factor", "scaling.yarn_ext_factor");
    copy(rope.contains("attention_factor") ? "attention_factor" : "attn_factor", "scaling.yarn_attn_factor");
    copy("beta_fast", "scaling.yarn_beta_fast");
    copy("beta_slow", "scaling.yarn_beta_slow");
  } else if (type == "su" || type == "longrope") {
    add("scaling.type", gguf_string("longrope"));
  } else if (type == "llama3") {
    out.frequency_divisors = llama3_divisors(config, rope);
  }
  if (const Json* theta = field(rope, "rope_theta")) add("freq_base", as_f32(*theta, "rope_theta"));
  return out;
}

}  // namespace ropewalk::formats
