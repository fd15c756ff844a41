#include "verify/rms_norm.h"

#include <cmath>

namespace ropewalk::verify {

void rms_norm(const float* x, std::size_t x_stride, std::size_t rows, const float* gain, std::size_t width, double eps,
              float* y, std::size_t y_stride) {
  constexpr std::size_t kLanes = 16;
  for (std::size_t row = 0; row < rows; ++row, x += x_stride, y += y_stride) {
    double lanes[kLanes] = {};
    std::size_t c = 0;
    for (; c + kLanes <= width; c += kLanes)
      for (std::size_t lane = 0; lane < kLanes; ++lane) lanes[lane] += double(x[c + lane]) * double(x[c + lane]);
    for (; c < width; ++c) lanes[c % kLanes] += double(x[c]) * double(x[c]);
    for (std::size_t half = kLanes / 2; half > 0; half /= 2)
      for (std::size_t lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
    const double scale = 1.0 / std::sqrt(lanes[0] / double(width) + eps);
    for (c = 0; c < width; ++c) y[c] = float(double(x[c]) * scale * double(gain[c]));
  }
}

}  // namespace ropewalk::verify
