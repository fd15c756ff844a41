#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "formats/source.h"
#include "lib/error.h"

namespace ropewalk::formats {

/// Sets the vocabulary of a source that is open but for it, its origin and its folder, by OpenOptions::tokenizer. Ids of
/// bos and eos that it does not name are config.json's, and not added to a text.
void choose_tokenizer(Source& source, const OpenOptions& options);

/// By its name, else by its first four bytes.
bool is_gguf(const std::filesystem::path& path);
/// A folder with a tokenizer, without weights and config.json.
bool is_tokenizer_alone(const std::filesystem::path& path);
/// Such a folder, or any folder as if it were one, but for its vocabulary: choose_tokenizer's.
void open_tokenizer_of_folder(Source& source, const std::filesystem::path& folder);
/// The vocabulary of source.gguf, whatever its architecture and with or without tensors.
void open_tokenizer_of_gguf(Source& source, const std::filesystem::path& path, TokenizerUse use);

/// Whether a tokenizer that is refused so is a warning.
bool only_warns(TokenizerUse use, ErrorKind kind);
/// read(), or nullopt and a warning where it refuses and that is one.
template <class Read>
std::optional<Vocabulary> read_or_warn(const Read& read, TokenizerUse use, std::vector<std::string>& warnings) {
  try {
    return read();
  } catch (const Error& error) {
    if (!only_warns(use, error.kind())) throw;
    warnings.push_back(std::string("tokenizer not read: ") + error.what());
    return std::nullopt;
  }
}

}  // namespace ropewalk::formats
