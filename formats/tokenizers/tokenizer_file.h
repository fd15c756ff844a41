#pragma once

#include <filesystem>

namespace ropewalk::formats {

/// The file of `folder` that read_hf_vocabulary (tokenizer.h) takes the pieces from, vocab.json for vocab.json with
/// merges.txt; empty: none that is read.
std::filesystem::path tokenizer_file(const std::filesystem::path& folder);

}  // namespace ropewalk::formats
