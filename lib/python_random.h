#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

namespace ropewalk {

/// Python's random.Random(seed) of a whole number below 2^32, as far as it is followed here: what draws rows in Python
/// draws the same rows. CPython 3.2 to 3.13: MT19937 seeded by init_by_array, Lib/random.py's _randbelow and sample.
class PythonRandom {
 public:
  explicit PythonRandom(std::uint32_t seed);
  /// Uniform in [0, n); 0 < n < 2^32.
  std::size_t below(std::size_t n);
  /// `count` of the indices [0, n), each at most once, in the order drawn; count <= n.
  std::vector<std::size_t> sample(std::size_t n, std::size_t count);

 private:
  std::mt19937 words_;
};

}  // namespace ropewalk
