#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "lib/vocabulary.h"

namespace ropewalk::formats {

/// tokenizer.ggml.tokens, scores and token_type, as convert_hf_to_gguf.py of llama.cpp 0.5 fills them: one of each per
/// row of the embedding. Rows without a token are "[PADn]", of type unused. What was left out is added to the notes.
struct GgufTokens {
  std::vector<std::string> texts;
  std::vector<float> scores;
  std::vector<std::int32_t> types;

  explicit GgufTokens(std::size_t n);
  void put(std::size_t id, std::string text, float score, PieceType type);
};

/// True of what stands in such a row.
bool is_filler(const Piece& piece, std::size_t id);

/// Of a tokenizer.model. compat: user-defined pieces are normal, as the converter has them.
GgufTokens sentencepiece_tokens(const Vocabulary& vocabulary, std::size_t n_vocab, bool compat,
                                std::vector<std::string>& notes);
/// Of a byte-level BPE with a pipeline. Scores are not written for this kind.
GgufTokens bpe_tokens(const Vocabulary& vocabulary, std::size_t n_vocab, std::vector<std::string>& notes);
/// "left right" by rank; a space within a piece is spelled as GPT-2's alphabet spells it.
std::vector<std::string> bpe_merges(const Vocabulary& vocabulary);

/// Of any vocabulary out of a Hugging Face folder, by its kind; Error(unsupported) for one that no GGUF has.
GgufTokens gguf_tokens(const Vocabulary& vocabulary, std::size_t n_vocab, std::vector<std::string>& notes);

/// A tokenizer.json in Llama 2's manner: BPE over characters with spaces as U+2581 and byte pieces, which llama.cpp has as
/// kind `llama`, where a piece's score is its merges' rank. nullopt for any other.
struct LlamaLike {
  bool add_space_prefix = true;
};
std::optional<LlamaLike> llama_like(const Vocabulary& vocabulary);
/// Its tokens. Merging by score gives the ids of merging by rank if all ways to make a piece have neighbouring ranks and
/// every way is listed; a note says where that is not so.
GgufTokens llama_like_tokens(const Vocabulary& vocabulary, std::size_t n_vocab, std::vector<std::string>& notes);

/// A unigram tokenizer.json in the manner of converted SentencePiece models (Precompiled or nothing, spaces that shrink or
/// not, Metaspace), which llama.cpp has as kind `t5`. nullopt for any other.
struct UnigramLike {
  bool add_space_prefix = true, remove_extra_whitespaces = false;
  std::string charsmap;
};
/// What of the steps the engine does otherwise is added to the notes.
std::optional<UnigramLike> unigram_like(const Vocabulary& vocabulary, std::vector<std::string>& notes);
/// Its tokens; scores are rounded to float.
GgufTokens unigram_tokens(const Vocabulary& vocabulary, std::size_t n_vocab, std::vector<std::string>& notes);

}  // namespace ropewalk::formats
