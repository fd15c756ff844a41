#include "verify/spelled_vocabulary.h"

#include <algorithm>
#include <tuple>

#include "formats/gguf_token_lists.h"
#include "formats/tokenizers/characters.h"
#include "formats/tokenizers/pre_tokenizer_names.h"

namespace ropewalk::verify {
namespace {

enum class GgufKind { spm, unigram, bpe };

/// Of a GGUF's vocabulary; nullopt for a kind no folder is spelled as.
std::optional<GgufKind> kind_of(const Vocabulary& gguf) {
  if (gguf.gguf_bpe) return GgufKind::bpe;
  if (gguf.model == "spm") return GgufKind::spm;
  if (gguf.model == "unigram") return GgufKind::unigram;
  return std::nullopt;
}

std::optional<formats::GgufTokens> tokens_of(const Vocabulary& v, GgufKind kind, std::size_t size) {
  std::vector<std::string> notes;
  if (v.rules == TokenizerRules::sentencepiece && kind != GgufKind::bpe)
    return formats::sentencepiece_tokens(v, size, false, notes);
  if (!v.pipeline) return std::nullopt;
  if (kind == GgufKind::spm && formats::llama_like(v)) return formats::llama_like_tokens(v, size, notes);
  if (kind == GgufKind::unigram && v.model == "unigram") return formats::unigram_tokens(v, size, notes);
  if (kind == GgufKind::bpe && v.model == "bpe") return formats::bpe_tokens(v, size, notes);
  return std::nullopt;
}

/// A folder's vocabulary as a GGUF of that kind has it: padded to `size` rows, added tokens as they are shown, spaces in
/// merges spelled. As it is if it cannot stand there.
Vocabulary spelled_in_gguf(const Vocabulary& source, GgufKind kind, std::size_t size) {
  std::optional<formats::GgufTokens> tokens = tokens_of(source, kind, size);
  if (!tokens) return source;
  Vocabulary out;
  out.model = source.model;
  out.rules = source.rules;
  for (std::size_t id = 0; id < tokens->texts.size(); ++id)
    out.pieces.push_back({std::move(tokens->texts[id]), kind == GgufKind::bpe ? 0 : tokens->scores[id],
                          static_cast<PieceType>(tokens->types[id])});
  std::tie(out.bos, out.eos, out.unk, out.pad) = std::tie(source.bos, source.eos, source.unk, source.pad);
  std::tie(out.add_bos, out.add_eos) = std::tie(source.add_bos, source.add_eos);
  out.chat_templates = source.chat_templates;
  if (kind == GgufKind::unigram && source.pipeline) out.unk = std::get<UnigramModel>(source.pipeline->model).unk_id;
  if (kind != GgufKind::bpe) return out;
  GgufBpe& bpe = out.gguf_bpe.emplace();
  bpe.pre = formats::pre_tokenizer_name(source).value_or(kUnknownPre);
  for (const std::string& merge : formats::bpe_merges(source)) {
    const std::size_t space = merge.find(' ');
    bpe.merges.emplace_back(merge.substr(0, space), merge.substr(space + 1));
  }
  return out;
}

/// llama.cpp's converter makes user-defined pieces of a tokenizer.model normal ones; it does so with all or none.
/// `expected` follows a GGUF that has none.
void follow_converter(Vocabulary& expected, const Vocabulary& gguf) {
  constexpr float kAdded = -1000;  // the score of an added token, which stays what it is
  const auto of_model = [&](const Piece& piece) {
    return piece.type == PieceType::user_defined && piece.score != kAdded;
  };
  for (std::size_t id = 0; id < std::min(expected.pieces.size(), gguf.pieces.size()); ++id)
    if (of_model(expected.pieces[id]) && gguf.pieces[id].type != PieceType::normal) return;
  for (Piece& piece : expected.pieces)
    if (of_model(piece)) {
      piece.type = PieceType::normal;
      formats::replace_all(piece.text, " ", formats::kSpaceMark);
    }
}

bool in_gguf(const Vocabulary& vocabulary) { return vocabulary.rules == TokenizerRules::llama_cpp; }

}  // namespace

std::vector<IdMeaning> id_meanings(const Vocabulary& vocabulary) {
  std::vector<IdMeaning> out;
  for (const Piece& piece : vocabulary.pieces) out.push_back({piece.text, piece.type});
  for (const AddedToken& token : vocabulary.added) {
    if (token.id < 0) continue;
    const auto id = static_cast<std::size_t>(token.id);
    if (id >= out.size()) out.resize(id + 1);
    if (in_gguf(vocabulary)) continue;  // says how a piece takes the spaces beside it
    out[id] = {token.content, token.special ? PieceType::control : PieceType::user_defined};
  }
  return out;
}

Vocabulary as_pieces(const Vocabulary& vocabulary) {
  Vocabulary out = vocabulary;
  const std::vector<IdMeaning> meanings = id_meanings(vocabulary);
  out.pieces.resize(meanings.size());
  for (std::size_t id = 0; id < meanings.size(); ++id)
    out.pieces[id].text = meanings[id].text, out.pieces[id].type = meanings[id].type;
  out.added.clear();
  return out;
}

InOneForm in_one_form(const Vocabulary& source, const Vocabulary& candidate) {
  InOneForm out{source, candidate};
  const bool two_files = source.rules != candidate.rules && !in_gguf(source) && !in_gguf(candidate) &&
                         (source.pipeline || candidate.pipeline);
  if (in_gguf(source) == in_gguf(candidate) && !two_files) return out;
  const auto kind = kind_of(in_gguf(candidate)                                 ? candidate
                            : in_gguf(source)                                  ? source
                            : candidate.rules == TokenizerRules::sentencepiece ? candidate
                                                                               : source);
  if (!kind) return out;
  const std::size_t size = static_cast<std::size_t>(std::max({std::int64_t{0}, id_count(source), id_count(candidate)}));
  const auto spell = [&](Vocabulary& v, const Vocabulary& other, InOneForm::Ranked which) {
    if (in_gguf(v)) return;
    const bool ranked = *kind == GgufKind::spm && v.pipeline && formats::llama_like(v);
    const bool from_model = v.rules == TokenizerRules::sentencepiece;
    v = spelled_in_gguf(v, *kind, size);
    if (ranked) out.ranked = which;
    if (from_model && in_gguf(other)) follow_converter(v, other);
  };
  spell(out.source, candidate, InOneForm::Ranked::source);
  spell(out.candidate, source, InOneForm::Ranked::candidate);
  return out;
}

std::optional<Vocabulary> as_in_gguf(const Vocabulary& source, std::size_t n_vocab) {
  if (in_gguf(source)) return std::nullopt;
  const std::size_t size = std::max(static_cast<std::size_t>(id_count(source)), n_vocab);
  const bool unigram = source.model == "unigram";
  if (!source.pipeline) return spelled_in_gguf(source, unigram ? GgufKind::unigram : GgufKind::spm, size);
  if (formats::llama_like(source)) return spelled_in_gguf(source, GgufKind::spm, size);
  if (unigram) return spelled_in_gguf(source, GgufKind::unigram, size);
  if (source.model == "bpe") return spelled_in_gguf(source, GgufKind::bpe, size);
  return std::nullopt;
}

}  // namespace ropewalk::verify
