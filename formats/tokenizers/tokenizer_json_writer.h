#pragma once

#include <string>

#include "lib/vocabulary.h"

namespace ropewalk::formats {

/// A tokenizer.json of a vocabulary with rules llama_cpp and model "bpe", with which the tokenizers library makes the ids
/// that llama.cpp 0.5 makes: pieces and merges by rank, the steps of its pre-tokenizer, control and user-defined tokens
/// as added ones, BOS and EOS by a template if the GGUF adds them. Rows without a token ("[PAD5]" of type unused) are
/// left out.
/// Error(unsupported) where the library has no such steps (steps_of_pre_tokenizer), and where a merge makes what is no
/// piece, which it refuses.
std::string tokenizer_json(const Vocabulary& vocabulary);

}  // namespace ropewalk::formats
