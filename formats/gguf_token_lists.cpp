#include "formats/gguf_token_lists.h"

#include <algorithm>
#include <cstdint>
#include <optional>

#include "formats/tokenizers/bpe_merges.h"
#include "formats/tokenizers/characters.h"
#include "formats/tokenizers/decoders.h"
#include "formats/tokenizers/tokenizer.h"
#include "lib/error.h"
#include "lib/plural.h"

namespace ropewalk::formats {
namespace {

bool looks_special(std::string_view text) {
  for (const char* known : {"<pad>", "<mask>", "<2mass>", "[@BOS@]"})
    if (text == known) return true;
  constexpr std::string_view kWideBar = "\xEF\xBD\x9C";  // U+FF5C
  const auto framed = [&](const std::string& begin, const std::string& end) {
    return text.starts_with(begin) && text.ends_with(end);
  };
  return framed("<|", "|>") || framed("<" + std::string(kWideBar), std::string(kWideBar) + ">") ||
         framed("<unused", ">");
}

std::string filler(std::size_t id) { return "[PAD" + std::to_string(id) + "]"; }

std::string with_spaces(std::string text) {
  replace_all(text, kSpaceMark, " ");
  return text;
}

void note_left_out(std::size_t past, std::size_t n_vocab, std::vector<std::string>& notes) {
  if (past > 0)
    notes.push_back(plural(past, "token") + " past the embedding's " + std::to_string(n_vocab) +
                    (past == 1 ? " rows is left out" : " rows are left out"));
}

PieceType type_of(const AddedToken& token) { return token.special ? PieceType::control : PieceType::user_defined; }

/// What a list says of a piece or an added token beside its text.
struct Listed {
  float score;
  PieceType type;
};
/// Pieces but the unused, then added tokens, those that are matched in the text with real spaces. `of_piece` (id, piece)
/// returns Listed, `of_added` (token) one or nullopt for a token that keeps what the pieces say of it.
template <class OfPiece, class OfAdded>
GgufTokens listed(const Vocabulary& vocabulary, std::size_t n_vocab, std::vector<std::string>& notes, OfPiece of_piece,
                  OfAdded of_added) {
  GgufTokens out(n_vocab);
  std::size_t past = 0;
  for (std::size_t id = 0; id < vocabulary.pieces.size(); ++id) {
    const Piece& piece = vocabulary.pieces[id];
    if (piece.type == PieceType::unused) continue;
    if (id >= n_vocab) {
      ++past;
      continue;
    }
    const Listed says = of_piece(id, piece);
    out.put(id, piece.text, says.score, says.type);
  }
  for (const AddedToken& token : vocabulary.added) {
    const auto id = static_cast<std::size_t>(token.id);
    if (id >= n_vocab) {
      past += id >= vocabulary.pieces.size();
      continue;
    }
    if (const std::optional<Listed> says = of_added(token))
      out.put(id, says->type == PieceType::user_defined ? with_spaces(token.content) : token.content, says->score,
              says->type);
  }
  note_left_out(past, n_vocab, notes);
  return out;
}

}  // namespace

GgufTokens::GgufTokens(std::size_t n)
    : texts(n), scores(n, -10000.0f), types(n, static_cast<std::int32_t>(PieceType::unused)) {
  for (std::size_t id = 0; id < n; ++id) texts[id] = filler(id);
}

bool is_filler(const Piece& piece, std::size_t id) {
  return piece.type == PieceType::unused && piece.text == filler(id);
}

void GgufTokens::put(std::size_t id, std::string text, float score, PieceType type) {
  texts[id] = std::move(text);
  scores[id] = score;
  types[id] = static_cast<std::int32_t>(type);
}

GgufTokens sentencepiece_tokens(const Vocabulary& vocabulary, std::size_t n_vocab, bool compat,
                                std::vector<std::string>& notes) {
  GgufTokens out(n_vocab);
  for (std::size_t id = 0; id < std::min(vocabulary.pieces.size(), n_vocab); ++id) {
    const Piece& piece = vocabulary.pieces[id];
    if (piece.type != PieceType::user_defined) out.put(id, piece.text, piece.score, piece.type);
    else if (compat) out.put(id, piece.text, piece.score, PieceType::normal);
    else
      // llama.cpp matches these in the text as it stands
      out.put(id, with_spaces(piece.text), piece.score, PieceType::user_defined);
  }
  std::size_t past = vocabulary.pieces.size() > n_vocab ? vocabulary.pieces.size() - n_vocab : 0;
  for (const AddedToken& token : vocabulary.added) {
    const auto id = static_cast<std::size_t>(token.id);
    if (token.id < 0 || id >= n_vocab) {
      ++past;
    } else if (!token.in_decoder) {
      out.put(id, token.content, -1000.0f, PieceType::user_defined);
    } else if (token.special || looks_special(token.content)) {
      out.put(id, token.content, -1000.0f, PieceType::control);
    } else {
      out.put(id, with_spaces(token.content), -1000.0f, PieceType::user_defined);
    }
  }
  note_left_out(past, n_vocab, notes);
  if (vocabulary.model == "spm" && vocabulary.normalizer_name != "identity" && !vocabulary.precompiled_charsmap.empty())
    notes.push_back("the tokenizer normalises text by '" + vocabulary.normalizer_name +
                    "', which llama.cpp does not do for this kind: unusual characters get other ids");
  return out;
}

GgufTokens bpe_tokens(const Vocabulary& vocabulary, std::size_t n_vocab, std::vector<std::string>& notes) {
  GgufTokens out(n_vocab);
  std::size_t past = 0;
  for (std::size_t id = 0; id < vocabulary.pieces.size(); ++id) {
    if (vocabulary.pieces[id].type == PieceType::unused) continue;
    if (id < n_vocab) out.put(id, vocabulary.pieces[id].text, 0, PieceType::normal);
    else ++past;
  }
  const Decoders decoders(vocabulary.pipeline->decoders, vocabulary.pipeline->has_decoder);
  for (const AddedToken& token : vocabulary.added) {
    const auto id = static_cast<std::size_t>(token.id);
    if (id >= n_vocab) {
      past += id >= vocabulary.pieces.size();
      continue;
    }
    // The engine looks for these in the text as it stands, so they are what decoding shows.
    std::string text = token.normalized ? token.content : decoders.decode({token.content});
    if (token.special || looks_special(text)) out.put(id, std::move(text), 0, PieceType::control);
    else out.put(id, with_spaces(std::move(text)), 0, PieceType::user_defined);
  }
  note_left_out(past, n_vocab, notes);
  return out;
}

std::vector<std::string> bpe_merges(const Vocabulary& vocabulary) {
  const auto spelled = [&](std::int32_t id) {
    std::string text = vocabulary.pieces[static_cast<std::size_t>(id)].text;
    replace_all(text, " ", "\xC4\xA0");  // U+0120
    return text;
  };
  std::vector<std::string> out;
  for (const BpeModel::Merge& merge : std::get<BpeModel>(vocabulary.pipeline->model).merges)
    out.push_back(spelled(merge.left) + " " + spelled(merge.right));
  return out;
}

std::optional<LlamaLike> llama_like(const Vocabulary& vocabulary) {
  if (!vocabulary.pipeline) return std::nullopt;
  const TokenizerPipeline& pipeline = *vocabulary.pipeline;
  const auto* model = std::get_if<BpeModel>(&pipeline.model);
  if (!model || !model->byte_fallback || model->ignore_merges || model->continuing_subword_prefix ||
      model->end_of_word_suffix)
    return std::nullopt;
  const auto& steps = pipeline.normalizers;
  if (steps.empty()) {
    const auto* spaces = pipeline.pre_tokenizers.size() == 1
                             ? std::get_if<pre_tokenizers::Metaspace>(&pipeline.pre_tokenizers[0])
                             : nullptr;
    if (!spaces || spaces->replacement != kSpaceMark) return std::nullopt;
    return LlamaLike{spaces->prepend != pre_tokenizers::PrependScheme::never};
  }
  const auto* prefix = std::get_if<normalizers::Prepend>(&steps[0]);
  const auto* spaces = std::get_if<normalizers::Replace>(&steps.back());
  const bool known = steps.size() == (prefix ? 2u : 1u) && pipeline.pre_tokenizers.empty() &&
                     (!prefix || prefix->text == kSpaceMark) && spaces && !spaces->pattern.is_regex &&
                     spaces->pattern.text == " " && spaces->content == kSpaceMark;
  return known ? std::optional(LlamaLike{prefix != nullptr}) : std::nullopt;
}

namespace {

/// Smallest and largest rank of the merges that make each piece; no merge: begin > end.
struct Ranks {
  std::size_t begin = SIZE_MAX, end = 0, ways = 0;
};

/// Ways to cut a piece in two that are both pieces.
std::size_t ways_to_cut(std::string_view text, const PieceIds& ids) {
  std::size_t ways = 0;
  for (std::size_t at = first_character(text).length; at < text.size(); at += first_character(text.substr(at)).length)
    ways += ids.contains(text.substr(0, at)) && ids.contains(text.substr(at));
  return ways;
}

/// Pieces that merging by score makes otherwise than merging by rank.
std::size_t made_otherwise(const Vocabulary& vocabulary, const std::vector<Ranks>& ranks) {
  const PieceIds ids = ids_of_pieces(vocabulary);
  std::size_t count = 0;
  std::vector<Ranks> made;
  for (std::size_t id = 0; id < ranks.size(); ++id) {
    const Piece& piece = vocabulary.pieces[id];
    if (piece.type != PieceType::normal || byte_of_piece(piece.text)) continue;
    count += ranks[id].ways < ways_to_cut(piece.text, ids);
    if (ranks[id].ways > 0) made.push_back(ranks[id]);
  }
  std::sort(made.begin(), made.end(), [](const Ranks& a, const Ranks& b) { return a.begin < b.begin; });
  for (std::size_t at = 1; at < made.size(); ++at) count += made[at].begin < made[at - 1].end;
  return count;
}

}  // namespace

GgufTokens llama_like_tokens(const Vocabulary& vocabulary, std::size_t n_vocab, std::vector<std::string>& notes) {
  const auto& model = std::get<BpeModel>(vocabulary.pipeline->model);
  std::vector<Ranks> ranks(vocabulary.pieces.size());
  for (std::size_t rank = 0; rank < model.merges.size(); ++rank) {
    Ranks& of = ranks[static_cast<std::size_t>(model.merges[rank].result)];
    of.begin = std::min(of.begin, rank);
    of.end = rank;
    ++of.ways;
  }
  if (const std::size_t count = made_otherwise(vocabulary, ranks); count > 0)
    notes.push_back(plural(count, "piece") + (count == 1 ? " is" : " are") +
                    " merged otherwise than by scores, which is all that llama.cpp has for this kind: some texts get "
                    "other ids");
  return listed(
      vocabulary, n_vocab, notes,
      [&](std::size_t id, const Piece& piece) {
        return Listed{ranks[id].ways > 0 ? -static_cast<float>(ranks[id].begin) - 1 : 0,
                      byte_of_piece(piece.text) ? PieceType::byte : PieceType::normal};
      },
      [&](const AddedToken& token) {
        return std::optional(Listed{0, token.content == model.unk_token ? PieceType::unknown : type_of(token)});
      });
}

std::optional<UnigramLike> unigram_like(const Vocabulary& vocabulary, std::vector<std::string>& notes) {
  if (!vocabulary.pipeline || !std::holds_alternative<UnigramModel>(vocabulary.pipeline->model)) return std::nullopt;
  const TokenizerPipeline& pipeline = *vocabulary.pipeline;
  UnigramLike out;
  bool shrinks = false, strips_end = false, at_spaces = false;
  for (std::size_t at = 0; at < pipeline.normalizers.size(); ++at) {
    const auto& step = pipeline.normalizers[at];
    const auto* replace = std::get_if<normalizers::Replace>(&step);
    if (const auto* table = std::get_if<normalizers::Precompiled>(&step); table && at == 0) {
      out.charsmap = table->charsmap;
    } else if (const auto* strip = std::get_if<normalizers::Strip>(&step)) {
      strips_end = strips_end || strip->right;
    } else if (replace && replace->pattern.is_regex && replace->pattern.text == " {2,}" &&
               (replace->content == " " || replace->content == kSpaceMark)) {
      shrinks = true;
    } else {
      return std::nullopt;
    }
  }
  auto words = pipeline.pre_tokenizers.begin();
  if (words != pipeline.pre_tokenizers.end() && std::holds_alternative<pre_tokenizers::WhitespaceSplit>(*words)) {
    at_spaces = true;
    ++words;
  }
  if (pipeline.pre_tokenizers.end() - words != 1) return std::nullopt;
  const auto* spaces = std::get_if<pre_tokenizers::Metaspace>(&*words);
  if (!spaces || spaces->replacement != kSpaceMark) return std::nullopt;
  out.add_space_prefix = spaces->prepend != pre_tokenizers::PrependScheme::never;
  // The engine puts a space before every word if it removes any.
  out.remove_extra_whitespaces = (shrinks || at_spaces) && out.add_space_prefix;
  if (at_spaces && !out.add_space_prefix) return std::nullopt;
  if (shrinks && !out.add_space_prefix)
    notes.emplace_back("llama.cpp keeps spaces that follow one another, which the tokenizer makes one");
  else if (shrinks && !strips_end && !at_spaces)
    notes.emplace_back("llama.cpp drops spaces at the end of a text, which the tokenizer keeps");
  else if (!shrinks && !at_spaces && out.add_space_prefix)
    notes.emplace_back("llama.cpp puts a space before a text that begins with one, which the tokenizer does not");
  return out;
}

GgufTokens unigram_tokens(const Vocabulary& vocabulary, std::size_t n_vocab, std::vector<std::string>& notes) {
  const auto& model = std::get<UnigramModel>(vocabulary.pipeline->model);
  GgufTokens out = listed(
      vocabulary, n_vocab, notes,
      [&](std::size_t id, const Piece& piece) {
        return Listed{static_cast<float>(model.scores[id]),
                      model.unk_id == static_cast<std::int32_t>(id)      ? PieceType::unknown
                      : model.byte_fallback && byte_of_piece(piece.text) ? PieceType::byte
                                                                         : PieceType::normal};
      },
      [&](const AddedToken& token) -> std::optional<Listed> {
        if (model.unk_id == token.id) return std::nullopt;
        const auto id = static_cast<std::size_t>(token.id);
        return Listed{id < vocabulary.pieces.size() ? static_cast<float>(model.scores[id]) : -1000.0f, type_of(token)};
      });
  if (model.byte_fallback)
    notes.emplace_back(
        "llama.cpp has no byte pieces for this kind of tokenizer: a character that is no piece becomes the unknown "
        "token");
  return out;
}

GgufTokens gguf_tokens(const Vocabulary& vocabulary, std::size_t n_vocab, std::vector<std::string>& notes) {
  if (!vocabulary.pipeline) return sentencepiece_tokens(vocabulary, n_vocab, false, notes);
  if (llama_like(vocabulary)) return llama_like_tokens(vocabulary, n_vocab, notes);
  if (std::holds_alternative<UnigramModel>(vocabulary.pipeline->model))
    return unigram_tokens(vocabulary, n_vocab, notes);
  if (std::holds_alternative<BpeModel>(vocabulary.pipeline->model)) return bpe_tokens(vocabulary, n_vocab, notes);
  throw Error(ErrorKind::unsupported, {}, "its tokenizer is of kind " + vocabulary.model + ", which is in no GGUF",
              "name a folder with another tokenizer: --tokenizer DIR");
}

}  // namespace ropewalk::formats
