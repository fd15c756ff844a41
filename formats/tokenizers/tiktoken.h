#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "lib/vocabulary.h"

namespace ropewalk::formats {

/// A tiktoken vocabulary: one line per token, its bytes in base64, a space, its rank, which is its id. Merges are not
/// spelled: any two neighbours whose bytes together are a token may merge, the smallest rank first.
///
/// The file does not say how text is cut into words. That is known for these, told apart by their number of tokens:
///   50256  GPT-2 (r50k_base)     50280  p50k_base      100256  cl100k_base    128000  Llama 3
///   151329 GLM-4                 151643  Qwen          199998  o200k_base     200000  Llama 4
/// Error(unsupported) naming the number for any other.

/// The folder's vocabulary of that form: tokenizer.model or tiktoken.model, if it has it, or its only *.tiktoken file.
std::optional<std::filesystem::path> find_tiktoken(const std::filesystem::path& folder);

/// `own_special_tokens`: add those that every release of the vocabulary has (their ids follow the ranks), and where its
/// family puts BOS before a text. Error(bad_input) with file and line for lines of another form, for a token or a rank
/// that stands twice and for bytes that no token has.
Vocabulary read_tiktoken(const std::filesystem::path& path, bool own_special_tokens);
/// The same from memory; `path` is for messages.
Vocabulary parse_tiktoken(const std::string& path, std::string_view text, bool own_special_tokens);
/// Starts as such a file does.
bool looks_like_tiktoken(std::string_view text);

}  // namespace ropewalk::formats
