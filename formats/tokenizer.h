#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lib/vocabulary.h"

namespace ropewalk::formats {

/// tokenizer.model (SentencePiece ModelProto, model_type BPE), read without protobuf. Error(bad_input) with file and byte; unigram, word and char models
/// are Error(unsupported).
Vocabulary read_sentencepiece_model(const std::filesystem::path& path);

/// Everything a Hugging Face folder says about its tokenizer: tokenizer.model, added_tokens.json, special_tokens_map.json, tokenizer_config.json,
/// chat_template.jinja. nullopt if it has no tokenizer file at all; Error(unsupported) if only kinds not read yet (tokenizer.json alone).
std::optional<Vocabulary> read_hf_vocabulary(const std::filesystem::path& folder);

/// Text to ids and back by vocabulary.rules. Thread-safe after construction.
class Tokenizer {
 public:
  static std::unique_ptr<Tokenizer> create(const Vocabulary& vocabulary);
  virtual ~Tokenizer() = default;

  /// Ids of the text alone: no BOS, no EOS, special tokens in the text are text unless parse_special.
  virtual std::vector<std::int32_t> encode(std::string_view text, bool parse_special = false) const = 0;
  /// What sentencepiece's Decode gives (llama_cpp rules: llama_detokenize): bytes, may be invalid UTF-8 if ids cut a character.
  virtual std::string decode(std::span<const std::int32_t> ids) const = 0;
  /// The id's own text, for people.
  virtual std::string piece(std::int32_t id) const = 0;
  virtual std::int32_t size() const = 0;
};

}  // namespace ropewalk::formats
