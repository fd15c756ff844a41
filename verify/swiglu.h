#pragma once

#include <cstddef>

namespace ropewalk::verify {

/// Gate and up projections come interleaved by 16: columns 32 g + i of `gate_up` are gate channels 16 g + i, columns 32
/// g + 16 + i the up channels (i < 16).
/// y[row, 16 g + i] = silu(gate) * up, silu(x) = x / (1 + e^-x). gate_up: [rows, 32 * groups], y: [rows, 16 * groups].
/// arXiv:2002.05202.
void swiglu(const float* gate_up, std::size_t stride, std::size_t rows, std::size_t groups, float* y,
            std::size_t y_stride);

}  // namespace ropewalk::verify
