#pragma once

#include <array>
#include <cstdint>

#include "lib/codecs/code_book.h"

// A group of IQ2 or IQ3 at a given scale: magnitudes of 8 or 4 elements together, a part, are an entry of a code book, whose
// levels stand for 1, 3, 5 .. times the scale.
namespace ropewalk::codecs {

/// n magnitudes, whose levels are nearest((x / scale - 1) / 2), 0 .. levels - 1. roots: of the weights.
struct GridGroup {
  int levels, n;
  const float *x, *weights, *roots;
};

using GridEntries = std::array<std::uint16_t, 8>;  // of parts in order

/// The entry of a part's levels, or their nearest neighbour; scale = 1 / inverse, as rounded.
std::uint16_t look_up(const CodeBook& book, const GridGroup& group, int part, float inverse, float scale,
                      NearestNeighbour* nearest_of, bool& in_book);

/// Of w x q and w q^2, q = 2 level + 1 of the entries.
struct GridSums {
  float qx = 0, q2 = 0;
};
GridSums sums_of(const CodeBook& book, const GridGroup& group, const GridEntries& entries);

/// Candidate scales and what comes of each: look_up() of all parts, and sums_of() them.
struct GridCandidates {
  static constexpr int kMost = 32;
  int n;
  float inverses[kMost], scales[kMost];
  float qx[kMost], q2[kMost];
  std::uint16_t entries[8][kMost];  // [part][candidate]: codes of entries
  std::uint32_t in_book[8];         // bits: candidates
};
using MeasureGrid = void(const CodeBook& book, const GridGroup& group, GridCandidates& candidates);
MeasureGrid measure_grid, measure_grid_lanes;  // lanes: the same, candidates side by side

}  // namespace ropewalk::codecs
