#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace ropewalk::formats {

/// What the tokenizers library's regular expressions (Oniguruma with Unicode 16.0) know of characters that PCRE2 10.42
/// (Unicode 14.0) does not.
struct CodeRange {
  std::uint32_t first, last;
};

/// Characters that have a property there and not here (`gained`), and the other way round (`lost`), in order.
struct PropertyChange {
  std::vector<CodeRange> gained, lost;
  bool unknown = false;  // to PCRE2: a script of its own time
};
/// `name`: a general category ("l", "lu"), a script or its four letters ("han", "hani") or a binary property
/// ("alphabetic") in lower case, without spaces, hyphens and underscores.
PropertyChange property_change(std::string_view name);

/// Letters that are each other's cases there and not here; both may be old.
struct CasePair {
  std::uint32_t one, other;
};
std::span<const CasePair> newer_case_pairs() noexcept;

/// Whether valid UTF-8 has a character with another property there.
bool has_newer_character(std::string_view text) noexcept;

}  // namespace ropewalk::formats
