#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/tokenizers/llama_cpp_specials.h"
#include "formats/tokenizers/piece_trie.h"
#include "formats/tokenizers/prefix_matcher.h"
#include "formats/tokenizers/sentencepiece_normalizer.h"
#include "lib/vocabulary.h"

namespace ropewalk::formats {

/// llama.cpp 0.5's UGM tokenizer (kind `t5` of a GGUF), one stretch of text without special tokens. Unlike
/// sentencepiece's: user-defined pieces score 0, unused ones count, sums are doubles, there are no byte pieces for what
/// is unknown, and white space at the end goes but a space is put in front only where text follows.
class LlamaCppUnigram {
 public:
  /// What is said by `vocabulary`; `pieces` are its pieces under their names in the engine. `specials` must outlive this.
  LlamaCppUnigram(const Vocabulary& vocabulary, std::span<const Piece> pieces, const LlamaCppSpecials& specials);
  /// Appends the ids. Error(bad_input) without a place for a text that needs the unknown token where there is none.
  void encode(std::string_view text, std::vector<std::int32_t>& ids) const;

 private:
  struct Step {
    std::size_t length;
    std::string_view output;
  };
  Step step(std::string_view text) const;
  std::string normalize(std::string_view text) const;

  PieceTrie trie_;
  PrefixMatcher user_defined_;
  Charsmap charsmap_;
  std::vector<double> scores_;  // [pieces]
  double unknown_score_ = 0;
  std::int32_t unknown_ = -1;
  bool add_space_prefix_, merge_spaces_;
};

}  // namespace ropewalk::formats
