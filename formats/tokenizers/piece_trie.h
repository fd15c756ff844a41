#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "lib/vocabulary.h"

namespace ropewalk::formats {

/// All pieces that a text starts with, shortest first: a trie whose edges lie in one open-addressed table.
class PieceTrie {
 public:
  explicit PieceTrie(std::span<const Piece> pieces) {
    std::size_t bytes = 1;
    for (const Piece& piece : pieces) bytes += piece.text.size();
    edges_.resize(std::bit_ceil(bytes * 2));
    for (std::size_t id = 0; id < pieces.size(); ++id) {
      std::uint32_t node = 0;
      for (char byte : pieces[id].text) {
        Edge& edge = edges_[slot(node, byte)];
        if (edge.to == 0) {
          edge = {node, static_cast<std::uint32_t>(ids_.size()), byte};
          ids_.push_back(-1);
        }
        node = edge.to;
      }
      ids_[node] = static_cast<std::int32_t>(id);
    }
    for (std::size_t byte = 0; byte < first_.size(); ++byte) first_[byte] = edges_[slot(0, static_cast<char>(byte))].to;
  }

  /// take(bytes of the piece, its id).
  template <class Take>
  void for_each_prefix(std::string_view text, const Take& take) const {
    if (text.empty()) return;
    std::uint32_t node = first_[static_cast<unsigned char>(text[0])];
    for (std::size_t at = 1; node != 0; ++at) {
      if (ids_[node] >= 0) take(at, ids_[node]);
      if (at == text.size()) return;
      node = edges_[slot(node, text[at])].to;
    }
  }

 private:
  struct Edge {
    std::uint32_t from = 0, to = 0;  // to 0: no edge
    char byte = 0;
  };
  std::size_t slot(std::uint32_t from, char byte) const noexcept {
    std::uint64_t hash = (std::uint64_t{from} << 8 | static_cast<unsigned char>(byte)) * 0x9E3779B97F4A7C15u;
    std::size_t at = static_cast<std::size_t>(hash >> 20) & (edges_.size() - 1);
    while (edges_[at].to != 0 && (edges_[at].from != from || edges_[at].byte != byte))
      at = (at + 1) & (edges_.size() - 1);
    return at;
  }
  std::vector<Edge> edges_;                 // power of two
  std::array<std::uint32_t, 256> first_{};  // the root's edges: every search begins with one
  std::vector<std::int32_t> ids_ = {-1};    // [nodes], -1: no piece ends here
};

}  // namespace ropewalk::formats
