#pragma once

#include <string>
#include <vector>

#include "formats/gguf.h"
#include "formats/source.h"

namespace ropewalk::formats {

/// llama.vocab_size of a GGUF source whose embedding has more rows than its vocabulary has tokens, for adapters brought
/// them; where no other tokenizer was chosen also tokenizer.ggml.tokens, scores and token_type, with "[PADn]" of type
/// unused in the new rows, as the converter fills them. Empty: there are no such rows.
/// Error(bad_input) if that tokenizer has another text for a token that the GGUF has.
std::vector<GgufKey> grown_vocabulary_keys(const Source& source, std::vector<std::string>& notes);

}  // namespace ropewalk::formats
