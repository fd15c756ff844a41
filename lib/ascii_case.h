#pragma once

#include <string>

namespace ropewalk {

// Of ASCII's letters alone, whatever the locale: names of types, fields and options.

constexpr char lower_case(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }
constexpr char upper_case(char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c; }

inline std::string lower_case(std::string text) {
  for (char& c : text) c = lower_case(c);
  return text;
}

inline std::string upper_case(std::string text) {
  for (char& c : text) c = upper_case(c);
  return text;
}

}  // namespace ropewalk
