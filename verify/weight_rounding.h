#pragma once

#include <cstddef>
#include <span>

#include "lib/dtype.h"

namespace ropewalk::verify {

/// What rounding weights to a sweep's 16-bit type changed them by, over those matrices of layers and head that are
/// stored in another type: what the type holds as it is stored is not looked at. Zero where that is all.
struct WeightRounding {
  double largest = 0;  // max |w' - w| / |w|
  double rms = 0;      // sqrt(sum (w' - w)^2 / sum w^2)
};

/// Sums over values w and what they are rounded to, w'.
struct RoundingSums {
  double squares = 0, error_squares = 0;  // of w, of w' - w
  double largest = 0;                     // |w' - w| / |w|

  void add(const RoundingSums& more);
};

/// Of values stored as `dtype` at `bytes` (whole blocks), rounded to `to` (to nearest, ties to even), a 16-bit type;
/// nothing is measured, and zeros returned, where `to` is `dtype`. Values that a finite `to` cannot hold count as lost
/// entirely.
RoundingSums measure_rounding(DType dtype, std::span<const std::byte> bytes, DType to);

}  // namespace ropewalk::verify
