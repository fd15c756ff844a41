#pragma once

#include <array>
#include <cstddef>

namespace ropewalk {

/// Sum of f(c) for c < n: eight running sums in fixed places, so that the compiler may use vectors and the result never
/// varies.
template <class F>
double sum_in_lanes(std::size_t n, F f) {
  std::array<double, 8> lanes{};
  std::size_t c = 0;
  for (; c + 8 <= n; c += 8)
    for (std::size_t lane = 0; lane < 8; ++lane) lanes[lane] += f(c + lane);
  for (; c < n; ++c) lanes[c % 8] += f(c);
  return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

/// Sum of squares of f(c) for c < n.
template <class F>
double sum_of_squares(std::size_t n, F f) {
  return sum_in_lanes(n, [&](std::size_t c) {
    const double x = f(c);
    return x * x;
  });
}

}  // namespace ropewalk
