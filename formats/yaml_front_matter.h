#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "formats/json.h"

namespace ropewalk::formats {

/// The YAML between the first line "---" and the next one of a model card (README.md), as the Hub writes it: block
/// mappings and sequences, flow sequences and mappings on one line, plain and quoted scalars, literal and folded
/// blocks, comments. Plain scalars get YAML 1.1's types (null, bool, int, float, else string).
/// Object {} if there is no front matter; nullopt if it uses YAML beyond that (anchors, tags, ...): a card must not
/// stop a conversion.
std::optional<Json> parse_front_matter(std::string_view card);

}  // namespace ropewalk::formats
