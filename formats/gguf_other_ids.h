#pragma once

#include <string>
#include <vector>

#include "formats/gguf.h"
#include "formats/source.h"

namespace ropewalk::formats {

/// Notes, one for each of bos, eos, unk and pad, where the files of a Hugging Face source disagree: which id `keys` has,
/// by whose word, and what the tokenizer, config.json and generation_config.json say instead. More ids at which a text
/// ends are no disagreement where llama.cpp knows them by their text.
void note_other_ids(const std::vector<GgufKey>& keys, const Source& source, bool compat,
                    std::vector<std::string>& notes);

/// Of a Hugging Face folder that takes its tokenizer from elsewhere: bos, eos and pad that config.json or
/// generation_config.json give another id, a line each. Empty with the folder's own tokenizer.
std::vector<std::string> ids_of_another_tokenizer(const Source& source);

}  // namespace ropewalk::formats
