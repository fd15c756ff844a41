#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "formats/source.h"
#include "lib/vocabulary.h"
#include "tools/common_options.h"
#include "tools/render.h"

namespace ropewalk::tools {

/// "32000 pieces, SentencePiece BPE with byte fallback, 2 added": the kind and the size. `folder`: where its files are.
std::string vocabulary_text(const std::optional<Vocabulary>& vocabulary, const std::filesystem::path& folder);
/// What else is to be said of it, a name and a line each: normalizer, words (the pre-tokenizer), special tokens, chat
/// template, rows of the embedding without a token. Empty without a vocabulary.
std::vector<std::pair<std::string, std::string>> vocabulary_lines(const std::optional<Vocabulary>& vocabulary,
                                                                  int n_vocab);
/// null without a vocabulary.
Json vocabulary_json(const std::optional<Vocabulary>& vocabulary, int n_vocab);
/// What is odd about the tokenizer beside the weights, a line each: far fewer ids than the embedding has rows, and
/// special ids of config.json (null: there is none) that are no row of it.
std::vector<std::string> vocabulary_warnings(const std::optional<Vocabulary>& vocabulary, const Json& config,
                                             int n_vocab);
/// How `other` differs from the base's tokenizer, id by id: "2 tokens more than the base's: '<a>', '<b>'", "1 id of
/// another text: 5 is '<x>', not 'the'"; both may be. Empty: not at all.
std::string vocabulary_changes(const Vocabulary& base, const Vocabulary& other);
/// vocabulary_warnings of a source: said on standard error and added to `warnings`.
void warn_of_vocabulary(const formats::Source& source, const CommonOptions& common, const Io& io,
                        std::vector<std::string>& warnings);

/// Of a folder that is written with another tokenizer than the base's: ids that its config.json and
/// generation_config.json give otherwise, said and added in the same way.
void warn_of_config_ids(const formats::Source& source, const CommonOptions& common, const Io& io,
                        std::vector<std::string>& warnings);

}  // namespace ropewalk::tools
