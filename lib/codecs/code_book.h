#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace ropewalk::codecs {

inline constexpr int kNeighbourLanes = 16;

/// A code book of iq_grids.h as an encoder needs it: which levels it holds, and for any other levels its nearest entries.
/// Levels of kParts elements, kBits each, are one code, as in the tables.
class CodeBook {
 public:
  /// Of `levels` levels an element. `distances`: a code's neighbours are the entries at so many smallest distances from
  /// it (sums of squares of level differences), nearest first, then by index: the order decides between equals.
  CodeBook(std::span<const std::uint16_t> entries, int parts, int bits, int levels, int distances);

  int parts() const noexcept { return parts_; }
  /// Index of the entry that is `code`, or -1.
  int find(std::uint32_t code) const { return places_[code] >= 0 ? places_[code] : -1; }
  /// Of a code that is no entry: codes of entries, behind which stand more, to kNeighbourLanes at least, of no meaning.
  std::span<const std::uint16_t> neighbours(std::uint32_t code) const {
    const Neighbours& found = neighbours_of_[static_cast<std::size_t>(-places_[code] - 1)];
    return {neighbours_.data() + found.first, found.count};
  }
  int bits() const noexcept { return bits_; }
  std::uint32_t code_of_entry(std::uint32_t entry) const { return entries_[entry]; }
  /// Level of element `i` of a code.
  int level_of(std::uint32_t code, int i) const { return static_cast<int>(code >> bits_ * i & mask_); }
  /// Level of element `i` of an entry.
  int level(std::uint32_t entry, int i) const { return level_of(entries_[entry], i); }
  std::uint32_t code_of(const std::uint8_t* levels) const {
    std::uint32_t code = 0;
    for (int i = 0; i < parts_; ++i) code |= std::uint32_t{levels[i]} << bits_ * i;
    return code;
  }

 private:
  void add_neighbours(std::uint32_t code, int distances);

  std::span<const std::uint16_t> entries_;
  int parts_, bits_;
  std::uint32_t mask_;
  struct Neighbours {
    std::uint32_t first, count;
  };
  std::vector<std::int32_t> places_;  // [code]: entry, or -1 - index in neighbours_of_
  std::vector<Neighbours> neighbours_of_;
  std::vector<std::uint16_t> neighbours_;
};

/// What the search among neighbours asks: element i of an entry is worth factor * level + offset, times the scale.
struct NeighbourQuery {
  std::uint32_t code;
  float factor, offset, scale;
  const float *x, *weights;
};
/// The first neighbour with the least sum of weight * error^2; the first of all where none is a number (there ggml stops
/// the program, or reads past its arrays).
using NearestNeighbour = int(const CodeBook& book, const NeighbourQuery& query);
NearestNeighbour nearest_neighbour, nearest_neighbour_lanes;  // lanes: the same, 16 neighbours side by side

/// Built when first asked for (0.1 s at most), kept: data, not state.
const CodeBook& iq2_xxs_book();
const CodeBook& iq2_xs_book();
const CodeBook& iq2_s_book();
const CodeBook& iq3_xxs_book();
const CodeBook& iq3_s_book();
const CodeBook& iq1_book();

}  // namespace ropewalk::codecs
