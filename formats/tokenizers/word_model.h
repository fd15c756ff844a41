#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "formats/tokenizers/piece_merger.h"
#include "lib/vocabulary.h"

namespace ropewalk::formats {

/// Buffers of one encoding thread, kept from word to word.
struct WordScratch {
  struct Symbol {
    std::int32_t id = 0, previous = -1, next = -1;
    bool merged = false;  // into the one before it
  };
  struct Candidate {
    std::uint32_t rank, position;
    std::int32_t result;
  };
  std::vector<Symbol> symbols;
  std::vector<Candidate> queue;
  std::string text;
};

/// The model of a tokenizer.json: a word, which is valid UTF-8 and not empty, to ids. Thread-safe.
class WordModel {
 public:
  virtual ~WordModel() = default;
  /// Appends to `ids`. Error(bad_input) without a place for a word that the library has no ids for either.
  virtual void encode(std::string_view word, std::vector<std::int32_t>& ids, WordScratch& scratch) const = 0;
  /// Words are raw bytes rather than spelled in ByteLevel's alphabet.
  virtual bool takes_bytes() const { return false; }
  /// A character before which every word may be cut, unless another one stands before it, with the same ids: no merge
  /// crosses it. Empty: none is known.
  virtual std::string_view cut_before() const { return {}; }
};

/// The model of vocabulary.pipeline. `index` finds the pieces; both must outlive it. `bytes`: take raw bytes where the
/// model can. Error(bad_input) or Error(unsupported) without a place for models that cannot work.
std::unique_ptr<WordModel> make_word_model(const Vocabulary& vocabulary, const PieceIndex& index, bool bytes);

std::unique_ptr<WordModel> make_bpe_model(const Vocabulary& vocabulary, const PieceIndex& index, bool bytes);
std::unique_ptr<WordModel> make_word_piece_model(const Vocabulary& vocabulary, const PieceIndex& index);
std::unique_ptr<WordModel> make_word_level_model(const Vocabulary& vocabulary, const PieceIndex& index);
std::unique_ptr<WordModel> make_unigram_model(const Vocabulary& vocabulary, const PieceIndex& index);

/// What the library fails with, in our words: the unknown token is needed and is no piece.
[[noreturn]] void no_unknown_token(std::string_view token);

}  // namespace ropewalk::formats
