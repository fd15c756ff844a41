#include "lib/codecs/code_book.h"

#include <algorithm>
#include <limits>

#include "lib/codecs/iq_grids.h"

namespace ropewalk::codecs {

CodeBook::CodeBook(std::span<const std::uint16_t> entries, int parts, int bits, int levels, int distances)
    : entries_(entries), parts_(parts), bits_(bits), mask_((1u << bits) - 1) {
  places_.assign(std::size_t{1} << parts * bits, -1);
  for (std::size_t i = 0; i < entries.size(); ++i) places_[entries[i]] = static_cast<std::int32_t>(i);
  for (std::uint32_t code = 0; code < places_.size(); ++code) {
    bool valid = places_[code] < 0;
    for (int i = 0; i < parts; ++i) valid &= static_cast<int>(code >> bits * i & mask_) < levels;
    if (valid) add_neighbours(code, distances);
  }
  neighbours_.insert(neighbours_.end(), kNeighbourLanes, 0);
}

void CodeBook::add_neighbours(std::uint32_t code, int distances) {
  // few distances occur: a list of entries for each
  std::vector<std::vector<std::uint16_t>> at;
  for (std::size_t entry = 0; entry < entries_.size(); ++entry) {
    std::size_t distance = 0;
    for (int i = 0; i < parts_; ++i) {
      const int off = level(static_cast<std::uint32_t>(entry), i) - static_cast<int>(code >> bits_ * i & mask_);
      distance += static_cast<std::size_t>(off * off);
    }
    if (distance >= at.size()) at.resize(distance + 1);
    at[distance].push_back(entries_[entry]);
  }
  places_[code] = -static_cast<std::int32_t>(neighbours_of_.size()) - 1;
  Neighbours found{static_cast<std::uint32_t>(neighbours_.size()), 0};
  for (const auto& list : at) {
    if (list.empty()) continue;
    if (distances-- == 0) break;
    neighbours_.insert(neighbours_.end(), list.begin(), list.end());
  }
  found.count = static_cast<std::uint32_t>(neighbours_.size()) - found.first;
  neighbours_of_.push_back(found);
}

int nearest_neighbour(const CodeBook& book, const NeighbourQuery& query) {
  const std::span neighbours = book.neighbours(query.code);
  float least = std::numeric_limits<float>::max();
  std::uint32_t best = neighbours[0];
  for (const std::uint16_t code : neighbours) {
    float distance = 0;
    for (int i = 0; i < book.parts(); ++i) {
      const float worth = query.factor * static_cast<float>(book.level_of(code, i)) + query.offset;  // exact
      const float off = query.scale * worth - query.x[i];
      distance += query.weights[i] * off * off;
    }
    if (distance < least) least = distance, best = code;
  }
  return book.find(best);
}

const CodeBook& iq2_xxs_book() {
  static const CodeBook book(kIq2Xxs, 8, 2, 3, 2);
  return book;
}
const CodeBook& iq2_xs_book() {
  static const CodeBook book(kIq2Xs, 8, 2, 3, 2);
  return book;
}
const CodeBook& iq2_s_book() {
  static const CodeBook book(kIq2S, 8, 2, 3, 1);
  return book;
}
const CodeBook& iq3_xxs_book() {
  static const CodeBook book(kIq3Xxs, 4, 3, 8, 2);
  return book;
}
const CodeBook& iq3_s_book() {
  static const CodeBook book(kIq3S, 4, 3, 8, 3);
  return book;
}
const CodeBook& iq1_book() {
  static const CodeBook book(kIq1, 8, 2, 3, 3);
  return book;
}

}  // namespace ropewalk::codecs
