#include <algorithm>
#include <array>
#include <optional>

#include "formats/tokenizers/characters.h"
#include "formats/tokenizers/implementations.h"
#include "formats/tokenizers/llama_cpp_plamo2.h"
#include "formats/tokenizers/llama_cpp_specials.h"
#include "formats/tokenizers/llama_cpp_unigram.h"
#include "formats/tokenizers/word_encoder.h"
#include "formats/utf8.h"
#include "lib/error.h"

namespace ropewalk::formats {
namespace {

/// llama.cpp 0.5's SPM, UGM and PLaMo 2 tokenizers, llama_tokenize and llama_detokenize without BOS and EOS.
class LlamaCppTokenizer final : public Tokenizer {
 public:
  explicit LlamaCppTokenizer(const Vocabulary& vocabulary);

  std::vector<std::int32_t> encode(std::string_view text, bool parse_special) const override;
  std::string decode(std::span<const std::int32_t> ids, bool special) const override;
  std::string piece(std::int32_t id) const override { return at(id).text; }
  std::int32_t size() const override { return static_cast<std::int32_t>(pieces_.size()); }

 private:
  void encode_text(std::string_view text, std::vector<std::int32_t>& ids) const;
  const Piece& at(std::int32_t id) const;
  std::string shown(std::int32_t id, bool special) const;
  std::optional<std::int32_t> byte_id(std::uint8_t byte) const;

  std::vector<Piece> pieces_;
  std::array<std::int32_t, 256> byte_ids_{};
  bool add_space_prefix_;
  PieceIndex index_;
  std::optional<PieceMerger> merger_;
  std::optional<LlamaCppSpecials> specials_;
  std::optional<LlamaCppUnigram> unigram_;
  std::optional<LlamaCppPlamo2> plamo2_;
};

LlamaCppTokenizer::LlamaCppTokenizer(const Vocabulary& vocabulary)
    : pieces_(llama_cpp_pieces(vocabulary.pieces)), add_space_prefix_(vocabulary.add_dummy_prefix), index_(pieces_) {
  for (std::int32_t id = 0; id < size(); ++id)
    if (!index_.add(id))
      throw Error(ErrorKind::bad_input, {}, "token " + std::to_string(id) + " '" + at(id).text + "' is defined twice",
                  "the tokenizer is corrupt: llama.cpp refuses it too");
  specials_.emplace(pieces_, vocabulary.added, index_);
  if (vocabulary.model == "plamo2") plamo2_.emplace(pieces_);
  else if (vocabulary.model == "unigram") unigram_.emplace(vocabulary, pieces_, *specials_);
  else
    merger_.emplace(
        index_, pieces_, [](const Piece&) { return true; }, true);  // types do not matter to merges
  for (int byte = 0; byte < 256; ++byte)
    byte_ids_[static_cast<std::size_t>(byte)] = byte_id(static_cast<std::uint8_t>(byte)).value_or(-1);
}

const Piece& LlamaCppTokenizer::at(std::int32_t id) const {
  if (id < 0 || id >= size())
    throw Error(ErrorKind::bad_input, {},
                "id " + std::to_string(id) + " is not in the vocabulary of " + std::to_string(size()),
                "check where the ids come from");
  return pieces_[static_cast<std::size_t>(id)];
}

std::optional<std::int32_t> LlamaCppTokenizer::byte_id(std::uint8_t byte) const {
  if (const std::int32_t id = index_.find(byte_piece(byte)); id >= 0) return id;
  const char alone = static_cast<char>(byte);
  if (const std::int32_t id = index_.find({&alone, 1}); id >= 0) return id;
  return std::nullopt;
}

void LlamaCppTokenizer::encode_text(std::string_view text, std::vector<std::int32_t>& ids) const {
  const auto cut = [](std::string_view rest) -> WordEncoder::Cut {
    return {std::min(rest.size(), utf8_length(rest[0])), false};
  };
  const auto emit = [&](const MergeSymbol& symbol, const MergeHistory*) {
    if (symbol.id >= 0) {
      ids.push_back(symbol.id);
      return;
    }
    for (char c : text.substr(symbol.begin, symbol.size)) {
      const std::int32_t id = byte_ids_[static_cast<unsigned char>(c)];
      if (id < 0)
        throw Error(ErrorKind::bad_input, {},
                    "the vocabulary has no token for byte " + byte_piece(static_cast<std::uint8_t>(c)),
                    "llama.cpp cannot encode this text either");
      ids.push_back(id);
    }
  };
  WordEncoder(index_, *merger_, false).encode(text, cut, emit, ids);
}

std::vector<std::int32_t> LlamaCppTokenizer::encode(std::string_view text, bool parse_special) const {
  std::vector<std::int32_t> ids;
  bool after_special = true;
  for (const LlamaCppSpecials::Fragment& fragment : specials_->partition(text, parse_special)) {
    if (fragment.token) {
      ids.push_back(*fragment.token);
    } else if (unigram_) {
      unigram_->encode(fragment.text, ids);
    } else if (plamo2_) {
      plamo2_->encode(fragment.text, ids);
    } else {
      std::string escaped = (add_space_prefix_ && after_special ? " " : "") + std::string(fragment.text);
      replace_all(escaped, " ", kSpaceMark);
      encode_text(escaped, ids);
    }
    after_special = fragment.token.has_value();
  }
  return ids;
}

/// llama_token_to_piece.
std::string LlamaCppTokenizer::shown(std::int32_t id, bool special) const {
  const Piece& piece = at(id);
  const LlamaCppSpecials::Attributes& attributes = specials_->of(id);
  if (attributes.control) return special ? piece.text : std::string();
  if (plamo2_) {
    const auto byte = piece.type == PieceType::byte ? plamo2_byte(piece.text) : std::nullopt;
    return byte ? std::string(1, static_cast<char>(*byte)) : piece.text;
  }
  if (attributes.user_defined) return piece.text;
  if (attributes.normal || piece.type == PieceType::normal) {
    std::string text = piece.text;
    replace_all(text, kSpaceMark, " ");
    return text;
  }
  if (piece.type == PieceType::byte) {
    const auto byte = byte_of_piece(piece.text);
    return std::string(1, static_cast<char>(byte.value_or(0)));
  }
  return {};  // unused
}

std::string LlamaCppTokenizer::decode(std::span<const std::int32_t> ids, bool special) const {
  std::string out;
  for (std::size_t index = 0; index < ids.size(); ++index) {
    const std::string text = shown(ids[index], special);
    const bool drop_space = index == 0 && add_space_prefix_ && text.starts_with(' ');
    out += drop_space ? std::string_view(text).substr(1) : text;
  }
  return out;
}

}  // namespace

std::unique_ptr<Tokenizer> make_llama_cpp_tokenizer(const Vocabulary& vocabulary) {
  return std::make_unique<LlamaCppTokenizer>(vocabulary);
}

}  // namespace ropewalk::formats
