#pragma once

#include <string>
#include <string_view>

#include "lib/model_config.h"

namespace ropewalk::formats {

/// The context before scaling, tokens, and who says so.
struct OriginalContext {
  int tokens = 0;
  std::string from;
};
/// What a new rope counts from where nobody says it: the rope's own original context; of one that has a factor alone, its
/// context over that; of a plain one what a well-known model that it looks like was trained at (known_models.h), else its
/// context. `length`: what that is called where `config` comes from, "max_position_embeddings".
OriginalContext original_context(const ModelConfig& config, std::string_view length);

}  // namespace ropewalk::formats
