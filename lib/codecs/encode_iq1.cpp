#include <array>

#include "lib/codecs/code_book.h"
#include "lib/codecs/encoders.h"
#include "lib/codecs/fits.h"
#include "lib/codecs/iq1_borders.h"
#include "lib/codecs/iq_types.h"
#include "lib/codecs/pack.h"

namespace ropewalk::codecs {
namespace {

/// The two ways to do the same: one after the other, or side by side.
struct Method {
  Ascending* ascending;
  Iq1SBorders* s_borders;
  Iq1MBorders* m_borders;
  NearestNeighbour* nearest_of;
};
constexpr Method kDefinition{ascending, iq1_s_borders, iq1_m_borders, nearest_neighbour},
    kLanes{ascending_lanes, iq1_s_borders_lanes, iq1_m_borders_lanes, nearest_neighbour_lanes};

float largest_magnitude(const float* x, int n) {
  float most = std::fabs(x[0]);
  for (int i = 1; i < n; ++i) most = most > std::fabs(x[i]) ? most : std::fabs(x[i]);
  return most;
}

/// Runs of levels 0, 1, 2 along `order`; mirrored where the scale came out negative.
void put_runs(const int* order, int n, int first, int second, bool mirrored, std::uint8_t* levels) {
  for (int j = 0; j < n; ++j) {
    const std::uint8_t level = j < first ? 0 : j < second ? 1 : 2;
    levels[order[j]] = mirrored ? static_cast<std::uint8_t>(2 - level) : level;
  }
}

/// The entry for eight levels: itself, or the neighbour with the least weighted squared error.
std::uint16_t look_up(NearestNeighbour* nearest_of, const std::uint8_t* levels, const float* x, const float* weights,
                      float scale, const Iq1Levels& worth, bool& in_book) {
  const CodeBook& book = iq1_book();
  const std::uint32_t code = book.code_of(levels);
  if (const int entry = book.find(code); entry >= 0) return static_cast<std::uint16_t>(entry);
  in_book = false;
  return static_cast<std::uint16_t>(nearest_of(book, {code, 1, worth[0], scale, x, weights}));
}

struct Sums {
  float qx = 0, q2 = 0;

  /// Eight elements as `entry`, whose levels are worth `worth` times `factor`.
  void add(std::uint32_t entry, const Iq1Levels& worth, float factor, const float* x, const float* weights) {
    const CodeBook& book = iq1_book();
    for (int i = 0; i < 8; ++i) {
      const float q = worth[static_cast<std::size_t>(book.level(entry, i))] * factor, w = weights[i];
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

/// Of the borders found; false if there are none.
template <int n, class WorthOf>
bool take_borders(const Method& method, const float* x, const float* weights, const int* order, const Iq1Borders& found,
                  int all_shifts, const WorthOf& worth_of, Fit& fit) {
  if (found.first < 0) return false;
  fit.scale = found.scale;
  fit.shifts = found.shifts;
  std::uint8_t levels[n];
  put_runs(order, n, found.first, found.second, fit.scale < 0, levels);
  if (fit.scale < 0) fit.scale = -fit.scale, fit.shifts ^= all_shifts;
  take_entries<n>(
      method.nearest_of, x, weights, levels, [&](int k) -> const Iq1Levels& { return worth_of(fit.shifts, k); }, fit);
  return true;
}

const Iq1Levels& iq1_s_worth(int shifts, int) { return shifts == 0 ? kIq1Up : kIq1Down; }
const Iq1Levels& iq1_m_worth(int shifts, int k) { return (shifts >> (1 - k) & 1) == 0 ? kIq1Up : kIq1Down; }

/// False where the group is zero, or nothing is better than nothing.
bool fit_iq1_s(const Method& method, const float* x, const float* weights, Fit& fit) {
  constexpr int n = Iq1SSums::kElements;
  if (largest_magnitude(x, n) < 1e-12f) return false;
  int order[n];
  method.ascending(x, n, order);
  Iq1SSums sums = {};
  for (int j = 0; j < n; ++j) {
    const int i = order[j];
    sums.x[j + 1] = sums.x[j] + weights[i] * x[i];
    sums.w[j + 1] = sums.w[j] + weights[i];
  }
  return take_borders<n>(method, x, weights, order, method.s_borders(sums), 1, iq1_s_worth, fit);
}

bool fit_iq1_m(const Method& method, const float* x, const float* weights, Fit& fit) {
  constexpr int n = Iq1MSums::kElements;
  if (largest_magnitude(x, n) < 1e-7f) return false;
  int order[n];
  method.ascending(x, n, order);
  Iq1MSums sums = {};
  for (int j = 0; j < n; ++j) {
    const int i = order[j], half = i / 8;
    sums.x[half][j + 1] = weights[i] * x[i];
    sums.w[half][j + 1] = weights[i];
  }
  float x_so_far[2] = {}, w_so_far[2] = {};  // adding 0 does not change a sum that began at +0
  for (int j = 1; j <= n; ++j)
    for (int half = 0; half < 2; ++half) {
      sums.x[half][j] = x_so_far[half] += sums.x[half][j];
      sums.w[half][j] = w_so_far[half] += sums.w[half][j];
    }
  return take_borders<n>(method, x, weights, order, method.m_borders(sums), 3, iq1_m_worth, fit);
}

std::uint32_t scale_level(float inverse, float scale) {
  return static_cast<std::uint32_t>(limited(0, nearest(0.5f * (inverse * scale - 1)), 7));
}

void encode_iq1_s_block(const Method& method, const float* x, const float* weights, std::byte* block) {
  float scales[8] = {}, largest = 0;
  std::uint32_t high[8] = {};
  for (int group = 0; group < 8; ++group) {
    Fit fit;
    if (!fit_iq1_s(method, x + 32 * group, weights + 32 * group, fit)) continue;
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

void encode_iq1_m_block(const Method& method, const float* x, const float* weights, std::byte* block) {
  float scales[16] = {}, largest = 0;
  Fit fits[16];
  for (int group = 0; group < 16; ++group) {
    Fit& fit = fits[group];
    if (!fit_iq1_m(method, x + 16 * group, weights + 16 * group, fit)) {
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
void encode_row(const Method& method, const float* x, const float* importances, std::int64_t columns, std::byte* out) {
  for (std::int64_t at = 0; at < columns; at += 256, x += 256, out += Type::kBytes) {
    std::fill_n(out, Type::kBytes, std::byte{0});
    float weights[256];
    if (importances != nullptr) weigh(x, importances + at, 2 * sum_of_squares(x, 256) / 256, weights, 256);
    else
      for (int i = 0; i < 256; ++i) weights[i] = x[i] * x[i];
    if constexpr (std::is_same_v<Type, Iq1S>) encode_iq1_s_block(method, x, weights, out);
    else encode_iq1_m_block(method, x, weights, out);
  }
}

}  // namespace

void encode_iq1_s(const float* x, const float* importances, std::int64_t columns, std::byte* out) {
  encode_row<Iq1S>(kDefinition, x, importances, columns, out);
}
void encode_iq1_s_lanes(const float* x, const float* importances, std::int64_t columns, std::byte* out) {
  encode_row<Iq1S>(kLanes, x, importances, columns, out);
}
void encode_iq1_m(const float* x, const float* importances, std::int64_t columns, std::byte* out) {
  encode_row<Iq1M>(kDefinition, x, importances, columns, out);
}
void encode_iq1_m_lanes(const float* x, const float* importances, std::int64_t columns, std::byte* out) {
  encode_row<Iq1M>(kLanes, x, importances, columns, out);
}

}  // namespace ropewalk::codecs
