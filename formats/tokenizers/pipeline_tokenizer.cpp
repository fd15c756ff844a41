#include <algorithm>
#include <set>

#include "formats/tokenizers/added_tokens.h"
#include "formats/tokenizers/characters.h"
#include "formats/tokenizers/decoders.h"
#include "formats/tokenizers/implementations.h"
#include "formats/tokenizers/normalizers.h"
#include "formats/tokenizers/pre_tokenizers.h"
#include "formats/tokenizers/word_cache.h"
#include "formats/tokenizers/word_model.h"
#include "formats/utf8.h"
#include "lib/error.h"

namespace ropewalk::formats {
namespace {

constexpr std::size_t kMaxTextBytes = std::size_t{1} << 30;

bool ends_in_bytes(const TokenizerPipeline& pipeline) {
  return !pipeline.pre_tokenizers.empty() &&
         std::holds_alternative<pre_tokenizers::ByteLevel>(pipeline.pre_tokenizers.back());
}

/// A tokenizer.json at work: added tokens are cut out, the rest is normalized, cut again, cut into words, and each word
/// goes through the model.
class PipelineTokenizer final : public Tokenizer {
 public:
  explicit PipelineTokenizer(const Vocabulary& vocabulary)
      : vocabulary_(vocabulary),
        index_(vocabulary_.pieces),
        normalizers_(vocabulary_.pipeline->normalizers),
        raw_tokens_(tokens_to_find(false)),
        normalized_tokens_(tokens_to_find(true)),
        decoders_(vocabulary_.pipeline->decoders, vocabulary_.pipeline->has_decoder) {
    for (std::size_t id = 0; id < vocabulary_.pieces.size(); ++id) {
      const Piece& piece = vocabulary_.pieces[id];
      if (piece.type == PieceType::unused) continue;
      if (!index_.add(static_cast<std::int32_t>(id)))
        throw Error(ErrorKind::bad_input, {}, "piece " + std::to_string(id) + " '" + piece.text + "' is defined twice",
                    "the tokenizer is corrupt: fetch it again");
    }
    model_ = make_word_model(vocabulary_, index_, ends_in_bytes(*vocabulary_.pipeline));
    words_.emplace(vocabulary_.pipeline->pre_tokenizers, model_->takes_bytes());
    texts_.resize(static_cast<std::size_t>(id_count(vocabulary_)));
    for (std::size_t id = 0; id < vocabulary_.pieces.size(); ++id)
      if (vocabulary_.pieces[id].type != PieceType::unused) texts_[id].spelled = &vocabulary_.pieces[id].text;
    std::set<std::string_view> special;
    for (const AddedToken& token : vocabulary_.added)
      if (token.special) special.insert(token.content);
    for (const AddedToken& token : vocabulary_.added) {
      Text& text = texts_[static_cast<std::size_t>(token.id)];
      text.spelled = &token.content;
      if (token.normalized) text.decoded = normalizers_.applied(token.content);
      // By text, as in the library: a special token that is looked for in normalized text is decoded.
      text.special = special.contains(text.decoded.empty() ? std::string_view(token.content) : text.decoded);
    }
  }

  std::vector<std::int32_t> encode(std::string_view text, bool parse_special) const override {
    std::string replaced;
    if (first_invalid_utf8(text) != text.size()) {
      replaced = replace_invalid_utf8(text);
      text = replaced;
    }
    if (text.size() > kMaxTextBytes)
      throw Error(ErrorKind::unsupported, {}, "a text of more than 1 GiB cannot be tokenized at once",
                  "give it in several files");
    Encoding encoding;
    raw_tokens_.split(
        text, parse_special,
        [&](std::string_view plain) { encode_plain(plain, plain.data() == text.data(), parse_special, encoding); },
        [&](const AddedToken& token) { encoding.ids.push_back(token.id); });
    return std::move(encoding.ids);
  }

  std::string decode(std::span<const std::int32_t> ids, bool special) const override {
    std::vector<std::string> tokens;
    for (std::int32_t id : ids) {
      const Text& text = text_of(id);
      if (!text.spelled || (text.special && !special)) continue;
      tokens.push_back(text.decoded.empty() ? *text.spelled : text.decoded);
    }
    return decoders_.decode(std::move(tokens));
  }

  std::string piece(std::int32_t id) const override {
    const Text& text = text_of(id);
    return text.spelled ? *text.spelled : std::string();
  }

  std::int32_t size() const override { return static_cast<std::int32_t>(texts_.size()); }

 private:
  struct Text {
    const std::string* spelled = nullptr;
    std::string decoded;  // what decoders get; empty: as spelled
    bool special = false;
  };
  struct Encoding {
    std::vector<std::int32_t> ids;
    WordCache cache;
    WordScratch scratch;
  };

  /// Added tokens that are looked for in normalized text, or the others.
  std::vector<AddedTokenFinder::Token> tokens_to_find(bool normalized) const {
    std::vector<AddedTokenFinder::Token> out;
    std::set<std::string> seen;
    for (const AddedToken& token : vocabulary_.added) {
      if (token.normalized != normalized) continue;
      const std::string text = normalized ? normalizers_.applied(token.content) : token.content;
      if (text.empty() || !seen.insert(text).second)
        throw Error(ErrorKind::bad_input, {},
                    "the added token '" + token.content + "' " +
                        (text.empty() ? "is empty once it is normalized" : "normalizes to the same text as another"),
                    "the tokenizer is corrupt: fetch it again");
      out.push_back({text, token});
    }
    return out;
  }

  const Text& text_of(std::int32_t id) const {
    if (id < 0 || id >= size())
      throw Error(ErrorKind::bad_input, {},
                  "id " + std::to_string(id) + " is outside the vocabulary of " + std::to_string(size()),
                  "give ids of this tokenizer");
    return texts_[static_cast<std::size_t>(id)];
  }

  void encode_plain(std::string_view text, bool at_start, bool special, Encoding& encoding) const {
    NormalizedText normalized{std::string(text), at_start};
    normalizers_.apply(normalized);
    const std::string_view all = normalized.text;
    normalized_tokens_.split(
        all, special,
        [&](std::string_view plain) {
          Words words{
              std::string(plain),
              {{0, static_cast<std::uint32_t>(plain.size()), normalized.at_start && plain.data() == all.data()}}};
          encode_words(words, encoding);
        },
        [&](const AddedToken& token) { encoding.ids.push_back(token.id); });
  }

  void encode_words(Words& words, Encoding& encoding) const {
    words_->apply(words);
    const std::string_view mark = model_->cut_before();
    for (const Words::Word& word : words.words) {
      std::string_view rest = words.of(word);
      while (!mark.empty()) {  // marks stay together with the word they begin
        std::size_t marks = 0;
        while (rest.substr(marks).starts_with(mark)) marks += mark.size();
        const std::size_t next = rest.find(mark, marks);
        if (next == std::string_view::npos) break;
        encode_word(rest.substr(0, next), encoding);
        rest.remove_prefix(next);
      }
      encode_word(rest, encoding);
    }
  }

  void encode_word(std::string_view word, Encoding& encoding) const {
    if (encoding.cache.copy(word, encoding.ids)) return;
    const std::size_t begin = encoding.ids.size();
    model_->encode(word, encoding.ids, encoding.scratch);
    encoding.cache.keep(word, std::span(encoding.ids).subspan(begin));
  }

  Vocabulary vocabulary_;
  PieceIndex index_;
  Normalizers normalizers_;
  AddedTokenFinder raw_tokens_, normalized_tokens_;
  Decoders decoders_;
  std::unique_ptr<WordModel> model_;
  std::optional<PreTokenizers> words_;
  std::vector<Text> texts_;  // by id
};

}  // namespace

std::unique_ptr<Tokenizer> make_pipeline_tokenizer(const Vocabulary& vocabulary) {
  return std::make_unique<PipelineTokenizer>(vocabulary);
}

}  // namespace ropewalk::formats
