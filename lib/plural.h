#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace ropewalk {

/// "1 file", "2 files": of nouns that only take an s.
inline std::string plural(std::uint64_t n, const std::string& noun) {
  return std::to_string(n) + " " + noun + (n == 1 ? "" : "s");
}

/// "1 is left", "4000 are left".
inline std::string are_left(std::uint64_t n) { return std::to_string(n) + (n == 1 ? " is left" : " are left"); }

/// "a", "a and b", "a, b and c".
inline std::string listed(const std::vector<std::string>& names) {
  std::string out;
  for (std::size_t i = 0; i < names.size(); ++i)
    out += (i == 0 ? "" : i + 1 == names.size() ? " and " : ", ") + names[i];
  return out;
}

}  // namespace ropewalk
