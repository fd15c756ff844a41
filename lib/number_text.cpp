#include "lib/number_text.h"

#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>

namespace ropewalk {

std::string number_text(double value, int digits) {
  if (std::isnan(value)) return "not a number";
  if (std::isinf(value)) return value > 0 ? "infinite" : "-infinite";
  std::array<char, 64> text;
  std::snprintf(text.data(), text.size(), "%.*g", digits, value);
  return text.data();
}

std::string round_trip_text(double value) {
  std::array<char, 64> text;
  char *const begin = text.data(), *const stop = begin + text.size();
  const auto written = [&](const auto& number) {
    const auto [end, status] = std::to_chars(begin, stop, number);
    return status == std::errc() ? std::string(begin, end) : std::string();
  };
  if (std::abs(value) < 1e15 && value == std::floor(value)) return written(static_cast<long long>(value));
  const auto single = static_cast<float>(value);
  return static_cast<double>(single) == value ? written(single) : written(value);
}

}  // namespace ropewalk
