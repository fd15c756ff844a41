#include "lib/codecs/grid_search.h"

#include "lib/codecs/fits.h"

namespace ropewalk::codecs {

std::uint16_t look_up(const CodeBook& book, const GridGroup& group, int part, float inverse, float scale,
                      NearestNeighbour* nearest_of, bool& in_book) {
  const int first = part * book.parts();
  std::uint8_t levels[8];
  for (int i = 0; i < book.parts(); ++i)
    levels[i] =
        static_cast<std::uint8_t>(limited(0, nearest(0.5f * (inverse * group.x[first + i] - 1)), group.levels - 1));
  const std::uint32_t code = book.code_of(levels);
  const int entry = book.find(code);
  in_book = entry >= 0;
  if (in_book) return static_cast<std::uint16_t>(entry);
  return static_cast<std::uint16_t>(nearest_of(book, {code, 2, 1, scale, group.x + first, group.roots + first}));
}

GridSums sums_of(const CodeBook& book, const GridGroup& group, const GridEntries& entries) {
  GridSums s;
  for (int i = 0; i < group.n; ++i) {
    const std::uint32_t entry = entries[static_cast<std::size_t>(i / book.parts())];
    const float q = real(2 * book.level(entry, i % book.parts()) + 1), w = group.weights[i];
    s.qx += w * group.x[i] * q;
    s.q2 += w * q * q;
  }
  return s;
}

void measure_grid(const CodeBook& book, const GridGroup& group, GridCandidates& candidates) {
  const int n_parts = group.n / book.parts();
  std::fill_n(candidates.in_book, 8, 0u);
  for (int c = 0; c < candidates.n; ++c) {
    GridEntries entries{};
    for (int part = 0; part < n_parts; ++part) {
      bool found;
      const std::uint16_t entry =
          look_up(book, group, part, candidates.inverses[c], candidates.scales[c], nearest_neighbour, found);
      entries[static_cast<std::size_t>(part)] = entry;
      candidates.entries[part][c] = static_cast<std::uint16_t>(book.code_of_entry(entry));
      candidates.in_book[part] |= (found ? 1u : 0u) << c;
    }
    const GridSums s = sums_of(book, group, entries);
    candidates.qx[c] = s.qx;
    candidates.q2[c] = s.q2;
  }
}

}  // namespace ropewalk::codecs
