#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace ropewalk::formats {

/// A regular expression of Python's re, written for PCRE2 (UTF, newline LF, ALT_CIRCUMFLEX) so that it matches the same
/// ASCII text. Of what Python refuses one thing passes: a look-behind whose alternatives are of several lengths.
struct TranslatedPattern {
  std::string text;
  std::size_t idx = 0;  // number of the group that is named idx; 0: there is none
};
/// Why an expression has no translation.
struct NoTranslation {
  bool unsupported;  // Python reads it; else it is no regular expression
  std::string reason;
};
/// Throws NoTranslation.
TranslatedPattern translate_python_pattern(std::string_view text);

}  // namespace ropewalk::formats
