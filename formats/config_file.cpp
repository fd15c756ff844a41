#include "formats/config_file.h"

#include <algorithm>
#include <iterator>
#include <limits>

#include "lib/error.h"

namespace ropewalk::formats {

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
