#pragma once

#include <filesystem>
#include <string_view>

#include "lib/vocabulary.h"

namespace ropewalk::formats {

/// vocab.json ({"text": id}) and merges.txt ("left right" a line, by rank; lines that begin with #version are none) of
/// byte-level BPE, with the steps that `tokenizer_class` has in transformers 5.23.0: GPT2Tokenizer or Qwen2Tokenizer,
/// with or without Fast at the end. Error(unsupported) for another class; Error(bad_input) with line for what
/// tokenizer.json's reader refuses.
Vocabulary read_vocab_merges(const std::filesystem::path& folder, std::string_view tokenizer_class,
                             bool add_prefix_space);

}  // namespace ropewalk::formats
