#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "formats/json.h"

namespace ropewalk::formats {

/// Special ids and flags as gguf-py's SpecialVocab (llama.cpp 0.5) finds them: tokenizer.json's post-processor template
/// and added tokens, tokenizer_config.json, then config.json's *_token_id. Lists are in the order found, which is the
/// order of the keys.
struct SpecialTokens {
  std::vector<std::pair<std::string, std::uint32_t>>
      ids;                                        // "bos", "eos", "unk", "sep", "pad", "cls", "mask", "eot", "eom"
  std::vector<std::pair<std::string, bool>> add;  // "bos": a BOS is put before the text, ...
  Json chat_template;                             // text, list of {name, template}, or null

  /// Passes over an id outside the vocabulary, which is not negative.
  void set_id(const std::string& kind, std::int64_t id, std::size_t n_vocab);
};

/// The model's config.json, which may lie in another folder than the tokenizer; its text is for the place in errors.
struct ModelConfigFile {
  const Json& json;
  std::string path;
  std::string_view text;
};
/// `folder`: where tokenizer files lie (may lack all of them). `kinds`: those looked for. Error(bad_input) for a
/// negative id, naming its file.
SpecialTokens find_special_tokens(const std::filesystem::path& folder, const ModelConfigFile& config,
                                  std::size_t n_vocab,
                                  const std::vector<std::string>& kinds = {"bos", "eos", "unk", "sep", "pad", "cls",
                                                                           "mask"});

}  // namespace ropewalk::formats
