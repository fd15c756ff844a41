#include "lib/shortest.h"

#include <charconv>
#include <cmath>

namespace ropewalk {

std::string shortest(double value) {
  char text[64];
  if (std::abs(value) < 1e15 && value == std::floor(value)) {
    const auto [end, status] = std::to_chars(text, text + sizeof text, static_cast<long long>(value));
    return status == std::errc() ? std::string(text, end) : "";
  }
  const bool single = static_cast<double>(static_cast<float>(value)) == value;
  const auto [end, status] = single ? std::to_chars(text, text + sizeof text, static_cast<float>(value))
                                    : std::to_chars(text, text + sizeof text, value);
  return status == std::errc() ? std::string(text, end) : "";
}

}  // namespace ropewalk
