#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "formats/tokenizers/piece_trie.h"
#include "lib/vocabulary.h"

namespace ropewalk::formats {

/// sentencepiece 0.2.3, model_type UNIGRAM: normalized text to pieces, the best path by the sum of scores. A
/// user-defined piece has 0.1 for each byte but the first, whatever its own score; a character that is no piece has 10
/// less than the smallest score. Sums are of float32 and begin at 0 again once they pass 100,000 either way.
class SentencepieceUnigram {
 public:
  /// `unknown`: the id of what is no piece.
  SentencepieceUnigram(std::span<const Piece> pieces, std::int32_t unknown);

  struct Part {
    std::string_view text;
    std::int32_t id;
  };
  /// In order. Unknown characters are a part each.
  std::vector<Part> encode(std::string_view normalized) const;

 private:
  PieceTrie trie_;
  std::vector<float> scores_;  // [pieces]
  float unknown_score_ = 0;
  std::size_t longest_ = 4;  // bytes of a piece, or of a character
  std::int32_t unknown_;
};

}  // namespace ropewalk::formats
