#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

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
  std::int32_t id;
  std::string content;
  bool special = false, lstrip = false, rstrip = false, single_word = false, normalized = false;
};

/// Whose algorithm turns text into ids. The same pieces give different ids in rare cases.
enum class TokenizerRules : std::uint8_t {
  sentencepiece,  // the library, 0.2.3
  llama_cpp,      // llama.cpp 0.5's SPM tokenizer, for a vocabulary read from a GGUF
};

/// What a tokenizer knows, whatever file it came from. Index in `pieces` is the id.
struct Vocabulary {
  std::string model = "spm";  // "spm": SentencePiece BPE by score. (byte-level BPE and unigram: refused until they are read)
  TokenizerRules rules = TokenizerRules::sentencepiece;
  std::vector<Piece> pieces;
  std::vector<AddedToken> added;  // ids may lie past pieces.size()

  // normalizer_spec of the SentencePiece model
  std::string normalizer_name = "identity";
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = false;
  bool escape_whitespaces = true;
  std::string precompiled_charsmap;  // empty: identity

  std::optional<std::int32_t> bos, eos, unk, pad;
  std::optional<bool> add_bos, add_eos;  // as the files say; nullopt if they do not
  std::optional<std::string> chat_template;
};

}  // namespace ropewalk
