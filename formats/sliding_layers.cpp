#include "formats/sliding_layers.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

#include "lib/error.h"

namespace ropewalk::formats {
namespace {

/// Member `key`; null if it is not there.
Json member(const Json& model, const char* key) {
  const auto found = model.find(key);
  return found == model.end() ? Json() : *found;
}

std::string_view text_of(const Json& value) {
  return value.is_string() ? std::string_view(value.get_ref<const std::string&>()) : std::string_view();
}
bool is(const Json& value, bool expected) { return value.is_boolean() && value.get<bool>() == expected; }

/// A whole number above 0, at most INT_MAX: no layer and no token lies beyond.
std::optional<int> whole(const Json& value) {
  if (!value.is_number_integer() || value <= 0) return std::nullopt;
  return int(std::min<std::uint64_t>(value.get<std::uint64_t>(), std::numeric_limits<int>::max()));
}

/// The window of the layers that slide. Defaults: configuration_gpt_oss.py, configuration_gemma3.py.
std::optional<int> window_of(const Json& model, const std::string& type) {
  const bool qwen = type.starts_with("qwen");
  const Json use = member(model, "use_sliding_window");
  if (qwen ? !is(use, true) : is(use, false)) return std::nullopt;
  if (model.contains("sliding_window")) return whole(model["sliding_window"]);
  if (type == "gpt_oss") return 128;
  return type.starts_with("gemma3") || qwen ? std::optional(4096) : std::nullopt;
}

}  // namespace

int SlidingLayers::count() const { return int(std::count(slides.begin(), slides.end(), true)); }

int stated_layers(const Json& model) {
  const Json given = model.is_object() ? member(model, "num_hidden_layers") : Json();
  return given.is_number_integer() && given > 0 && given < 1 << 24 ? given.get<int>() : 32;
}

std::optional<SlidingLayers> sliding_layers(const std::string& path, const Json& model, int n_layers) {
  if (!model.is_object()) return std::nullopt;
  const Json named = member(model, "model_type"), types = member(model, "layer_types");
  const std::string type(text_of(named));
  const std::optional<int> window = window_of(model, type);
  if (!window) return std::nullopt;
  SlidingLayers out{*window, std::vector<bool>(std::size_t(std::max(n_layers, 0)), true)};
  int from = 0, every = 0;  // layers below `from` see everything, and each `every`-th; 0: none does
  if (const Json most = member(model, "max_window_layers"); type.starts_with("qwen"))
    from = most.is_number_integer() && most <= 0 ? 0 : whole(most).value_or(28);
  if (type == "gpt_oss") every = 2;
  if (type.starts_with("gemma3")) {
    const bool given = model.contains("sliding_window_pattern");
    const std::optional<int> pattern = given ? whole(model["sliding_window_pattern"]) : 6;
    if (!pattern)
      throw Error(ErrorKind::bad_input, {.path = path},
                  "sliding_window_pattern is " + model["sliding_window_pattern"].dump().substr(0, 60) +
                      ", a whole number above 0 was expected",
                  "write which layers see everything: 6 for every sixth");
    every = *pattern;
  }
  for (std::size_t layer = 0; layer < out.slides.size(); ++layer) {
    if (types.is_array()) out.slides[layer] = layer < types.size() && text_of(types[layer]) == "sliding_attention";
    else out.slides[layer] = int(layer) >= from && (every == 0 || (layer + 1) % std::size_t(every) != 0);
  }
  if (out.count() == 0) return std::nullopt;
  return out;
}

}  // namespace ropewalk::formats
