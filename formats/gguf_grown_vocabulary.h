#pragma once

#include <string>
#include <vector>

#include "formats/gguf.h"
#include "formats/source.h"

namespace ropewalk::formats {

/// tokenizer.ggml.tokens, scores, token_type and llama.vocab_size of a GGUF source whose embedding has more rows than
/// its vocabulary has tokens, for adapters brought them. The new tokens are those of the tokenizer that came with the
/// adapter; rows without one are "[PADn]", of type unused, as the converter fills them. Empty: there are no such rows.
/// Error(bad_input) if that tokenizer has another text for a token that the GGUF has.
std::vector<GgufKey> grown_vocabulary_keys(const Source& source, std::vector<std::string>& notes);

}  // namespace ropewalk::formats
