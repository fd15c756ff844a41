#pragma once

#include <optional>
#include <vector>

#include "formats/json.h"

namespace ropewalk::formats {

/// The layers that see the last `window` tokens only; the others see everything.
struct SlidingLayers {
  int window;                // tokens, above 0
  std::vector<bool> slides;  // [n_layers]
  int count() const;
};

/// num_hidden_layers; 32, as most classes have, where the file leaves it to the class or says no number.
int stated_layers(const Json& model);

/// What the class in transformers 5.23.0 makes of layer_types, sliding_window, use_sliding_window, max_window_layers
/// and sliding_window_pattern; `model`: the language model's part of a config.json (model_part). nullopt: no layer has
/// a window. Windows that are no number of tokens are none (lint R40). Error(bad_input), with `path`, for a pattern of
/// Gemma 3 that is no whole number above 0.
std::optional<SlidingLayers> sliding_layers(const std::string& path, const Json& model, int n_layers);

}  // namespace ropewalk::formats
