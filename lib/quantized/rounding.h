#pragma once

#include <span>

#include "lib/dtype.h"

namespace ropewalk {

/// Each value rounded once to `dtype` (to nearest even) and widened again; f32: as it is.
void round_through(DType dtype, std::span<float> values);

}  // namespace ropewalk
