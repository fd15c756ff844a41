#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "formats/tokenizers/piece_trie.h"
#include "formats/tokenizers/unigram_lattice.h"
#include "formats/utf8.h"
#include "lib/vocabulary.h"

namespace ropewalk::formats {

/// sentencepiece 0.2.3, model_type UNIGRAM: normalized text to pieces, the best path by the sum of scores. A
/// user-defined piece has 0.1 for each byte but the first, whatever its own score; a character that is no piece has 10
/// less than the smallest score. Sums are of float32 and begin at 0 again once they pass 100,000 either way.
class SentencepieceUnigram {
 public:
  /// `unknown`: the id of what is no piece.
  SentencepieceUnigram(std::span<const Piece> pieces, std::int32_t unknown);

  /// take(text, id) of each piece, in order; unknown characters one by one.
  template <class Take>
  void encode(std::string_view normalized, const Take& take) const {
    UnigramLattice<float> lattice(normalized.size());
    const auto taken = [&](std::size_t begin, std::size_t end, std::int32_t id) {
      take(normalized.substr(begin, end - begin), id);
    };
    std::size_t reach = 0;  // where the pieces that were offered end, the farthest of them
    for (std::size_t at = 0; at < normalized.size();) {
      // Every path passes here, at the end of a word as a rule: what is kept stays small.
      if (at == reach) lattice.cut(at, taken);
      const std::size_t length = std::min(utf8_length(normalized[at]), normalized.size() - at);
      if (std::abs(lattice.sum_at(at)) > kLargestSum) lattice.rebase(at, longest_);
      bool has_single = false;
      trie_.for_each_prefix(normalized.substr(at), [&](std::size_t size, std::int32_t id) {
        lattice.offer(at, at + size, scores_[static_cast<std::size_t>(id)], id);
        has_single = has_single || size == length;
        reach = std::max(reach, at + size);
      });
      if (!has_single) lattice.offer(at, at + length, unknown_score_, unknown_);
      at += length;
      reach = std::max(reach, at);
    }
    lattice.cut(normalized.size(), taken);
  }

 private:
  static constexpr float kLargestSum = 100000.0f;  // past it the library begins anew

  PieceTrie trie_;
  std::vector<float> scores_;  // [pieces]
  float unknown_score_ = 0;
  std::size_t longest_ = 4;  // bytes of a piece, or of a character
  std::int32_t unknown_;
};

}  // namespace ropewalk::formats
