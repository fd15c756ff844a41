#include "tools/units.h"

#include <array>
#include <cmath>
#include <cstdio>

namespace ropewalk::tools {
namespace {

/// value in the largest unit that keeps it at 1 or more, two digits below ten.
std::string scaled(double value, const std::array<const char*, 5>& units) {
  std::size_t unit = 0;
  while (value >= 999.5 && unit + 1 < units.size()) value /= 1000, ++unit;
  std::array<char, 64> text;
  std::snprintf(text.data(), text.size(), unit > 0 && value < 99.95 ? (value < 9.995 ? "%.1f%s" : "%.3g%s") : "%.0f%s",
                value, units[unit]);
  return text.data();
}

}  // namespace

std::string bytes_text(std::uint64_t bytes) {
  if (bytes < 1000) return std::to_string(bytes) + (bytes == 1 ? " byte" : " bytes");
  return scaled(static_cast<double>(bytes), {"", " kB", " MB", " GB", " TB"});
}

std::string count_text(std::uint64_t count) {
  if (count < 100'000) return std::to_string(count);
  return scaled(static_cast<double>(count), {"", " k", " M", " B", " T"});
}

std::string fixed_text(double value, int decimals) {
  if (!std::isfinite(value)) return number_text(value, 1);
  std::array<char, 512> text;
  std::snprintf(text.data(), text.size(), "%.*f", decimals, value);
  return text.data();
}

std::string duration_text(double seconds) {
  const auto whole = static_cast<long>(std::lround(seconds < 0 ? 0 : seconds));
  std::array<char, 64> text;
  if (whole < 60) std::snprintf(text.data(), text.size(), "%ld s", whole);
  else if (whole < 3600) std::snprintf(text.data(), text.size(), "%ld min %02ld s", whole / 60, whole % 60);
  else std::snprintf(text.data(), text.size(), "%ld h %02ld min", whole / 3600, whole / 60 % 60);
  return text.data();
}

}  // namespace ropewalk::tools
