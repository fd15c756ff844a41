#pragma once

#include <optional>
#include <string_view>

namespace ropewalk::formats {

/// A well-known model whose config.json does not say what it was trained at.
struct KnownModel {
  const char* model_type;
  double theta;
  int vocabulary;  // 0: any
  int trained;     // tokens; 0: several of this shape, 2048 or 4096
  const char* name;
};
/// The model that a configuration looks like, by type, base and vocabulary; nullptr: none of those known.
const KnownModel* known_model(std::string_view model_type, double theta, std::optional<double> vocabulary);

}  // namespace ropewalk::formats
