#pragma once

#include <cstdint>

namespace ropewalk {

/// SplitMix64 (Steele, Lea, Flood 2014): one number from several, the same everywhere.
constexpr std::uint64_t mixed(std::uint64_t seed, std::uint64_t value) {
  std::uint64_t z = seed + 0x9E3779B97F4A7C15 * (value + 1);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
  return z ^ (z >> 31);
}

}  // namespace ropewalk
