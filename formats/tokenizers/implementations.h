#pragma once

#include <memory>

#include "formats/tokenizers/tokenizer.h"

namespace ropewalk::formats {

/// What Tokenizer::create chooses from. Pieces must not be empty and have scores that are numbers.
std::unique_ptr<Tokenizer> make_sentencepiece_tokenizer(const Vocabulary& vocabulary);
std::unique_ptr<Tokenizer> make_llama_cpp_tokenizer(const Vocabulary& vocabulary);
/// vocabulary.gguf_bpe must be there.
std::unique_ptr<Tokenizer> make_llama_cpp_bpe_tokenizer(const Vocabulary& vocabulary);
/// vocabulary.pipeline must be there; pieces of type unused are holes.
std::unique_ptr<Tokenizer> make_pipeline_tokenizer(const Vocabulary& vocabulary);

}  // namespace ropewalk::formats
