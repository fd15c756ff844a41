#include <algorithm>
#include <array>
#include <optional>

#include "formats/tokenizers/byte_level.h"
#include "formats/tokenizers/merge_table.h"
#include "formats/tokenizers/characters.h"
#include "formats/tokenizers/tokenizer.h"
#include "formats/tokenizers/word_model.h"
#include "formats/utf8.h"
#include "lib/tokenizer_pipeline.h"

namespace ropewalk::formats {
namespace {

/// BPE by merge ranks.
class Bpe final : public WordModel {
 public:
  Bpe(const Vocabulary& vocabulary, const PieceIndex& index, bool bytes)
      : pieces_(vocabulary.pieces),
        index_(index),
        model_(std::get<BpeModel>(vocabulary.pipeline->model)),
        merges_(model_.merges, EqualMerges::last, model_.rank_by_result) {
    if (model_.unk_token) unk_ = index_.find(*model_.unk_token);
    for (unsigned byte = 0; byte < 256; ++byte) {
      byte_pieces_[byte] = index_.find(byte_piece(static_cast<std::uint8_t>(byte)));
      std::string spelled;
      append_utf8(spelled, kByteCharacters[byte]);
      characters_[byte] = index_.find(spelled);
    }
    bytes_ = bytes && !model_.continuing_subword_prefix && !model_.end_of_word_suffix && !model_.byte_fallback;
    if (bytes_ && model_.ignore_merges) spell_whole_words();
    words_are_independent_ = !bytes_ && !model_.ignore_merges && !model_.continuing_subword_prefix &&
                             !model_.end_of_word_suffix && index_.find(kSpaceMark) >= 0 && no_merge_crosses_a_mark();
  }

  bool takes_bytes() const override { return bytes_; }
  std::string_view cut_before() const override { return words_are_independent_ ? kSpaceMark : std::string_view(); }

  void encode(std::string_view word, std::vector<std::int32_t>& ids, WordScratch& scratch) const override {
    if (model_.ignore_merges) {
      const std::int32_t whole = bytes_ ? whole_words_->find(word) : index_.find(word);
      if (whole >= 0) return ids.push_back(bytes_ ? whole_ids_[static_cast<std::size_t>(whole)] : whole);
    }
    scratch.symbols.clear();
    if (bytes_) symbols_of_bytes(word, scratch);
    else symbols_of_characters(word, scratch);
    merge_symbols(scratch, merges_, false);
    for (const auto& symbol : scratch.symbols)
      if (!symbol.merged) ids.push_back(symbol.id);
  }

 private:
  /// The unknown token for a character, one per run with fuse_unk; `pending`: one is due.
  void add_unknown(WordScratch& scratch, bool& pending) const {
    if (!model_.unk_token) return;  // dropped
    if (unk_ < 0) no_unknown_token(*model_.unk_token);
    if (pending && !model_.fuse_unk) add_symbol(scratch, unk_);
    pending = true;
  }

  void symbols_of_bytes(std::string_view word, WordScratch& scratch) const {
    bool pending = false;
    for (char byte : word) {
      const std::int32_t id = characters_[static_cast<unsigned char>(byte)];
      if (id < 0) {
        add_unknown(scratch, pending);
        continue;
      }
      if (pending) add_symbol(scratch, unk_);
      pending = false;
      add_symbol(scratch, id);
    }
    if (pending) add_symbol(scratch, unk_);
  }

  void symbols_of_characters(std::string_view word, WordScratch& scratch) const {
    bool pending = false;
    for (std::size_t at = 0; at < word.size();) {
      const std::size_t length = utf8_length(word[at]);
      const std::string_view character = word.substr(at, length);
      const std::int32_t id = find_character(character, at == 0, at + length >= word.size(), scratch.text);
      at += length;
      if (id >= 0) {
        if (pending) add_symbol(scratch, unk_);
        pending = false;
        add_symbol(scratch, id);
      } else if (!add_byte_pieces(scratch)) {
        add_unknown(scratch, pending);
      }
    }
    if (pending) add_symbol(scratch, unk_);
  }

  /// `text` becomes the character with its prefix and suffix.
  std::int32_t find_character(std::string_view character, bool first, bool last, std::string& text) const {
    text.clear();
    if (!first && model_.continuing_subword_prefix) text += *model_.continuing_subword_prefix;
    text += character;
    if (last && model_.end_of_word_suffix) text += *model_.end_of_word_suffix;
    return index_.find(text);
  }

  /// Whether the bytes of scratch.text all have pieces, which are then added.
  bool add_byte_pieces(WordScratch& scratch) const {
    if (!model_.byte_fallback) return false;
    const auto piece = [this](char byte) { return byte_pieces_[static_cast<unsigned char>(byte)]; };
    if (!std::all_of(scratch.text.begin(), scratch.text.end(), [&](char byte) { return piece(byte) >= 0; }))
      return false;
    for (char byte : scratch.text) add_symbol(scratch, piece(byte));
    return true;
  }

  /// Pieces as the raw bytes they spell, for ignore_merges.
  void spell_whole_words() {
    for (std::size_t id = 0; id < pieces_.size(); ++id) {
      if (pieces_[id].type == PieceType::unused) continue;
      if (auto bytes = spelled_bytes(pieces_[id].text); bytes && !bytes->empty()) {
        whole_pieces_.push_back({std::move(*bytes)});
        whole_ids_.push_back(static_cast<std::int32_t>(id));
      }
    }
    whole_words_.emplace(whole_pieces_);
    for (std::size_t at = 0; at < whole_pieces_.size(); ++at) whole_words_->add(static_cast<std::int32_t>(at));
  }

  bool no_merge_crosses_a_mark() const {
    return std::none_of(model_.merges.begin(), model_.merges.end(), [this](const BpeModel::Merge& merge) {
      std::string_view text = pieces_[static_cast<std::size_t>(merge.result)].text;
      while (text.starts_with(kSpaceMark)) text.remove_prefix(kSpaceMark.size());
      return text.find(kSpaceMark) != std::string_view::npos;
    });
  }

  const std::vector<Piece>& pieces_;
  const PieceIndex& index_;
  const BpeModel& model_;
  MergeTable merges_;
  std::array<std::int32_t, 256> byte_pieces_{}, characters_{};  // "<0x0A>"; spelled in the alphabet
  std::int32_t unk_ = -1;
  bool bytes_ = false, words_are_independent_ = false;
  std::vector<Piece> whole_pieces_;
  std::vector<std::int32_t> whole_ids_;
  std::optional<PieceIndex> whole_words_;
};

}  // namespace

std::unique_ptr<WordModel> make_bpe_model(const Vocabulary& vocabulary, const PieceIndex& index, bool bytes) {
  return std::make_unique<Bpe>(vocabulary, index, bytes);
}

}  // namespace ropewalk::formats
