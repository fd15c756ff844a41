#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "lib/tokenizer_pipeline.h"

namespace ropewalk {

/// Kinds of pieces; the values are those of SentencePiece's ModelProto and of tokenizer.ggml.token_type.
enum class PieceType : std::uint8_t { normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6 };

struct Piece {
  std::string text;  // SentencePiece spelling: U+2581 for a space, "<0x0A>" for a byte
  float score = 0;
  PieceType type = PieceType::normal;
};

/// A token added on top of the model (added_tokens.json, tokenizer_config.json's added_tokens_decoder).
struct AddedToken {
  std::int32_t id = 0;
  std::string content;
  bool special = false, lstrip = false, rstrip = false, single_word = false, normalized = false;
  bool in_decoder =
      false;  // stands in added_tokens_decoder; false: in added_tokens.json alone, where flags are unknown
};

/// A chat template and its name; a single one is called "default".
struct ChatTemplate {
  std::string name, text;
};

/// Whose algorithm turns text into ids. The same pieces give different ids in rare cases.
enum class TokenizerRules : std::uint8_t {
  sentencepiece,  // the library, 0.2.3
  llama_cpp,      // llama.cpp 0.5's SPM or BPE tokenizer, for a vocabulary read from a GGUF
  tokenizers,     // the tokenizers library, 0.23.3, for a vocabulary with a pipeline
};

/// What llama.cpp's BPE tokenizer takes beside the pieces: tokenizer.ggml.pre and tokenizer.ggml.merges of a GGUF.
struct GgufBpe {
  std::string pre;
  std::vector<std::pair<std::string, std::string>> merges;  // left and right, by rank; they need not be pieces
};

/// What a tokenizer knows, whatever file it came from. Index in `pieces` is the id.
struct Vocabulary {
  // "spm": SentencePiece BPE by score; "unigram" beside it; of a tokenizer.json "bpe", "unigram", "wordpiece" or
  // "wordlevel"; of a GGUF "spm", "bpe" or "unigram"
  std::string model = "spm";
  TokenizerRules rules = TokenizerRules::sentencepiece;
  std::vector<Piece> pieces;
  // by id, which may lie past pieces.size(). rules llama_cpp: attributes of pieces, same id and text
  std::vector<AddedToken> added;

  // normalizer_spec of the SentencePiece model
  std::string normalizer_name = "identity";
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = false;
  bool escape_whitespaces = true;
  bool whitespace_as_suffix = false;           // the dummy prefix goes to the end (trainer_spec)
  std::string precompiled_charsmap;            // empty: identity
  bool byte_fallback = false;                  // unknown characters become byte pieces
  std::string unk_surface = " \xE2\x81\x87 ";  // what decode shows for the unknown piece

  std::optional<TokenizerPipeline> pipeline;  // rules tokenizers: what tokenizer.json says beside pieces
  std::optional<GgufBpe> gguf_bpe;            // rules llama_cpp, model "bpe"

  std::optional<std::int32_t> bos, eos, unk, pad;
  std::optional<bool> add_bos, add_eos;      // as the files say; nullopt if they do not
  std::optional<bool> legacy;                // tokenizer_config.json: false drops the dummy prefix after an added token
  std::optional<bool> add_prefix_space;      // tokenizer_config.json, as it stands there
  std::optional<std::string> chat_template;  // the one named "default", or the only one
  std::vector<ChatTemplate> chat_templates;  // all of them, in file order
};

/// One past the largest id.
inline std::int64_t id_count(const Vocabulary& vocabulary) {
  auto count = static_cast<std::int64_t>(vocabulary.pieces.size());
  for (const AddedToken& token : vocabulary.added) count = std::max(count, std::int64_t{token.id} + 1);
  return count;
}

}  // namespace ropewalk
