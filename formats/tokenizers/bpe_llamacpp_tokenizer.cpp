#include <array>
#include <cstdlib>
#include <limits>
#include <unordered_map>

#include "formats/tokenizers/byte_level.h"
#include "formats/tokenizers/characters.h"
#include "formats/tokenizers/implementations.h"
#include "formats/tokenizers/llama_cpp_specials.h"
#include "formats/tokenizers/llama_cpp_words.h"
#include "formats/tokenizers/merge_table.h"
#include "formats/tokenizers/word_cache.h"
#include "formats/utf8.h"
#include "lib/error.h"

namespace ropewalk::formats {
namespace {

constexpr std::size_t kMaxTextBytes = std::size_t{1} << 30;

/// Tokens, then the other texts that merges are made of: the engine merges texts, tokens or not.
struct Nodes {
  std::vector<Piece> pieces;
  std::vector<BpeModel::Merge> merges;
};

Nodes nodes_of(const Vocabulary& vocabulary) {
  Nodes out;
  const auto& merges = vocabulary.gguf_bpe->merges;
  out.pieces = llama_cpp_pieces(vocabulary.pieces);
  out.pieces.reserve(vocabulary.pieces.size() + 256 + 3 * merges.size());  // keys below stay where they are
  std::unordered_map<std::string_view, std::int32_t> ids;
  for (std::size_t id = 0; id < out.pieces.size(); ++id)
    if (!ids.emplace(out.pieces[id].text, static_cast<std::int32_t>(id)).second)
      throw Error(ErrorKind::bad_input, {},
                  "token " + std::to_string(id) + " '" + out.pieces[id].text + "' is defined twice",
                  "the tokenizer is corrupt: llama.cpp refuses it too");
  const auto node = [&](std::string text) {
    if (const auto found = ids.find(text); found != ids.end()) return found->second;
    const auto id = static_cast<std::int32_t>(out.pieces.size());
    out.pieces.push_back({std::move(text), 0, PieceType::unused});
    ids.emplace(out.pieces.back().text, id);
    return id;
  };
  for (unsigned byte = 0; byte < 256; ++byte) {
    std::string spelled;
    append_utf8(spelled, kByteCharacters[byte]);
    node(spelled);
  }
  out.merges.reserve(merges.size());
  for (const auto& [left, right] : merges) out.merges.push_back({node(left), node(right), node(left + right)});
  return out;
}

/// llama_decode_text: what GPT-2's alphabet spells, and the engine's own words for a character outside it.
std::string decoded(std::string_view spelled) {
  const std::string text = as_llama_cpp_reads(spelled);
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    const Character next = first_character(std::string_view(text).substr(at));
    if (const auto byte = byte_of_character(next.code)) {
      out += static_cast<char>(*byte);
    } else {
      out += "[UNK_BYTE_0x";
      for (char c : std::string_view(text).substr(at, next.length)) {
        constexpr std::string_view kDigits = "0123456789abcdef";
        out += kDigits[static_cast<unsigned char>(c) >> 4];
        out += kDigits[static_cast<unsigned char>(c) & 15];
      }
      out += std::string(spelled) + "]";
    }
    at += next.length;
  }
  return out;
}

/// Drops each space whose next character, at `at`, is one of those that `stands_alone` tells.
template <class StandsAlone>
std::string without_spaces(const std::string& text, const StandsAlone& stands_alone) {
  std::string out;
  for (std::size_t at = 0; at < text.size(); ++at) {
    if (at > 0 && text[at - 1] == ' ' && stands_alone(std::string_view(text).substr(at))) out.pop_back();
    out += text[at];
  }
  return out;
}

/// llama_detokenize's clean_spaces: " ." " ' " " 's" " 'm" " 're" " 've" lose their spaces.
std::string cleaned(std::string text) {
  text = without_spaces(
      text, [](std::string_view rest) { return rest[0] == '?' || rest[0] == '!' || rest[0] == '.' || rest[0] == ','; });
  std::string out;
  char before = '\0';
  for (std::size_t at = 0; at < text.size(); ++at) {
    const bool alone = before == ' ' && text[at] == '\'' && at + 1 < text.size() && text[at + 1] == ' ';
    if (alone) out.pop_back();
    out += text[at];
    before = alone ? '\0' : text[at];
    at += alone;
  }
  return without_spaces(out, [](std::string_view rest) {
    return rest.starts_with("'s") || rest.starts_with("'m") || rest.starts_with("'re") || rest.starts_with("'ve");
  });
}

/// llama.cpp 0.5's BPE tokenizer, llama_tokenize and llama_detokenize without BOS and EOS.
class LlamaCppBpeTokenizer final : public Tokenizer {
 public:
  LlamaCppBpeTokenizer(const Vocabulary& vocabulary, const LlamaCppPre& pre, Nodes nodes)
      : pre_(pre),
        pieces_(std::move(nodes.pieces)),
        n_tokens_(static_cast<std::int32_t>(vocabulary.pieces.size())),
        add_space_prefix_(vocabulary.add_dummy_prefix),
        index_(pieces_),
        merges_(nodes.merges, EqualMerges::first),
        words_(pre) {
    for (std::size_t id = 0; id < pieces_.size(); ++id) index_.add(static_cast<std::int32_t>(id));
    specials_.emplace(std::span(pieces_).first(vocabulary.pieces.size()), vocabulary.added, index_);
    for (unsigned byte = 0; byte < 256; ++byte) {
      std::string spelled;
      append_utf8(spelled, kByteCharacters[byte]);
      characters_[byte] = index_.find(spelled);
      const char alone = static_cast<char>(byte);
      byte_tokens_[byte] =
          token(pre.spelled_characters ? byte_piece(static_cast<std::uint8_t>(byte)) : std::string(&alone, 1));
    }
  }

  std::vector<std::int32_t> encode(std::string_view text, bool parse_special) const override {
    if (text.size() > kMaxTextBytes)
      throw Error(ErrorKind::unsupported, {}, "a text of more than 1 GiB cannot be tokenized at once",
                  "give it in several files");
    Encoding encoding;
    for (const LlamaCppSpecials::Fragment& fragment : specials_->partition(text, parse_special)) {
      if (fragment.token) encoding.ids.push_back(*fragment.token);
      else encode_text(fragment.text, encoding);
    }
    return std::move(encoding.ids);
  }

  std::string decode(std::span<const std::int32_t> ids, bool special) const override {
    std::string out;
    for (std::size_t index = 0; index < ids.size(); ++index) {
      const std::string text = shown(ids[index], special);
      const bool drop_space = index == 0 && add_space_prefix_ && text.starts_with(' ');
      out += drop_space ? std::string_view(text).substr(1) : text;
    }
    return pre_.clean_spaces ? cleaned(std::move(out)) : out;
  }

  std::string piece(std::int32_t id) const override { return at(id).text; }
  std::int32_t size() const override { return n_tokens_; }

 private:
  struct Encoding {
    std::vector<std::int32_t> ids;
    WordCache cache;
    WordScratch scratch;
  };

  /// -1 if no token has this text.
  std::int32_t token(std::string_view text) const {
    const std::int32_t id = index_.find(text);
    return id < n_tokens_ ? id : -1;
  }

  const Piece& at(std::int32_t id) const {
    if (id < 0 || id >= n_tokens_)
      throw Error(ErrorKind::bad_input, {},
                  "id " + std::to_string(id) + " is not in the vocabulary of " + std::to_string(n_tokens_),
                  "check where the ids come from");
    return pieces_[static_cast<std::size_t>(id)];
  }

  void encode_text(std::string_view fragment, Encoding& encoding) const {
    std::string text =
        first_invalid_utf8(fragment) == fragment.size() ? std::string(fragment) : as_llama_cpp_reads(fragment);
    if (pre_.spelled_characters) replace_all(text, " ", kSpaceMark);
    for (std::string_view word : words_.cut(text)) {
      if (word.empty() || encoding.cache.copy(word, encoding.ids)) continue;
      const std::size_t begin = encoding.ids.size();
      encode_word(word, encoding);
      encoding.cache.keep(word, std::span(encoding.ids).subspan(begin));
    }
  }

  void encode_word(std::string_view word, Encoding& encoding) const {
    WordScratch& scratch = encoding.scratch;
    if (pre_.ignore_merges || (pre_.newlines_whole && word.find_first_not_of('\n') == std::string_view::npos)) {
      scratch.text.clear();
      if (pre_.spelled_characters) scratch.text = word;
      else append_byte_characters(scratch.text, word);
      if (const std::int32_t whole = token(scratch.text); whole >= 0) return encoding.ids.push_back(whole);
    }
    scratch.symbols.clear();
    if (!pre_.spelled_characters) {
      for (char byte : word) add_symbol(scratch, characters_[static_cast<unsigned char>(byte)]);
    } else {
      for (std::size_t at = 0; at < word.size(); at += utf8_length(word[at]))
        add_symbol(scratch, index_.find(word.substr(at, utf8_length(word[at]))));
    }
    merge_symbols(scratch, merges_, true);
    std::size_t at = 0;  // in the word, where pieces are spelled as it is
    for (const auto& symbol : scratch.symbols) {
      if (symbol.merged) continue;
      const std::string_view text = symbol.id >= 0 ? std::string_view(pieces_[static_cast<std::size_t>(symbol.id)].text)
                                                   : word.substr(at, utf8_length(word[at]));
      at += text.size();
      if (symbol.id >= 0 && symbol.id < n_tokens_) {
        encoding.ids.push_back(symbol.id);
        continue;
      }
      for (char byte : text)  // those without a token are dropped
        if (const std::int32_t id = byte_tokens_[static_cast<unsigned char>(byte)]; id >= 0) encoding.ids.push_back(id);
    }
  }

  /// llama_token_to_piece.
  std::string shown(std::int32_t id, bool special) const {
    const Piece& piece = at(id);
    const LlamaCppSpecials::Attributes& attributes = specials_->of(id);
    if (attributes.control) return special ? piece.text : std::string();
    if (attributes.user_defined) return piece.text;
    if (attributes.normal || piece.type == PieceType::normal) {
      if (!pre_.spelled_characters) return decoded(piece.text);
      std::string text = piece.text;
      replace_all(text, kSpaceMark, " ");
      return text;
    }
    if (piece.type == PieceType::byte)
      return std::string(1, static_cast<char>(std::strtol(piece.text.substr(3, 2).c_str(), nullptr, 16)));
    return {};  // unused
  }

  const LlamaCppPre& pre_;
  std::vector<Piece> pieces_;  // tokens, then other nodes
  std::int32_t n_tokens_;
  bool add_space_prefix_;
  PieceIndex index_;
  MergeTable merges_;
  LlamaCppWords words_;
  std::optional<LlamaCppSpecials> specials_;
  std::array<std::int32_t, 256> characters_{};   // nodes of GPT-2's alphabet
  std::array<std::int32_t, 256> byte_tokens_{};  // for what no token spells, -1 if there is none
};

}  // namespace

std::unique_ptr<Tokenizer> make_llama_cpp_bpe_tokenizer(const Vocabulary& vocabulary) {
  const LlamaCppPre* pre = find_llama_cpp_pre(vocabulary.gguf_bpe->pre);
  if (!pre)
    throw Error(ErrorKind::unsupported, {},
                "its pre-tokenizer '" + vocabulary.gguf_bpe->pre + "' is not one of llama.cpp 0.5",
                "pass token ids instead of text");
  for (std::size_t id = 0; id < vocabulary.pieces.size(); ++id)
    if (vocabulary.pieces[id].type == PieceType::byte && vocabulary.pieces[id].text.size() < 3)
      throw Error(ErrorKind::bad_input, {},
                  "the byte token " + std::to_string(id) + " '" + vocabulary.pieces[id].text + "' is not like <0x0A>",
                  "the tokenizer is corrupt: llama.cpp refuses it too");
  return std::make_unique<LlamaCppBpeTokenizer>(vocabulary, *pre, nodes_of(vocabulary));
}

}  // namespace ropewalk::formats
