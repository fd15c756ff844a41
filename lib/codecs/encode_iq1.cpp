#include <array>

#include "lib/codecs/code_book.h"
#include "lib/codecs/encoders.h"
#include "lib/codecs/fits.h"
#include "lib/codecs/iq_types.h"
#include "lib/codecs/pack.h"

// IQ1: three levels, -1, 0, 1, all shifted up or down by an eighth. Sorted, a group's elements fall into three runs, one a
// level: all pairs of borders are tried, with either shift, and the weighted least squares' scale of each.
namespace ropewalk::codecs {
namespace {

using Levels = std::array<float, 3>;
constexpr Levels kUp = {-1 + kIq1Shift, kIq1Shift, 1 + kIq1Shift}, kDown = {-1 - kIq1Shift, -kIq1Shift, 1 - kIq1Shift};

/// Elements in ascending order, equal ones as they stand, NaN last.
template <int n>
std::array<int, n> ascending(const float* x) {
  std::array<int, n> order;
  for (int i = 0; i < n; ++i) order[static_cast<std::size_t>(i)] = i;
  std::stable_sort(order.begin(), order.end(),
                   [&](int a, int b) { return x[a] < x[b] || (!std::isnan(x[a]) && std::isnan(x[b])); });
  return order;
}

float largest_magnitude(const float* x, int n) {
  float most = std::fabs(x[0]);
  for (int i = 1; i < n; ++i) most = most > std::fabs(x[i]) ? most : std::fabs(x[i]);
  return most;
}

/// Runs of levels 0, 1, 2 along `order`; mirrored where the scale came out negative.
template <int n>
void put_runs(const std::array<int, n>& order, int first, int second, bool mirrored, std::uint8_t* levels) {
  for (int j = 0; j < n; ++j) {
    const std::uint8_t level = j < first ? 0 : j < second ? 1 : 2;
    levels[order[static_cast<std::size_t>(j)]] = mirrored ? static_cast<std::uint8_t>(2 - level) : level;
  }
}

/// The entry for eight levels: itself, or the neighbour with the least weighted squared error.
std::uint16_t look_up(NearestNeighbour* nearest_of, const std::uint8_t* levels, const float* x, const float* weights,
                      float scale, const Levels& worth, bool& in_book) {
  const CodeBook& book = iq1_book();
  const std::uint32_t code = book.code_of(levels);
  if (const int entry = book.find(code); entry >= 0) return static_cast<std::uint16_t>(entry);
  in_book = false;
  return static_cast<std::uint16_t>(nearest_of(book, {code, 1, worth[0], scale, x, weights}));
}

struct Sums {
  float qx = 0, q2 = 0;

  bool beat(float best) const { return q2 > 0 && qx * qx > best * q2; }
  /// Eight elements as `entry`, whose levels are worth `worth` times `factor`.
  void add(std::uint32_t entry, const Levels& worth, float factor, const float* x, const float* weights) {
    for (int i = 0; i < 8; ++i) {
      const float q = worth[static_cast<std::size_t>(iq1_book().level(entry, i))] * factor, w = weights[i];
      qx += w * q * x[i];
      q2 += w * q * q;
    }
  }
};

struct Fit {
  float scale = 0;
  int shifts = 0;  // IQ1_S: 1 is down; IQ1_M: 2 of the first eight, 1 of the second
  std::array<std::uint16_t, 4> entries{};
};

/// Eight by eight, and the scale once more where one of them was no entry.
template <int n, class WorthOf>
void take_entries(NearestNeighbour* nearest_of, const float* x, const float* weights, const std::uint8_t* levels,
                  const WorthOf& worth, Fit& fit) {
  bool in_book = true;
  for (int k = 0; k < n / 8; ++k)
    fit.entries[static_cast<std::size_t>(k)] =
        look_up(nearest_of, levels + 8 * k, x + 8 * k, weights + 8 * k, fit.scale, worth(k), in_book);
  if (in_book) return;
  Sums s;
  for (int k = 0; k < n / 8; ++k)
    s.add(fit.entries[static_cast<std::size_t>(k)], worth(k), 1, x + 8 * k, weights + 8 * k);
  if (s.qx > 0 && s.q2 > 0) fit.scale = s.qx / s.q2;
}

/// False where the group is zero, or nothing is better than nothing.
bool fit_iq1_s(NearestNeighbour* nearest_of, const float* x, const float* weights, Fit& fit) {
  constexpr int n = 32;
  if (largest_magnitude(x, n) < 1e-12f) return false;
  const std::array<int, n> order = ascending<n>(x);
  float sum_x[n + 1] = {}, sum_w[n + 1] = {};
  for (int j = 0; j < n; ++j) {
    const int i = order[static_cast<std::size_t>(j)];
    sum_x[j + 1] = sum_x[j] + weights[i] * x[i];
    sum_w[j + 1] = sum_w[j] + weights[i];
  }
  float best = -std::numeric_limits<float>::max();
  int first = -1, second = -1;
  const auto try_borders = [&](int a, int b, const Levels& l, int shifts) {
    Sums s;
    s.qx = (sum_x[a] - sum_x[0]) * l[0] + (sum_x[b] - sum_x[a]) * l[1] + (sum_x[n] - sum_x[b]) * l[2];
    s.q2 =
        (sum_w[a] - sum_w[0]) * l[0] * l[0] + (sum_w[b] - sum_w[a]) * l[1] * l[1] + (sum_w[n] - sum_w[b]) * l[2] * l[2];
    if (!s.beat(best)) return;
    fit.scale = s.qx / s.q2;
    best = fit.scale * s.qx;
    first = a, second = b, fit.shifts = shifts;
  };
  for (int a = 0; a <= n; ++a)
    for (int b = a; b <= n; ++b) {
      try_borders(a, b, kUp, 0);
      try_borders(a, b, kDown, 1);
    }
  if (first < 0) return false;
  std::uint8_t levels[n];
  put_runs<n>(order, first, second, fit.scale < 0, levels);
  if (fit.scale < 0) fit.scale = -fit.scale, fit.shifts ^= 1;
  take_entries<n>(
      nearest_of, x, weights, levels, [&](int) -> const Levels& { return fit.shifts == 0 ? kUp : kDown; }, fit);
  return true;
}

const Levels& iq1_m_worth(int shifts, int k) { return (shifts >> (1 - k) & 1) == 0 ? kUp : kDown; }

bool fit_iq1_m(NearestNeighbour* nearest_of, const float* x, const float* weights, Fit& fit) {
  constexpr int n = 16;
  if (largest_magnitude(x, n) < 1e-7f) return false;
  const std::array<int, n> order = ascending<n>(x);
  // Sums of either half of the group along the order: each may be shifted its own way. Levels are 1 apart, so a sum over
  // three runs is the whole times the last level, less the sums up to either border.
  float sum_x[2][n + 1] = {}, sum_w[2][n + 1] = {};
  for (int j = 0; j < n; ++j) {
    const int i = order[static_cast<std::size_t>(j)], half = i / 8;
    sum_x[half][j + 1] = sum_x[half][j] + weights[i] * x[i];
    sum_w[half][j + 1] = sum_w[half][j] + weights[i];
    sum_x[1 - half][j + 1] = sum_x[1 - half][j];
    sum_w[1 - half][j + 1] = sum_w[1 - half][j];
  }
  const auto of_half = [&](int half, int a, int b, const Levels& l) {
    const float first_step = l[0] * l[0] - l[1] * l[1], second_step = l[1] * l[1] - l[2] * l[2];
    Sums s;
    s.qx = sum_x[half][n] * l[2] - (sum_x[half][a] + sum_x[half][b]);
    s.q2 = sum_w[half][n] * l[2] * l[2] + sum_w[half][a] * first_step + sum_w[half][b] * second_step;
    return s;
  };
  float best = -std::numeric_limits<float>::max();
  int first = -1, second = -1;
  for (int a = 0; a <= n; ++a)
    for (int b = a; b <= n; ++b) {
      const Sums halves[2][2] = {{of_half(0, a, b, kUp), of_half(0, a, b, kDown)},
                                 {of_half(1, a, b, kUp), of_half(1, a, b, kDown)}};
      for (int shifts = 0; shifts < 4; ++shifts) {
        const Sums &one = halves[0][shifts >> 1], &other = halves[1][shifts & 1];
        Sums s;
        s.qx = one.qx + other.qx;
        s.q2 = one.q2 + other.q2;
        if (!s.beat(best)) continue;
        fit.scale = s.qx / s.q2;
        best = fit.scale * s.qx;
        first = a, second = b, fit.shifts = shifts;
      }
    }
  if (first < 0) return false;
  std::uint8_t levels[n];
  put_runs<n>(order, first, second, fit.scale < 0, levels);
  if (fit.scale < 0) fit.scale = -fit.scale, fit.shifts ^= 3;
  take_entries<n>(
      nearest_of, x, weights, levels, [&](int k) -> const Levels& { return iq1_m_worth(fit.shifts, k); }, fit);
  return true;
}

std::uint32_t scale_level(float inverse, float scale) {
  return static_cast<std::uint32_t>(limited(0, nearest(0.5f * (inverse * scale - 1)), 7));
}

void encode_iq1_s_block(NearestNeighbour* nearest_of, const float* x, const float* weights, std::byte* block) {
  float scales[8] = {}, largest = 0;
  std::uint32_t high[8] = {};
  for (int group = 0; group < 8; ++group) {
    Fit fit;
    if (!fit_iq1_s(nearest_of, x + 32 * group, weights + 32 * group, fit)) continue;
    for (int k = 0; k < 4; ++k) {
      const std::uint32_t entry = fit.entries[static_cast<std::size_t>(k)];
      block[2 + 4 * group + k] = static_cast<std::byte>(entry);
      high[group] |= entry >> 8 << 3 * k;
    }
    put_word(block + 34 + 2 * group, high[group]);
    high[group] |= static_cast<std::uint32_t>(fit.shifts) << 15;
    scales[group] = fit.scale;
    largest = largest > fit.scale ? largest : fit.scale;
  }
  if (largest == 0) return;
  const float d = largest / 15, inverse = 1 / d;
  put_half(block, d * 1.125f);
  for (int group = 0; group < 8; ++group)
    put_word(block + 34 + 2 * group, high[group] | scale_level(inverse, scales[group]) << 12);
}

void encode_iq1_m_block(NearestNeighbour* nearest_of, const float* x, const float* weights, std::byte* block) {
  float scales[16] = {}, largest = 0;
  Fit fits[16];
  for (int group = 0; group < 16; ++group) {
    Fit& fit = fits[group];
    if (!fit_iq1_m(nearest_of, x + 16 * group, weights + 16 * group, fit)) {
      fit = {};
      continue;
    }
    block[2 * group] = static_cast<std::byte>(fit.entries[0]);
    block[2 * group + 1] = static_cast<std::byte>(fit.entries[1]);
    block[32 + group] = static_cast<std::byte>(fit.entries[0] >> 8 | fit.entries[1] >> 8 << 4);
    scales[group] = fit.scale;
    largest = largest > fit.scale ? largest : fit.scale;
  }
  if (largest == 0) return;
  float d = largest / 15;
  const float inverse = 1 / d;
  std::uint32_t words[4] = {};
  Sums s;
  for (int group = 0; group < 16; ++group) {
    const Fit& fit = fits[group];
    const std::uint32_t level = scale_level(inverse, scales[group]);
    words[group / 4] |= level << group % 4 * 3;
    add_bits(block[32 + group], (fit.shifts & 2) << 2 | (fit.shifts & 1) << 7);
    for (int k = 0; k < 2; ++k)
      s.add(fit.entries[static_cast<std::size_t>(k)], iq1_m_worth(fit.shifts, k), real(static_cast<int>(2 * level + 1)),
            x + 16 * group + 8 * k, weights + 16 * group + 8 * k);
  }
  if (s.q2 > 0) d = s.qx / s.q2;
  std::byte half[2];
  put_half(half, d * 1.1125f);
  for (int i = 0; i < 4; ++i) {
    const std::uint32_t quarter = static_cast<std::uint32_t>(half[i / 2]) >> i % 2 * 4 & 15;
    put_word(block + 48 + 2 * i, words[i] | quarter << 12);
  }
}

template <class Type>
void encode_row(NearestNeighbour* nearest_of, const float* x, const float* importances, std::int64_t columns,
                std::byte* out) {
  for (std::int64_t at = 0; at < columns; at += 256, x += 256, out += Type::kBytes) {
    std::fill_n(out, Type::kBytes, std::byte{0});
    float weights[256];
    if (importances != nullptr) weigh(x, importances + at, 2 * sum_of_squares(x, 256) / 256, weights, 256);
    else
      for (int i = 0; i < 256; ++i) weights[i] = x[i] * x[i];
    if constexpr (std::is_same_v<Type, Iq1S>) encode_iq1_s_block(nearest_of, x, weights, out);
    else encode_iq1_m_block(nearest_of, x, weights, out);
  }
}

}  // namespace

void encode_iq1_s(const float* x, const float* importances, std::int64_t columns, std::byte* out) {
  encode_row<Iq1S>(nearest_neighbour, x, importances, columns, out);
}
void encode_iq1_s_lanes(const float* x, const float* importances, std::int64_t columns, std::byte* out) {
  encode_row<Iq1S>(nearest_neighbour_lanes, x, importances, columns, out);
}
void encode_iq1_m(const float* x, const float* importances, std::int64_t columns, std::byte* out) {
  encode_row<Iq1M>(nearest_neighbour, x, importances, columns, out);
}
void encode_iq1_m_lanes(const float* x, const float* importances, std::int64_t columns, std::byte* out) {
  encode_row<Iq1M>(nearest_neighbour_lanes, x, importances, columns, out);
}

}  // namespace ropewalk::codecs
