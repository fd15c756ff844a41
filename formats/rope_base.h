#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/json.h"

namespace ropewalk::formats {

// What a new rope is written over: nothing in it is guessed.

/// A field of the rope that a config.json says twice and differently, where readers part in which they take.
struct RopeContradiction {
  enum class Field { theta, original_context, method };
  Field field;
  std::string pointer;              // of the second place
  std::string text;                 // "rope_theta is 10000.0 at the top level and 500000.0 in rope_parameters"
  std::vector<std::string> values;  // of theta and of the original context, as the file writes them
};
/// Of a file whose layers have one rope. None where the YaRN repository's code says what is read.
std::vector<RopeContradiction> rope_contradictions(const Json& config);

struct RopeBase {
  Json config;                         // what a SPEC counts from
  std::optional<std::string> warning;  // set where it is not the file's own
};
/// `config` itself, if its rope can be read (rope_meaning.h). A rope that nobody can read, such as one of type ntk, is
/// left out if `spec` replaces it: names a method and the original context. Error(bad_input), at its place, for
/// a contradiction in what `spec` would take from the file, and for what read_rope_meaning refuses; each says what to add
/// to `spec`.
RopeBase rope_base(const std::string& path, const std::string& text, const Json& config, std::string_view spec);

/// `config` with "longrope" for rope type su, its name of old that transformers 5.23.0 knows in phi3 alone; nullopt if it
/// has none.
std::optional<Json> with_longrope_for_su(const Json& config);

}  // namespace ropewalk::formats
