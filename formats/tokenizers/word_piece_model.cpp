#include "formats/tokenizers/characters.h"
#include "formats/tokenizers/word_model.h"
#include "formats/utf8.h"
#include "lib/tokenizer_pipeline.h"

namespace ropewalk::formats {
namespace {

/// The longest piece first, from the left; a word that does not come out is one unknown token.
class WordPiece final : public WordModel {
 public:
  WordPiece(const Vocabulary& vocabulary, const PieceIndex& index)
      : index_(index), model_(std::get<WordPieceModel>(vocabulary.pipeline->model)) {}

  void encode(std::string_view word, std::vector<std::int32_t>& ids, WordScratch& scratch) const override {
    const std::size_t before = ids.size();
    std::size_t characters = 0;
    for (char c : word) characters += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
    bool known = characters <= model_.max_input_chars_per_word;
    for (std::size_t at = 0; known && at < word.size();) {
      const auto [id, length] = longest(word, at, scratch.text);
      known = id >= 0;
      if (known) ids.push_back(id);
      at += length;
    }
    if (known) return;
    ids.resize(before);
    const std::int32_t unk = index_.find(model_.unk_token);
    if (unk < 0) no_unknown_token(model_.unk_token);
    ids.push_back(unk);
  }

 private:
  struct Found {
    std::int32_t id = -1;
    std::size_t length = 0;
  };
  Found longest(std::string_view word, std::size_t at, std::string& text) const {
    text = at > 0 ? model_.continuing_subword_prefix : std::string();
    const std::size_t prefix = text.size();
    text += word.substr(at);
    while (text.size() > prefix) {
      if (const std::int32_t id = index_.find(text); id >= 0) return {id, text.size() - prefix};
      text.resize(text.size() - last_character(text).length);
    }
    return {};
  }

  const PieceIndex& index_;
  const WordPieceModel& model_;
};

/// A word is a piece or the unknown token.
class WordLevel final : public WordModel {
 public:
  WordLevel(const Vocabulary& vocabulary, const PieceIndex& index)
      : index_(index), model_(std::get<WordLevelModel>(vocabulary.pipeline->model)) {}

  void encode(std::string_view word, std::vector<std::int32_t>& ids, WordScratch&) const override {
    std::int32_t id = index_.find(word);
    if (id < 0) id = index_.find(model_.unk_token);
    if (id < 0) no_unknown_token(model_.unk_token);
    ids.push_back(id);
  }

 private:
  const PieceIndex& index_;
  const WordLevelModel& model_;
};

}  // namespace

std::unique_ptr<WordModel> make_word_piece_model(const Vocabulary& vocabulary, const PieceIndex& index) {
  return std::make_unique<WordPiece>(vocabulary, index);
}

std::unique_ptr<WordModel> make_word_level_model(const Vocabulary& vocabulary, const PieceIndex& index) {
  return std::make_unique<WordLevel>(vocabulary, index);
}

}  // namespace ropewalk::formats
