#pragma once

#include <cstddef>

namespace ropewalk::verify {

/// y[row, c] = gain[c] * x[row, c] / sqrt(mean over c of x[row, c]^2 + eps), c < width. arXiv:1910.07467.
/// x, y: rows x_stride, y_stride floats apart; y may be x. The sum is taken in double in 16 fixed lanes (c mod 16) and
/// a fixed tree; one rounding per output.
void rms_norm(const float* x, std::size_t x_stride, std::size_t rows, const float* gain, std::size_t width, double eps,
              float* y, std::size_t y_stride);

}  // namespace ropewalk::verify
