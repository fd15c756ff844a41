#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "lib/vocabulary.h"

namespace ropewalk::formats {

/// Text to id, by open addressing over the pieces themselves. The pieces must outlive it and stay where they are.
class PieceIndex {
 public:
  explicit PieceIndex(std::span<const Piece> pieces);
  /// Whether the piece was new: false leaves the first one.
  bool add(std::int32_t id);
  /// -1 if there is none.
  std::int32_t find(std::string_view text) const noexcept;

 private:
  std::size_t slot(std::string_view text) const noexcept;
  std::span<const Piece> pieces_;
  std::vector<std::int32_t> slots_;  // power of two, -1 empty
};

/// A stretch of text that is one symbol so far. Symbols form a list by index, in text order.
struct MergeSymbol {
  std::uint32_t begin = 0, size = 0;  // size 0: merged into another
  std::int32_t previous = -1, next = -1;
  std::int32_t id = -1;  // of the piece with this text, -1 if there is none
  bool frozen = false;   // never merged
};

/// How two symbols became one, by the id of the result: what sentencepiece takes an unused piece apart by.
using MergeHistory = std::unordered_map<std::int32_t, std::pair<std::string_view, std::string_view>>;

/// Byte-pair merging by score: of all neighbours whose joint text is a mergeable piece, the one with the highest score
/// first, the leftmost of equals.
class PieceMerger {
 public:
  /// `mergeable` by piece: may be the result of a merge. `zeros_equal`: -0 and +0 are one score (llama.cpp compares
  /// floats; sentencepiece compares bits). Scores must be numbers.
  PieceMerger(const PieceIndex& index, std::span<const Piece> pieces,
              const std::function<bool(const Piece&)>& mergeable, bool zeros_equal);

  /// No mergeable piece holds U+2581 after another character, so no merge crosses the front of a word: words can be
  /// merged one by one.
  bool words_are_independent() const noexcept { return words_are_independent_; }

  /// Merges in place. Symbols are neighbours in index order and cover `text` from symbols[0]; at most 2^31 - 1 bytes.
  /// O(n log n).
  /// `history`, if given, gets the last merge of every unused piece.
  void merge(std::string_view text, std::vector<MergeSymbol>& symbols, MergeHistory* history) const;

 private:
  struct Candidate {
    std::uint32_t order;  // larger first
    std::uint32_t left, right, size;
    std::int32_t id;
    bool operator<(const Candidate& other) const noexcept {
      return order != other.order ? order < other.order : left > other.left;
    }
  };
  void consider(std::string_view text, const std::vector<MergeSymbol>& symbols, std::int32_t left, std::int32_t right,
                std::vector<Candidate>& queue, MergeHistory* history) const;

  const PieceIndex* index_;
  std::span<const Piece> pieces_;
  std::vector<std::uint32_t> order_;     // [pieces]
  std::vector<std::uint8_t> mergeable_;  // [pieces]
  bool words_are_independent_ = true;
};

}  // namespace ropewalk::formats
