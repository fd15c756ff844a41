#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/tokenizers/llama_cpp_pre.h"
#include "lib/vocabulary.h"

namespace ropewalk::formats {

/// tokenizer.ggml.pre of a BPE tokenizer.json: which of llama.cpp 0.5's own pre-tokenizers does what its steps do, or
/// nearly so: gpt-4o, tekken and their kin know ASCII's case alone (ascii_case of llama_cpp_pre.h).

/// What the converter tells tokenizers apart by: the SHA-256, in hexadecimal, of the ids of one text, special tokens
/// around it included. `vocabulary` must have a pipeline.
std::string pre_tokenizer_hash(const Vocabulary& vocabulary);
/// The converter's name for a hash; nullopt if it knows none.
std::optional<std::string> pre_tokenizer_by_hash(std::string_view hash);
/// A name by the steps themselves, for byte-level tokenizers that were trained anew with the steps of a known one;
/// nullopt where none imitates them. NFC is passed over: llama.cpp normalises nothing.
std::optional<std::string> pre_tokenizer_by_content(const TokenizerPipeline& pipeline);

/// The other way round: the steps of a tokenizer.json that does what llama.cpp 0.5 does under this name: those of the
/// published one that it imitates, else its own expressions, one Split each. nullopt where no steps do it: cuts that are
/// no expressions of characters, expressions over llama.cpp's own classes, pieces that are spelled in characters.
std::optional<std::vector<pre_tokenizers::Step>> steps_of_pre_tokenizer(const LlamaCppPre& pre);

/// The one, else the other.
std::optional<std::string> pre_tokenizer_name(const Vocabulary& vocabulary);

}  // namespace ropewalk::formats
