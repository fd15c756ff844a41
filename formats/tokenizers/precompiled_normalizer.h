#pragma once

#include <string>
#include <string_view>

#include "formats/tokenizers/sentencepiece_normalizer.h"

namespace ropewalk::formats {

/// The normalizer Precompiled of a tokenizer.json, as the tokenizers library has it (0.23.3), which is not as
/// sentencepiece has it: a grapheme cluster of fewer than 6 bytes becomes what the *shortest* rule that it starts with
/// says, whole; otherwise each character alone does.
class PrecompiledNormalizer {
 public:
  /// Error(bad_input) without a place for a table the library refuses or would read past.
  explicit PrecompiledNormalizer(std::string_view charsmap);
  /// `text` must be valid UTF-8; so is what comes back.
  std::string applied(std::string_view text) const;

 private:
  Charsmap rules_;
};

}  // namespace ropewalk::formats
