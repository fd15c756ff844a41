#pragma once

#include <string>

#include "lib/vocabulary.h"

namespace ropewalk::formats {

/// A tokenizer.model (its fields: tokenizer.h) of a vocabulary with rules llama_cpp of model "spm" or "unigram": pieces,
/// scores and types as they are, so that the library merges what llama.cpp merges. Spaces of user-defined pieces are
/// spelled U+2581, as the library has them.
/// Error(unsupported) naming the piece where no such file holds them: no piece that is unknown, or two of them of which
/// the GGUF names none, some of the 256 bytes but not all.
std::string sentencepiece_model(const Vocabulary& vocabulary);

}  // namespace ropewalk::formats
