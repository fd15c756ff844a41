#include <algorithm>
#include <array>
#include <limits>
#include <optional>

#include "formats/tokenizers/characters.h"
#include "formats/tokenizers/implementations.h"
#include "formats/tokenizers/word_encoder.h"
#include "formats/utf8.h"
#include "lib/error.h"

namespace ropewalk::formats {
namespace {

/// llama.cpp 0.5's SPM tokenizer, llama_tokenize and llama_detokenize without BOS and EOS.
class LlamaCppTokenizer final : public Tokenizer {
 public:
  explicit LlamaCppTokenizer(const Vocabulary& vocabulary);

  std::vector<std::int32_t> encode(std::string_view text, bool parse_special) const override;
  std::string decode(std::span<const std::int32_t> ids) const override;
  std::string piece(std::int32_t id) const override { return at(id).text; }
  std::int32_t size() const override { return static_cast<std::int32_t>(pieces_.size()); }

 private:
  struct Attributes {
    bool control = false,
         user_defined = false;  // control: hidden unless special tokens are wanted. A token can be both
    bool lstrip = false, rstrip = false;
  };
  struct Fragment {
    std::string_view text;
    std::optional<std::int32_t> token;
  };
  void read_attributes(const Vocabulary& vocabulary);
  std::vector<Fragment> partition(std::string_view text, bool parse_special) const;
  void split(std::string_view text, std::int32_t id, std::vector<Fragment>& out) const;
  void encode_text(std::string_view text, std::vector<std::int32_t>& ids) const;
  const Piece& at(std::int32_t id) const;
  std::string shown(std::int32_t id) const;
  std::optional<std::int32_t> byte_id(std::uint8_t byte) const;

  std::vector<Piece> pieces_;
  std::vector<Attributes> attributes_;  // [pieces]
  std::vector<std::int32_t> special_;   // longest text first
  std::array<std::int32_t, 256> byte_ids_{};
  bool add_space_prefix_;
  PieceIndex index_;
  std::optional<PieceMerger> merger_;
};

/// llama.cpp gives every token a text of its own, and aborts on two of the same.
std::vector<Piece> named_pieces(std::vector<Piece> pieces) {
  for (std::size_t id = 0; id < pieces.size(); ++id)
    if (pieces[id].text.empty()) pieces[id].text = "[EMPTY_" + std::to_string(id) + "]";
  return pieces;
}

LlamaCppTokenizer::LlamaCppTokenizer(const Vocabulary& vocabulary)
    : pieces_(named_pieces(vocabulary.pieces)),
      attributes_(pieces_.size()),
      add_space_prefix_(vocabulary.add_dummy_prefix),
      index_(pieces_) {
  for (std::int32_t id = 0; id < size(); ++id)
    if (!index_.add(id))
      throw Error(ErrorKind::bad_input, {}, "token " + std::to_string(id) + " '" + at(id).text + "' is defined twice",
                  "the tokenizer is corrupt: llama.cpp refuses it too");
  merger_.emplace(
      index_, pieces_, [](const Piece&) { return true; }, true);  // types do not matter to merges
  read_attributes(vocabulary);
  for (int byte = 0; byte < 256; ++byte)
    byte_ids_[static_cast<std::size_t>(byte)] = byte_id(static_cast<std::uint8_t>(byte)).value_or(-1);
}

/// The engine overrides types by text: tokens that look like an end of turn or fill-in-the-middle marker become control
/// tokens.
bool looks_like_control(std::string_view text) {
  static constexpr std::string_view kEnd[] = {"<|eot_id|>",
                                              "<|im_end|>",
                                              "<|end|>",
                                              "<|return|>",
                                              "<|call|>",
                                              "<|flush|>",
                                              "<|calls|>",
                                              "<end_of_turn>",
                                              "<|endoftext|>",
                                              "</s>",
                                              "<|eom_id|>",
                                              "<EOT>",
                                              "_<EOT>",
                                              "[EOT]",
                                              "[EOS]",
                                              "<|end_of_text|>",
                                              "<end_of_utterance>",
                                              "<eos>",
                                              "<turn|>",
                                              "<|tool_response>",
                                              "<\uFF5Cend\u2581of\u2581sentence\uFF5C>",
                                              "[e~["};
  return std::find(std::begin(kEnd), std::end(kEnd), text) != std::end(kEnd);
}

void LlamaCppTokenizer::read_attributes(const Vocabulary& vocabulary) {
  // Of each group of markers only the first one met becomes one; which that is depends on the engine's hash order if
  // there are several.
  static constexpr std::array<std::array<std::string_view, 8>, 5> kFillIn = {{
      {"<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<\uFF5Cfim\u2581begin\uFF5C>", "<PRE>", "\u2581<PRE>",
       "<|code_prefix|>", "<|prefix|>"},
      {"<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<\uFF5Cfim\u2581hole\uFF5C>", "<SUF>", "\u2581<SUF>",
       "<|code_suffix|>", "<|suffix|>"},
      {"<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<\uFF5Cfim\u2581end\uFF5C>", "<MID>", "\u2581<MID>",
       "<|code_middle|>", "<|middle|>"},
      {"<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]", {}, {}, {}},
      {"<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>", {}, {}, {}},
  }};
  for (std::int32_t id = 0; id < size(); ++id) {
    Attributes& attributes = attributes_[static_cast<std::size_t>(id)];
    const PieceType type = at(id).type;
    attributes.control = type == PieceType::control || type == PieceType::unknown || looks_like_control(at(id).text) ||
                         at(id).text == "<|file_sep|>";
    attributes.user_defined = type == PieceType::user_defined;
  }
  for (const auto& group : kFillIn)
    for (std::string_view text : group)
      if (const std::int32_t id = text.empty() ? -1 : index_.find(text); id >= 0) {
        attributes_[static_cast<std::size_t>(id)].control = true;
        break;
      }
  for (std::string_view text : {"<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"})
    if (const std::int32_t id = index_.find(text); id >= 0)
      attributes_[static_cast<std::size_t>(id)] = {.user_defined = true};
  for (const AddedToken& token : vocabulary.added) {
    if (token.id < 0 || token.id >= size()) continue;
    attributes_[static_cast<std::size_t>(token.id)].lstrip = token.lstrip;
    attributes_[static_cast<std::size_t>(token.id)].rstrip = token.rstrip;
  }
  for (std::int32_t id = 0; id < size(); ++id)
    if (const Attributes& attributes = attributes_[static_cast<std::size_t>(id)];
        attributes.control || attributes.user_defined)
      special_.push_back(id);
  // Not stable_sort: the engine's std::sort decides between tokens of one length, which matters where two of them
  // overlap.
  std::sort(special_.begin(), special_.end(),
            [this](std::int32_t a, std::int32_t b) { return at(a).text.size() > at(b).text.size(); });
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

/// Replaces the token's occurrences in `text`, from the left, by the token.
void LlamaCppTokenizer::split(std::string_view text, std::int32_t id, std::vector<Fragment>& out) const {
  const std::string& token = at(id).text;
  const Attributes& attributes = attributes_[static_cast<std::size_t>(id)];
  while (true) {
    const std::size_t hit = text.find(token);
    if (hit == std::string_view::npos) {
      out.push_back({text, std::nullopt});
      return;
    }
    std::string_view left = text.substr(0, hit);
    while (attributes.lstrip && !left.empty() && is_space_byte(left.back())) left.remove_suffix(1);
    if (!left.empty()) out.push_back({left, std::nullopt});
    out.push_back({{}, id});
    text.remove_prefix(hit + token.size());
    while (attributes.rstrip && !text.empty() && is_space_byte(text.front())) text.remove_prefix(1);
    if (text.empty()) return;
  }
}

std::vector<LlamaCppTokenizer::Fragment> LlamaCppTokenizer::partition(std::string_view text, bool parse_special) const {
  std::vector<Fragment> fragments;
  if (!text.empty()) fragments.push_back({text, std::nullopt});
  for (std::int32_t id : special_) {
    if (!parse_special && attributes_[static_cast<std::size_t>(id)].control) continue;
    std::vector<Fragment> next;
    for (const Fragment& fragment : fragments) {
      if (fragment.token) {
        next.push_back(fragment);
      } else {
        split(fragment.text, id, next);
      }
    }
    fragments = std::move(next);
  }
  return fragments;
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
  for (const Fragment& fragment : partition(text, parse_special)) {
    if (fragment.token) {
      ids.push_back(*fragment.token);
    } else {
      std::string escaped = (add_space_prefix_ && after_special ? " " : "") + std::string(fragment.text);
      replace_all(escaped, " ", kSpaceMark);
      encode_text(escaped, ids);
    }
    after_special = fragment.token.has_value();
  }
  return ids;
}

/// llama_token_to_piece with special = false.
std::string LlamaCppTokenizer::shown(std::int32_t id) const {
  const Piece& piece = at(id);
  const Attributes& attributes = attributes_[static_cast<std::size_t>(id)];
  if (attributes.control) return {};
  if (attributes.user_defined) return piece.text;
  if (piece.type == PieceType::normal) {
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

std::string LlamaCppTokenizer::decode(std::span<const std::int32_t> ids) const {
  std::string out;
  for (std::size_t index = 0; index < ids.size(); ++index) {
    const std::string text = shown(ids[index]);
    const bool drop_space = index == 0 && add_space_prefix_ && text.starts_with(' ');
    out += drop_space ? std::string_view(text).substr(1) : text;
  }
  return out;
}

}  // namespace

std::unique_ptr<Tokenizer> make_llama_cpp_tokenizer(const Vocabulary& vocabulary) {
  return std::make_unique<LlamaCppTokenizer>(vocabulary);
}

void set_llama_cpp_attributes(Vocabulary& vocabulary, std::string_view general_name) {
  std::string name(general_name);
  std::transform(name.begin(), name.end(), name.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  if (name.find("phi-3") == std::string::npos && name.find("phi3") == std::string::npos) return;
  for (std::size_t id = 0; id < vocabulary.pieces.size(); ++id) {
    const Piece& piece = vocabulary.pieces[id];
    const bool special = piece.type == PieceType::control || piece.type == PieceType::unknown ||
                         piece.type == PieceType::user_defined || looks_like_control(piece.text);
    if (!special || piece.text == "<unk>" || piece.text == "<s>" || piece.text == "<|endoftext|>") continue;
    vocabulary.added.push_back({.id = static_cast<std::int32_t>(id), .content = piece.text, .rstrip = true});
  }
}

}  // namespace ropewalk::formats
