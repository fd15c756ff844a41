#include <algorithm>
#include <array>
#include <limits>
#include <unordered_map>

#include "formats/tokenizers/characters.h"
#include "formats/tokenizers/implementations.h"
#include "formats/tokenizers/prefix_matcher.h"
#include "formats/tokenizers/sentencepiece_normalizer.h"
#include "formats/tokenizers/sentencepiece_unigram.h"
#include "formats/tokenizers/word_encoder.h"
#include "formats/utf8.h"
#include "lib/error.h"

namespace ropewalk::formats {
namespace {

constexpr int kMaxUserDefinedMatches = 64;  // the library's buffer
constexpr int kMaxResegmentDepth = 100;     // the library's guard: deeper pieces come out unused as they are

bool is_text_piece(const Piece& piece) {
  return piece.type == PieceType::normal || piece.type == PieceType::user_defined || piece.type == PieceType::unused;
}

/// sentencepiece 0.2.3, model_type BPE or UNIGRAM, with Hugging Face's added tokens on top.
class SentencepieceTokenizer final : public Tokenizer {
 public:
  explicit SentencepieceTokenizer(const Vocabulary& vocabulary);

  std::vector<std::int32_t> encode(std::string_view text, bool parse_special) const override;
  std::string decode(std::span<const std::int32_t> ids, bool special) const override;
  std::string piece(std::int32_t id) const override;
  std::int32_t size() const override { return size_; }

 private:
  void index_pieces();
  void index_added();
  void merge_pieces(std::string_view normalized, std::vector<std::int32_t>& ids) const;
  void encode_text(std::string_view text, bool dummy_prefix, std::vector<std::int32_t>& ids) const;
  void emit(std::string_view text, std::int32_t id, const MergeHistory* history, int depth,
            std::vector<std::int32_t>& ids) const;
  /// The added token that decides about this id: one past the pieces, or with another text than the piece. nullptr: the
  /// piece decides.
  const AddedToken* added(std::int32_t id) const;
  bool is_piece(std::int32_t id) const { return id >= 0 && static_cast<std::size_t>(id) < vocabulary_.pieces.size(); }
  [[noreturn]] void refuse(std::int32_t id) const;
  PieceType type(std::int32_t id) const { return vocabulary_.pieces[static_cast<std::size_t>(id)].type; }

  Vocabulary vocabulary_;
  std::int32_t size_ = 0;
  std::int32_t unknown_ = -1;
  std::array<std::int32_t, 256> byte_ids_{};
  PrefixMatcher user_defined_;
  PrefixMatcher always_, with_special_;  // added tokens: index into vocabulary_.added, or ~id of a control piece
  PieceIndex index_;
  PieceMerger merger_;
  SentencepieceNormalizer normalizer_;
  std::optional<SentencepieceUnigram> unigram_;
  std::unordered_map<std::int32_t, std::size_t> added_by_id_;  // index into vocabulary_.added
  bool has_unused_ = false;
};

SentencepieceTokenizer::SentencepieceTokenizer(const Vocabulary& vocabulary)
    : vocabulary_(vocabulary),
      index_(vocabulary_.pieces),
      merger_(index_, vocabulary_.pieces, is_text_piece, false),
      normalizer_(vocabulary_, user_defined_) {
  index_pieces();
  index_added();
  if (vocabulary_.model == "unigram") unigram_.emplace(vocabulary_.pieces, unknown_);
}

void SentencepieceTokenizer::index_pieces() {
  byte_ids_.fill(-1);
  for (std::int32_t id = 0; id < static_cast<std::int32_t>(vocabulary_.pieces.size()); ++id) {
    const Piece& piece = vocabulary_.pieces[static_cast<std::size_t>(id)];
    if (piece.text == std::string_view("\0", 1) && piece.type == PieceType::unused)
      continue;  // the library leaves it out
    if (!index_.add(id))
      throw Error(ErrorKind::bad_input, {}, "piece " + std::to_string(id) + " '" + piece.text + "' is defined twice",
                  "the tokenizer is corrupt: fetch it again");
    if (piece.type == PieceType::user_defined) user_defined_.add(piece.text, id);
    if (piece.type == PieceType::unknown) unknown_ = id;
    if (piece.type == PieceType::unused) has_unused_ = true;
    if (const auto byte = byte_of_piece(piece.text); byte && piece.type == PieceType::byte) byte_ids_[*byte] = id;
  }
  if (vocabulary_.byte_fallback ? std::count(byte_ids_.begin(), byte_ids_.end(), -1) > 0 : unknown_ < 0)
    throw Error(ErrorKind::bad_input, {},
                vocabulary_.byte_fallback ? "byte_fallback is set, but not all 256 bytes are pieces"
                                          : "no piece is the unknown one",
                "the tokenizer is corrupt: fetch it again");
}

void SentencepieceTokenizer::index_added() {
  size_ = static_cast<std::int32_t>(vocabulary_.pieces.size());
  for (std::int32_t id = 0; id < static_cast<std::int32_t>(vocabulary_.pieces.size()); ++id)
    if (const PieceType kind = type(id); kind == PieceType::control || kind == PieceType::unknown)
      with_special_.add(vocabulary_.pieces[static_cast<std::size_t>(id)].text,
                        static_cast<std::int32_t>(vocabulary_.added.size()) + id);
  for (std::size_t at = 0; at < vocabulary_.added.size(); ++at) {
    const AddedToken& token = vocabulary_.added[at];
    if (token.id < 0) refuse(token.id);
    size_ = std::max(size_, token.id + 1);
    if (!is_piece(token.id) || vocabulary_.pieces[static_cast<std::size_t>(token.id)].text != token.content)
      added_by_id_[token.id] = at;
    if (token.content.empty()) continue;
    if (token.single_word)
      throw Error(ErrorKind::unsupported, {}, "added token '" + token.content + "' is single_word",
                  "remove the flag from tokenizer_config.json");
    if (!token.special) always_.add(token.content, static_cast<std::int32_t>(at));
    with_special_.add(token.content, static_cast<std::int32_t>(at));
  }
}

const AddedToken* SentencepieceTokenizer::added(std::int32_t id) const {
  const auto found = added_by_id_.find(id);
  return found == added_by_id_.end() ? nullptr : &vocabulary_.added[found->second];
}

void SentencepieceTokenizer::refuse(std::int32_t id) const {
  throw Error(ErrorKind::bad_input, {},
              "id " + std::to_string(id) + " is not in the vocabulary of " + std::to_string(size_),
              "check where the ids come from");
}

void SentencepieceTokenizer::emit(std::string_view text, std::int32_t id, const MergeHistory* history, int depth,
                                  std::vector<std::int32_t>& ids) const {
  if (id >= 0 && is_text_piece(vocabulary_.pieces[static_cast<std::size_t>(id)]) && depth <= kMaxResegmentDepth) {
    if (type(id) != PieceType::unused) {
      ids.push_back(id);
      return;
    }
    if (const auto parts = history->find(id); parts != history->end()) {
      const auto [left, right] = parts->second;
      emit(left, index_.find(left), history, depth + 1, ids);
      emit(right, index_.find(right), history, depth + 1, ids);
      return;
    }
  } else if (id >= 0 && depth > kMaxResegmentDepth && type(id) != PieceType::unknown) {
    ids.push_back(id);
    return;
  }
  if (!vocabulary_.byte_fallback) {
    ids.push_back(unknown_);
    return;
  }
  for (char byte : text) ids.push_back(byte_ids_[static_cast<unsigned char>(byte)]);
}

void SentencepieceTokenizer::merge_pieces(std::string_view normalized, std::vector<std::int32_t>& ids) const {
  const auto cut = [&](std::string_view rest) -> WordEncoder::Cut {
    if (user_defined_.may_start(rest[0]))
      if (const auto match = user_defined_.longest(rest, kMaxUserDefinedMatches)) return {match->length, true};
    return {std::min(rest.size(), utf8_length(rest[0])), false};
  };
  const auto emit_symbol = [&](const MergeSymbol& symbol, const MergeHistory* history) {
    emit(normalized.substr(symbol.begin, symbol.size), symbol.id, history, 0, ids);
  };
  WordEncoder(index_, merger_, has_unused_).encode(normalized, cut, emit_symbol, ids);
}

void SentencepieceTokenizer::encode_text(std::string_view text, bool dummy_prefix,
                                         std::vector<std::int32_t>& ids) const {
  const std::string normalized = normalizer_.normalize(text, dummy_prefix);
  const std::size_t first = ids.size();
  if (unigram_)
    unigram_->encode(normalized, [&](std::string_view piece, std::int32_t id) { emit(piece, id, nullptr, 0, ids); });
  else merge_pieces(normalized, ids);
  if (vocabulary_.byte_fallback) return;
  // A run of unknown characters is one unknown piece.
  const auto begin = ids.begin() + static_cast<std::ptrdiff_t>(first);
  ids.erase(
      std::unique(begin, ids.end(), [this](std::int32_t a, std::int32_t b) { return a == unknown_ && b == unknown_; }),
      ids.end());
}

std::vector<std::int32_t> SentencepieceTokenizer::encode(std::string_view text, bool parse_special) const {
  std::vector<std::int32_t> ids;
  const PrefixMatcher& tokens = parse_special ? with_special_ : always_;
  if (tokens.empty()) {
    encode_text(text, true, ids);
    return ids;
  }
  // legacy false: only the start of the text gets the dummy prefix, not what follows a token.
  const bool prefix_everywhere = vocabulary_.legacy.value_or(true);
  std::size_t begin = 0;
  const auto text_until = [&](std::size_t end) {
    if (end > begin) encode_text(text.substr(begin, end - begin), prefix_everywhere || begin == 0, ids);
  };
  for (std::size_t at = 0; at < text.size();) {
    const auto match =
        tokens.may_start(text[at]) ? tokens.longest(text.substr(at), std::numeric_limits<int>::max()) : std::nullopt;
    if (!match) {
      ++at;
      continue;
    }
    const bool control = static_cast<std::size_t>(match->value) >= vocabulary_.added.size();
    const AddedToken token =
        control ? AddedToken{.id = match->value - static_cast<std::int32_t>(vocabulary_.added.size()), .content = {}}
                : vocabulary_.added[static_cast<std::size_t>(match->value)];
    std::size_t end = at;
    while (token.lstrip && end > begin && is_space_byte(text[end - 1])) --end;
    text_until(end);
    ids.push_back(token.id);
    at += match->length;
    while (token.rstrip && at < text.size() && is_space_byte(text[at])) ++at;
    begin = at;
  }
  text_until(text.size());
  return ids;
}

std::string SentencepieceTokenizer::decode(std::span<const std::int32_t> ids, bool special) const {
  std::string out, bytes;
  const auto flush_bytes = [&] {
    for (std::size_t at = 0; at < bytes.size();) {
      const std::size_t length = valid_utf8_prefix(std::string_view(bytes).substr(at));
      out += length > 0 ? std::string_view(bytes).substr(at, length) : "\xEF\xBF\xBD";
      at += std::max<std::size_t>(length, 1);
    }
    bytes.clear();
  };
  const bool strips_space = vocabulary_.add_dummy_prefix || vocabulary_.remove_extra_whitespaces;
  bool at_start = true;  // where a leading space is the dummy prefix
  for (std::int32_t id : ids) {
    const AddedToken* token = added(id);
    if (!token && !is_piece(id)) refuse(id);
    if (!token && type(id) == PieceType::byte) {
      bytes += static_cast<char>(*byte_of_piece(vocabulary_.pieces[static_cast<std::size_t>(id)].text));
      continue;
    }
    flush_bytes();
    at_start = at_start && out.empty();
    if (token) {
      if (!token->special || special) out += token->content;
      continue;
    }
    std::string_view text = vocabulary_.pieces[static_cast<std::size_t>(id)].text;
    if (type(id) == PieceType::control) {
      if (special) out += text;
      continue;
    }
    bool stripped = false;
    if (at_start && strips_space && text.starts_with(kSpaceMark)) {
      text.remove_prefix(kSpaceMark.size());
      stripped = !vocabulary_.remove_extra_whitespaces;
    }
    if (type(id) == PieceType::unknown) {
      out += vocabulary_.unk_surface;
    } else {
      for (std::size_t at = 0; at < text.size();) {
        const bool space = text.substr(at).starts_with(kSpaceMark);
        out += space ? ' ' : text[at];
        at += space ? kSpaceMark.size() : 1;
      }
    }
    if (stripped) at_start = false;
  }
  flush_bytes();
  return out;
}

std::string SentencepieceTokenizer::piece(std::int32_t id) const {
  if (const AddedToken* token = added(id)) return token->content;
  if (!is_piece(id)) refuse(id);
  return vocabulary_.pieces[static_cast<std::size_t>(id)].text;
}

}  // namespace

std::unique_ptr<Tokenizer> make_sentencepiece_tokenizer(const Vocabulary& vocabulary) {
  return std::make_unique<SentencepieceTokenizer>(vocabulary);
}

}  // namespace ropewalk::formats
