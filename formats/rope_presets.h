#pragma once

#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace ropewalk::formats {

/// A published recipe for longer context: "like=NAME" of a SPEC.
struct RopePreset {
  std::string_view name;
  std::string_view method;
  std::vector<std::pair<std::string_view, double>> numbers;  // keys of the method
  std::optional<double> magnitude = std::nullopt;  // c of the attention factor c ln s + 1; nullopt: the method's own
  int original = 0;                                // original context it is for; 0: the model's
  bool truncate = true;
  std::string_view origin = {};  // where it is published
};
std::span<const RopePreset> rope_presets();
const RopePreset* find_rope_preset(std::string_view name);

}  // namespace ropewalk::formats
