#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "formats/tokenizers/tokenizer.h"

namespace ropewalk::formats {

/// A place in a text, for people.
struct TextPlace {
  std::size_t byte = 0;
  int line = 1;
  std::string before = {}, after = {};  // the text around, cut at characters
};
/// Where in `text` the token behind `ids`, its first ones, begins: after what they decode to, if they spell the text as it
/// stands. nullopt where they do not, which a normalizer may bring about.
std::optional<TextPlace> place_after(const Tokenizer& tokenizer, std::span<const std::int32_t> ids,
                                     std::string_view text);
/// "line 3, byte 17: "before" | "after"", on one line.
std::string described(const TextPlace& place);
/// As it stands on one line of a terminal: newlines as \n, other control characters as ?.
std::string on_one_line(std::string_view text);

}  // namespace ropewalk::formats
