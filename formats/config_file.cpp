#include "formats/config_file.h"

#include <algorithm>
#include <iterator>

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

}  // namespace ropewalk::formats
