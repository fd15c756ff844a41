#pragma once

#include <array>
#include <cstdint>

#include "lib/codecs/iq_types.h"

// IQ1: three levels, -1, 0, 1, all shifted up or down by an eighth. Sorted, a group's elements fall into three runs, one a
// level: all pairs of borders are tried, with either shift, and the weighted least squares' scale of each.
namespace ropewalk::codecs {

using Iq1Levels = std::array<float, 3>;
inline constexpr Iq1Levels kIq1Up = {-1 + kIq1Shift, kIq1Shift, 1 + kIq1Shift},
                           kIq1Down = {-1 - kIq1Shift, -kIq1Shift, 1 - kIq1Shift};

/// Runs end before elements `first` and `second` of the order; first < 0 where nothing is better than nothing.
struct Iq1Borders {
  float scale;
  int first, second;
  int shifts;  // IQ1_S: 1 is down; IQ1_M: 2 of the first eight, 1 of the second
};
/// Sums of w x and w along the order, from 0 to n. IQ1_M: of each half of the group, which may be shifted its own way.
struct Iq1SSums {
  static constexpr int kElements = 32;
  float x[kElements + 1], w[kElements + 1];
};
struct Iq1MSums {
  static constexpr int kElements = 16;
  float x[2][kElements + 1], w[2][kElements + 1];
};

/// Elements in ascending order, equal ones as they stand, NaN last; n <= 32.
using Ascending = void(const float* x, int n, int* order);
/// Pairs with first <= second in order of first, then of second, then of shifts: one that is better than the best before.
using Iq1SBorders = Iq1Borders(const Iq1SSums& sums);
using Iq1MBorders = Iq1Borders(const Iq1MSums& sums);

Ascending ascending, ascending_lanes;  // lanes: the same, side by side
Iq1SBorders iq1_s_borders, iq1_s_borders_lanes;
Iq1MBorders iq1_m_borders, iq1_m_borders_lanes;

}  // namespace ropewalk::codecs
