#include "formats/config_file.h"

#include <algorithm>
#include <iterator>
#include <limits>

#include "lib/error.h"

namespace ropewalk::formats {
namespace {

/// Replaces NaN and Infinity outside strings by numbers of the same length, so that places stay.
std::string without_not_finite(const std::string& text, std::vector<std::size_t>& offsets) {
  std::string out = text;
  bool quoted = false;
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (quoted) {
      if (out[i] == '\\') ++i;
      else if (out[i] == '"') quoted = false;
    } else if (out[i] == '"') {
      quoted = true;
    } else if (out.compare(i, 3, "NaN") == 0) {
      offsets.push_back(i);
      out.replace(i, 3, "0.0");
    } else if (out.compare(i, 8, "Infinity") == 0) {
      offsets.push_back(i > 0 && out[i - 1] == '-' ? i - 1 : i);
      out.replace(i, 8, "1.79e308");
    }
  }
  return out;
}

}  // namespace

PythonJson parse_python_json(const std::string& path, std::string text) {
  PythonJson out;
  out.text = without_not_finite(text, out.not_finite);
  out.json = parse_json(path, out.text);
  return out;
}

std::string not_finite_value(const std::string& text, std::size_t offset) {
  const char first = text[offset];
  const char* value = first == '-' ? "-Infinity" : first == '0' ? "NaN" : "Infinity";
  const std::size_t colon = offset == 0 ? std::string::npos : text.find_last_not_of(" \t\r\n", offset - 1);
  if (colon == std::string::npos || text[colon] != ':') return std::string("an entry is ") + value;
  const std::size_t end = text.rfind('"', colon), begin = end == 0 ? end : text.rfind('"', end - 1);
  return text.substr(begin + 1, std::min<std::size_t>(end - begin - 1, 60)) + " is " + value;
}

bool in_rope(const std::string& text, const Json& json, std::size_t offset) {
  const std::string model = model_part(json).pointer;
  for (const char* key : {"rope_scaling", "rope_parameters", "rope_theta", "max_position_embeddings",
                          "partial_rotary_factor", "original_max_position_embeddings", "sliding_window", "head_dim",
                          "hidden_size", "num_attention_heads", "rope_local_base_freq"}) {
    const std::optional<std::size_t> at = locate_offset(text, model + "/" + key);
    if (at && offset >= *at && offset < end_of_value(text, *at)) return true;
  }
  return false;
}

void require_model_config(const std::string& path, const Json& json) {
  // any of them: what is broken or cut down is still to be judged
  constexpr const char* kOfAModel[] = {"model_type",      "hidden_size", "text_config",
                                       "rope_parameters", "rope_theta",  "rope_scaling",
                                       "architectures",   "head_dim",    "max_position_embeddings"};
  if (!json.is_object() ||
      std::none_of(std::begin(kOfAModel), std::end(kOfAModel), [&](const char* key) { return json.contains(key); }))
    throw Error(ErrorKind::bad_input, {.path = path}, "is no config.json: neither model_type nor hidden_size is there",
                "give a model's folder or its config.json");
}

ModelPart model_part(const Json& config) {
  if (config.is_object() && !config.contains("hidden_size"))
    if (const auto text = config.find("text_config"); text != config.end() && text->is_object())
      return {&*text, "/text_config"};
  return {&config, ""};
}

std::optional<int> tokenizer_limit(const Json& tokenizer_config) {
  if (!tokenizer_config.is_object()) return std::nullopt;
  const auto limit = tokenizer_config.find("model_max_length");
  if (limit == tokenizer_config.end() || !limit->is_number()) return std::nullopt;
  const double n = limit->get<double>();
  return n >= 1 && n < std::numeric_limits<int>::max() ? std::optional(int(n)) : std::nullopt;
}

}  // namespace ropewalk::formats
