#include "lib/codecs/iq1_borders.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace ropewalk::codecs {
namespace {

struct Sums {
  float qx, q2;
};

class Best {
 public:
  void meet(Sums s, int first, int second, int shifts) {
    if (!(s.q2 > 0 && s.qx * s.qx > best_ * s.q2)) return;
    const float scale = s.qx / s.q2;
    best_ = scale * s.qx;
    borders = {scale, first, second, shifts};
  }
  Iq1Borders borders{0, -1, -1, 0};

 private:
  float best_ = -std::numeric_limits<float>::max();
};

}  // namespace

void ascending(const float* x, int n, int* order) {
  for (int i = 0; i < n; ++i) order[i] = i;
  std::stable_sort(order, order + n,
                   [&](int a, int b) { return x[a] < x[b] || (!std::isnan(x[a]) && std::isnan(x[b])); });
}

Iq1Borders iq1_s_borders(const Iq1SSums& sums) {
  constexpr int n = Iq1SSums::kElements;
  const auto of = [&](int a, int b, const Iq1Levels& l) {
    const float *x = sums.x, *w = sums.w;
    return Sums{(x[a] - x[0]) * l[0] + (x[b] - x[a]) * l[1] + (x[n] - x[b]) * l[2],
                (w[a] - w[0]) * l[0] * l[0] + (w[b] - w[a]) * l[1] * l[1] + (w[n] - w[b]) * l[2] * l[2]};
  };
  Best best;
  for (int a = 0; a <= n; ++a)
    for (int b = a; b <= n; ++b) {
      best.meet(of(a, b, kIq1Up), a, b, 0);
      best.meet(of(a, b, kIq1Down), a, b, 1);
    }
  return best.borders;
}

Iq1Borders iq1_m_borders(const Iq1MSums& sums) {
  constexpr int n = Iq1MSums::kElements;
  // Levels are 1 apart, so a sum over three runs is the whole times the last level, less the sums up to either border.
  const auto of_half = [&](int half, int a, int b, const Iq1Levels& l) {
    const float *x = sums.x[half], *w = sums.w[half];
    const float first_step = l[0] * l[0] - l[1] * l[1], second_step = l[1] * l[1] - l[2] * l[2];
    return Sums{x[n] * l[2] - (x[a] + x[b]), w[n] * l[2] * l[2] + w[a] * first_step + w[b] * second_step};
  };
  Best best;
  for (int a = 0; a <= n; ++a)
    for (int b = a; b <= n; ++b) {
      const Sums halves[2][2] = {{of_half(0, a, b, kIq1Up), of_half(0, a, b, kIq1Down)},
                                 {of_half(1, a, b, kIq1Up), of_half(1, a, b, kIq1Down)}};
      for (int shifts = 0; shifts < 4; ++shifts) {
        const Sums &one = halves[0][shifts >> 1], &other = halves[1][shifts & 1];
        best.meet({one.qx + other.qx, one.q2 + other.q2}, a, b, shifts);
      }
    }
  return best.borders;
}

}  // namespace ropewalk::codecs
