#include <array>
#include <optional>

#include "lib/codecs/encoders.h"
#include "lib/codecs/fits.h"
#include "lib/codecs/grid_search.h"
#include "lib/codecs/iq_types.h"
#include "lib/codecs/pack.h"

// IQ2 and IQ3: magnitudes of 8 or 4 elements together are an entry of a code book, whose levels stand for 1, 3, 5 ..
// times a group's scale.
namespace ropewalk::codecs {
namespace {

/// How a type searches a group's scale.
struct GridSearch {
  int group;      // elements
  int steps;      // candidates on either side
  float step;     // of how many levels the largest element has
  float nothing;  // below this largest magnitude a group is zero
  bool even;      // signs are stored but for every eighth, which makes the number of minuses even
  // which parts are looked up once more at the scale found: those that were no entries; all, if one was none; all
  enum class Again : std::uint8_t { off_book, all_if_off_book, all } again;
};

struct GridFit {
  float scale;
  GridEntries entries;
  std::array<std::uint8_t, 4> signs;  // of eight elements each
};

/// Magnitudes of eight elements; returns which were negative. Where their number must be even, the element that weighs
/// least changes its sign and keeps a negative magnitude.
std::uint8_t split_signs(const float* x, const float* weights, bool even, float* magnitudes) {
  std::uint32_t signs = 0;
  for (int i = 0; i < 8; ++i) {
    const bool negative = !(x[i] >= 0);
    magnitudes[i] = negative ? -x[i] : x[i];
    signs |= (negative ? 1u : 0u) << i;
  }
  if (!even) return static_cast<std::uint8_t>(signs);
  if (std::popcount(signs) % 2 != 0) {
    int least = 0;
    float cost = weights[0] * x[0] * x[0];
    for (int i = 1; i < 8; ++i)
      if (const float other = weights[i] * x[i] * x[i]; other < cost) cost = other, least = i;
    magnitudes[least] = -magnitudes[least];
    signs ^= 1u << least;
  }
  return signs & 127;
}

/// The two ways to do the same: one candidate after the other, or side by side.
struct Method {
  MeasureGrid* measure;
  NearestNeighbour* nearest_of;
};
constexpr Method kDefinition{measure_grid, nearest_neighbour}, kLanes{measure_grid_lanes, nearest_neighbour_lanes};

/// nullopt where the group is zero.
std::optional<GridFit> fit_group(const CodeBook& book, int levels, const GridSearch& search, const Method& method,
                                 const float* x, const float* weights) {
  const int n = search.group, n_parts = n / book.parts();
  const float ends = real(2 * levels - 1);
  GridFit fit{};
  float magnitudes[32] = {};
  for (int eight = 0; eight < n / 8; ++eight)
    fit.signs[static_cast<std::size_t>(eight)] =
        split_signs(x + 8 * eight, weights + 8 * eight, search.even, magnitudes + 8 * eight);
  float largest = magnitudes[0];
  for (int i = 1; i < n; ++i) largest = largest > magnitudes[i] ? largest : magnitudes[i];
  if (largest < search.nothing || largest == 0) return std::nullopt;

  float start = largest;
  fit.scale = largest / ends;
  if (search.again == GridSearch::Again::all) {  // IQ2_XXS: candidates around a fit without the book
    std::uint8_t unused[32];
    fit.scale = fit_positive(magnitudes, weights, unused, n, levels + 1);
    start = fit.scale * real(levels);
    if (start <= 0) return std::nullopt;
  }
  float roots[32];
  for (int i = 0; i < n; ++i) roots[i] = std::sqrt(weights[i]);
  const GridGroup group{levels, n, magnitudes, weights, roots};
  GridCandidates tried;
  tried.n = 2 * search.steps + 1;
  for (int c = 0; c < tried.n; ++c) {
    tried.inverses[c] = (ends + real(c - search.steps) * search.step) / start;
    tried.scales[c] = 1 / tried.inverses[c];
  }
  method.measure(book, group, tried);
  float best = 0;
  int kept = -1;
  for (int c = 0; c < tried.n; ++c) {
    const float qx = tried.qx[c], q2 = tried.q2[c];
    if (!(q2 > 0 && qx * qx > best * q2)) continue;
    fit.scale = qx / q2;
    best = fit.scale * qx;
    kept = c;
  }
  std::array<bool, 8> in_book{};
  if (search.again == GridSearch::Again::off_book) in_book.fill(true);
  for (int part = 0; part < n_parts && kept >= 0; ++part) {
    fit.entries[static_cast<std::size_t>(part)] = static_cast<std::uint16_t>(book.find(tried.entries[part][kept]));
    in_book[static_cast<std::size_t>(part)] = (tried.in_book[part] >> kept & 1) != 0;
  }
  const bool all_in_book = std::all_of(in_book.begin(), in_book.begin() + n_parts, [](bool in) { return in; });
  if ((!all_in_book || search.again == GridSearch::Again::all) && fit.scale > 0) {
    const float inverse = 1 / fit.scale;
    for (int part = 0; part < n_parts; ++part) {
      const auto at = static_cast<std::size_t>(part);
      if (search.again == GridSearch::Again::off_book && in_book[at]) continue;
      bool unused;
      fit.entries[at] = look_up(book, group, part, inverse, fit.scale, method.nearest_of, unused);
    }
    if (const GridSums s = sums_of(book, group, fit.entries); s.q2 > 0) fit.scale = s.qx / s.q2;
  }
  if (fit.scale < 0) {
    fit.scale = -fit.scale;
    for (std::uint8_t& signs : fit.signs) signs = static_cast<std::uint8_t>(~signs & (search.even ? 127 : 255));
  }
  return fit;
}

/// A block: put_fit(group, fit) for every group that is not zero, then its scale d * factor, then put_level(group, 0 ..
/// 15) for scales of d (2 level + 1) / 2. False if all scales are 0.
template <class PutFit, class PutLevel>
bool encode_block(const CodeBook& book, int levels, const GridSearch& search, const Method& method, const float* x,
                  const float* weights, float factor, std::byte* half, const PutFit& put_fit,
                  const PutLevel& put_level) {
  float scales[16] = {}, largest = 0;
  const int n_groups = 256 / search.group;
  for (int group = 0; group < n_groups; ++group) {
    const std::optional<GridFit> fit =
        fit_group(book, levels, search, method, x + group * search.group, weights + group * search.group);
    if (!fit) continue;
    put_fit(group, *fit);
    scales[group] = fit->scale;
    largest = largest > fit->scale ? largest : fit->scale;
  }
  if (largest == 0) return false;
  const float d = largest / 31, inverse = 1 / d;
  put_half(half, d * factor);
  for (int group = 0; group < n_groups; ++group)
    put_level(group, static_cast<std::uint32_t>(limited(0, nearest(0.5f * (inverse * scales[group] - 1)), 15)));
  return true;
}

/// Weights of 256 elements. Without importances: x^2 plus a part of the spread.
void weigh_block(const float* x, const float* importances, float spread, float floor, float* weights) {
  if (importances != nullptr) {
    weigh(x, importances, spread, weights, 256);
    return;
  }
  for (int i = 0; i < 256; ++i) weights[i] = floor + x[i] * x[i];
}

template <class Type, class EncodeBlock>
void encode_row(const float* x, const float* importances, std::int64_t columns, std::byte* out,
                const EncodeBlock& encode) {
  for (std::int64_t at = 0; at < columns; at += 256, out += Type::kBytes) {
    std::fill_n(out, Type::kBytes, std::byte{0});
    encode(x + at, importances != nullptr ? importances + at : nullptr, out);
  }
}

using Again = GridSearch::Again;

void encode_iq2_xxs_with(const Method& method, const float* x, const float* importances, std::int64_t columns,
                         std::byte* out) {
  constexpr GridSearch kSearch{32, 6, 0.1f, kNothing, true, Again::all};
  encode_row<Iq2Xxs>(x, importances, columns, out, [&](const float* values, const float* of_block, std::byte* block) {
    float weights[256];
    weigh_block(values, of_block, sum_of_squares(values, 256) / 256, 0, weights);
    std::uint32_t parts[16] = {};
    const bool any = encode_block(
        iq2_xxs_book(), 3, kSearch, method, values, weights, 1, block,
        [&](int group, const GridFit& fit) {
          for (std::size_t k = 0; k < 4; ++k) {
            parts[2 * group] |= std::uint32_t{fit.entries[k]} << 8 * k;
            parts[2 * group + 1] |= std::uint32_t{fit.signs[k]} << 7 * k;
          }
        },
        [&](int group, std::uint32_t level) { parts[2 * group + 1] |= level << 28; });
    for (int i = 0; i < 16 && any; ++i) put_dword(block + 2 + 4 * i, parts[i]);
  });
}

void encode_iq2_xs_with(const Method& method, const float* x, const float* importances, std::int64_t columns,
                        std::byte* out) {
  constexpr GridSearch kSearch{16, 9, 0.1f, kNothing, true, Again::off_book};
  encode_row<Iq2Xs>(x, importances, columns, out, [&](const float* values, const float* of_block, std::byte* block) {
    float weights[256];
    weigh_block(values, of_block, sum_of_squares(values, 256) / 256, 0, weights);
    std::uint32_t parts[32] = {};
    const bool any = encode_block(
        iq2_xs_book(), 3, kSearch, method, values, weights, 1, block,
        [&](int group, const GridFit& fit) {
          for (int k = 0; k < 2; ++k) {
            const auto at = static_cast<std::size_t>(k);
            parts[2 * group + k] = fit.entries[at] | std::uint32_t{fit.signs[at]} << 9;
          }
        },
        [&](int group, std::uint32_t level) { add_bits(block[66 + group / 2], level << group % 2 * 4); });
    for (int i = 0; i < 32 && any; ++i) put_word(block + 2 + 2 * i, parts[i]);
  });
}

void encode_iq2_s_with(const Method& method, const float* x, const float* importances, std::int64_t columns,
                       std::byte* out) {
  constexpr GridSearch kSearch{16, 9, 0.1f, 1e-8f, false, Again::off_book};
  encode_row<Iq2S>(x, importances, columns, out, [&](const float* values, const float* of_block, std::byte* block) {
    float weights[256];
    const float spread = 2 * sum_of_squares(values, 256) / 256;
    weigh_block(values, of_block, spread, 0.25f * spread, weights);
    encode_block(
        iq2_s_book(), 3, kSearch, method, values, weights, 0.9875f, block,
        [&](int group, const GridFit& fit) {
          for (int k = 0; k < 2; ++k) {
            const auto at = static_cast<std::size_t>(k);
            const int eight = 2 * group + k;
            block[2 + eight] = static_cast<std::byte>(fit.entries[at]);
            add_bits(block[66 + eight / 4], std::uint32_t{fit.entries[at]} >> 8 << eight % 4 * 2);
            block[34 + eight] = static_cast<std::byte>(fit.signs[at]);
          }
        },
        [&](int group, std::uint32_t level) { add_bits(block[74 + group / 2], level << group % 2 * 4); });
  });
}

void encode_iq3_xxs_with(const Method& method, const float* x, const float* importances, std::int64_t columns,
                         std::byte* out) {
  constexpr GridSearch kSearch{32, 15, 0.2f, 1e-8f, true, Again::off_book};
  encode_row<Iq3Xxs>(x, importances, columns, out, [&](const float* values, const float* of_block, std::byte* block) {
    float weights[256];
    weigh_block(values, of_block, 2 * sum_of_squares(values, 256) / 256, 0, weights);
    std::uint32_t signs[8] = {};
    const bool any = encode_block(
        iq3_xxs_book(), 8, kSearch, method, values, weights, 1.0125f, block,
        [&](int group, const GridFit& fit) {
          for (std::size_t k = 0; k < 8; ++k) block[2 + 8 * group + int(k)] = static_cast<std::byte>(fit.entries[k]);
          for (std::size_t k = 0; k < 4; ++k) signs[group] |= std::uint32_t{fit.signs[k]} << 7 * k;
        },
        [&](int group, std::uint32_t level) { signs[group] |= level << 28; });
    for (int i = 0; i < 8 && any; ++i) put_dword(block + 66 + 4 * i, signs[i]);
    if (!any) std::fill_n(block, Iq3Xxs::kBytes, std::byte{0});
  });
}

void encode_iq3_s_with(const Method& method, const float* x, const float* importances, std::int64_t columns,
                       std::byte* out) {
  constexpr GridSearch kSearch{32, 9, 0.2f, 0, false, Again::all_if_off_book};
  encode_row<Iq3S>(x, importances, columns, out, [&](const float* values, const float* of_block, std::byte* block) {
    float weights[256];
    weigh_block(values, of_block, 2 * sum_of_squares(values, 256) / 256, 0, weights);
    // ggml does not leave room for the entries and signs of a group of zeros: those of later groups move up, and only
    // their top bits and scales stay. Its files are like that, so ours are.
    int stored = 0;
    encode_block(
        iq3_s_book(), 8, kSearch, method, values, weights, 1.033f, block,
        [&](int group, const GridFit& fit) {
          for (int k = 0; k < 8; ++k) {
            const std::uint32_t entry = fit.entries[static_cast<std::size_t>(k)];
            block[2 + 8 * stored + k] = static_cast<std::byte>(entry);
            add_bits(block[66 + group], entry >> 8 << k);
          }
          for (std::size_t k = 0; k < 4; ++k) block[74 + 4 * stored + int(k)] = static_cast<std::byte>(fit.signs[k]);
          ++stored;
        },
        [&](int group, std::uint32_t level) { add_bits(block[106 + group / 2], level << group % 2 * 4); });
  });
}

}  // namespace

void encode_iq2_xxs(const float* x, const float* importances, std::int64_t columns, std::byte* out) {
  encode_iq2_xxs_with(kDefinition, x, importances, columns, out);
}
void encode_iq2_xxs_lanes(const float* x, const float* importances, std::int64_t columns, std::byte* out) {
  encode_iq2_xxs_with(kLanes, x, importances, columns, out);
}
void encode_iq2_xs(const float* x, const float* importances, std::int64_t columns, std::byte* out) {
  encode_iq2_xs_with(kDefinition, x, importances, columns, out);
}
void encode_iq2_xs_lanes(const float* x, const float* importances, std::int64_t columns, std::byte* out) {
  encode_iq2_xs_with(kLanes, x, importances, columns, out);
}
void encode_iq2_s(const float* x, const float* importances, std::int64_t columns, std::byte* out) {
  encode_iq2_s_with(kDefinition, x, importances, columns, out);
}
void encode_iq2_s_lanes(const float* x, const float* importances, std::int64_t columns, std::byte* out) {
  encode_iq2_s_with(kLanes, x, importances, columns, out);
}
void encode_iq3_xxs(const float* x, const float* importances, std::int64_t columns, std::byte* out) {
  encode_iq3_xxs_with(kDefinition, x, importances, columns, out);
}
void encode_iq3_xxs_lanes(const float* x, const float* importances, std::int64_t columns, std::byte* out) {
  encode_iq3_xxs_with(kLanes, x, importances, columns, out);
}
void encode_iq3_s(const float* x, const float* importances, std::int64_t columns, std::byte* out) {
  encode_iq3_s_with(kDefinition, x, importances, columns, out);
}
void encode_iq3_s_lanes(const float* x, const float* importances, std::int64_t columns, std::byte* out) {
  encode_iq3_s_with(kLanes, x, importances, columns, out);
}

}  // namespace ropewalk::codecs
