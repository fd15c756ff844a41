#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace ropewalk::formats {

// What Python's str does to UTF-8 text, for what is worded by Python programs. Text is valid UTF-8.

/// Characters: len(text).
std::size_t python_length(std::string_view text);
/// str.strip() and str.rstrip(): whitespace by str.isspace().
std::string_view python_strip(std::string_view text);
std::string_view python_rstrip(std::string_view text);
/// str.capitalize(): the first character in title case, the others in lower case. Error(unsupported), without a place,
/// for the few characters whose case is several characters or depends on those around them.
std::string python_capitalize(std::string_view text);

}  // namespace ropewalk::formats
