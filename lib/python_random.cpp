#include "lib/python_random.h"

#include <array>
#include <bit>
#include <cassert>
#include <cmath>
#include <numeric>
#include <set>
#include <utility>

namespace ropewalk {
namespace {

constexpr std::size_t kWords = 624;

/// init_by_array of one key (Matsumoto and Nishimura's mt19937ar.c) as what std::mt19937 takes its whole state from.
class OneKey {
 public:
  using result_type = std::uint32_t;
  explicit OneKey(std::uint32_t key) : key_(key) {}
  template <class Iterator>
  void generate(Iterator begin, Iterator end) const {
    std::array<std::uint32_t, kWords> state{19650218};
    for (std::uint32_t i = 1; i < kWords; ++i) state[i] = 1812433253u * (state[i - 1] ^ (state[i - 1] >> 30)) + i;
    std::size_t i = 1;
    const auto step = [&](std::uint32_t factor, std::uint32_t more) {
      state[i] = (state[i] ^ ((state[i - 1] ^ (state[i - 1] >> 30)) * factor)) + more;
      if (++i == kWords) state[0] = state[kWords - 1], i = 1;
    };
    for (std::size_t k = 0; k < kWords; ++k) step(1664525u, key_);
    for (std::size_t k = 1; k < kWords; ++k) step(1566083941u, 0u - static_cast<std::uint32_t>(i));
    state[0] = 0x80000000u;
    for (std::size_t word = 0; begin != end; ++begin, ++word) *begin = state[word];
  }

 private:
  std::uint32_t key_;
};

std::mt19937 generator(std::uint32_t seed) {
  OneKey key(seed);
  return std::mt19937(key);
}

}  // namespace

PythonRandom::PythonRandom(std::uint32_t seed) : words_(generator(seed)) {}

std::size_t PythonRandom::below(std::size_t n) {
  assert(n > 0 && n <= 0xffffffffu);
  const int bits = std::bit_width(n);
  for (;;)
    if (const std::size_t drawn = words_() >> (32 - bits); drawn < n) return drawn;
}

std::vector<std::size_t> PythonRandom::sample(std::size_t n, std::size_t count) {
  assert(count <= n);
  std::size_t few = 21;  // up to here a list of all is smaller than a set of those drawn
  if (count > 5)
    few += static_cast<std::size_t>(std::pow(4, std::ceil(std::log(static_cast<double>(count * 3)) / std::log(4.0))));
  std::vector<std::size_t> drawn;
  drawn.reserve(count);
  if (n <= few) {
    std::vector<std::size_t> pool(n);
    std::iota(pool.begin(), pool.end(), std::size_t{0});
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t at = below(n - i);
      drawn.push_back(std::exchange(pool[at], pool[n - i - 1]));
    }
    return drawn;
  }
  std::set<std::size_t> taken;
  while (drawn.size() < count)
    if (const std::size_t at = below(n); taken.insert(at).second) drawn.push_back(at);
  return drawn;
}

}  // namespace ropewalk
