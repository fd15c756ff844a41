#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lib/vocabulary.h"

namespace ropewalk::formats {

/// tokenizer.model: SentencePiece's ModelProto (sentencepiece_model.proto, 0.2.3) in protobuf's wire format, read
/// without protobuf.
///
///   1 pieces* { 1 piece: string, 2 score: float = 0, 3 type: enum = NORMAL }
///   2 trainer_spec { 3 model_type, 24 treat_whitespace_as_suffix, 35 byte_fallback, 44 unk_surface, 46..48 bos, eos,
///     pad piece, ... }
///   3 normalizer_spec { 1 name, 2 precompiled_charsmap, 3 add_dummy_prefix, 4 remove_extra_whitespaces, 5
///     escape_whitespaces }
///   5 denormalizer_spec, of the same type
///
/// Fields may come in any order; of a scalar given twice the last counts; unknown fields are skipped. Both specs must
/// be there: every trainer writes them, and a file cut between fields would pass otherwise. Special ids are those of
/// the pieces the trainer names (unk: of the one of type unknown), as the library resolves them.
/// Error(bad_input) with file and byte for whatever the library refuses, for pieces that are not UTF-8 and scores that
/// are not numbers; word and char models and denormalizing tables are Error(unsupported).
Vocabulary read_sentencepiece_model(const std::filesystem::path& path);
/// The same from memory; `path` is for messages.
Vocabulary parse_sentencepiece_model(const std::string& path, std::string_view bytes);
/// "<0x0A>", and back; nullopt for any other text.
std::string byte_piece(std::uint8_t byte);
std::optional<std::uint8_t> byte_of_piece(std::string_view text);

/// Everything a Hugging Face folder says about its tokenizer, by transformers 5.23.0's precedence:
///   pieces          tokenizer.model, else spiece.model (of a tokenizer.json beside them the post-processor alone), else
///                   tokenizer.json (tokenizer_json.h), else vocab.json with merges.txt (vocab_merges.h)
///   added           tokenizer.json's own; beside tokenizer.model added_tokens.json, overridden by
///                   tokenizer_config.json's added_tokens_decoder
///   bos, eos, ...   tokenizer_config.json, then special_tokens_map.json (the other way round without
///     added_tokens_decoder), then the model. Names are
///                   strings or objects with "content"; an empty one counts as none, one that no token has leaves
///                     nullopt
///   add_bos, ...    the post-processor of tokenizer.json, beside tokenizer.model too; without one tokenizer_config.json,
///                   nullopt if it does not say
///   legacy          tokenizer_config.json; where it does not say, false if its tokenizer_class is LlamaTokenizer(Fast)
///   chat_templates  chat_template.jinja and additional_chat_templates/*.jinja, else tokenizer_config.json's string or
///     list
/// nullopt if it has no tokenizer file at all; Error(unsupported) if only kinds not read yet (vocab.json alone);
/// Error(bad_input) with line and column for values of a wrong type.
std::optional<Vocabulary> read_hf_vocabulary(const std::filesystem::path& folder);

/// What stands at an id: its added token's text, else its piece's; empty where there is none.
std::string text_of_id(const Vocabulary& vocabulary, std::int32_t id);

/// What llama.cpp 0.5 changes in a vocabulary it loads, for rules llama_cpp: phi-3's tokens (by general.name) strip the
/// whitespace to their right. Adds to vocabulary.added. Changes that follow from a token's own text are made by
/// Tokenizer::create.
void set_llama_cpp_attributes(Vocabulary& vocabulary, std::string_view general_name);

/// Text to ids and back by vocabulary.rules. Thread-safe after construction.
class Tokenizer {
 public:
  /// Keeps what it needs of `vocabulary`. Error(bad_input) for pieces the rules' owner refuses, Error(unsupported) for
  /// a model other than "spm" and "unigram" ("plamo2" by llama.cpp's rules) without a pipeline and for regular expressions that are not understood.
  static std::unique_ptr<Tokenizer> create(const Vocabulary& vocabulary);
  virtual ~Tokenizer() = default;

  /// Ids of the text alone: no BOS, no EOS. Bytes that are not UTF-8 are taken as the rules' owner takes them.
  /// sentencepiece: special tokens in the text are text unless parse_special; added tokens that are not special always
  /// count.
  /// tokenizers: without the post-processor, and with encode_special_tokens unless parse_special.
  /// llama_cpp: llama_tokenize with add_special = false; control and unknown tokens are text unless parse_special,
  /// user-defined ones never.
  virtual std::vector<std::int32_t> encode(std::string_view text, bool parse_special = false) const = 0;
  /// Special tokens are left out, or stand as they are spelled if `special`.
  /// sentencepiece: the library's Decode, always UTF-8; added tokens are their content.
  /// tokenizers: the library's decode; ids that stand for nothing are skipped.
  /// llama_cpp: llama_detokenize: bytes, which may cut a character. Error(bad_input) for an id that does not exist.
  virtual std::string decode(std::span<const std::int32_t> ids, bool special = false) const = 0;
  /// The id's own spelling, for people. Error(bad_input) for an id that does not exist.
  virtual std::string piece(std::int32_t id) const = 0;
  /// One past the largest id.
  virtual std::int32_t size() const = 0;
};

}  // namespace ropewalk::formats
