#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/tokenizer_pipeline.h"

namespace ropewalk::formats {

/// A text cut into words. Words are stretches of `text` in order; what lies between is dropped.
struct Words {
  struct Word {
    std::uint32_t begin = 0, end = 0;
    bool at_start = false;  // begins with the first character of the whole input
  };
  std::string text;  // valid UTF-8, less than 4 GiB
  std::vector<Word> words;

  std::string_view of(const Word& word) const {
    return std::string_view(text).substr(word.begin, word.end - word.begin);
  }
};

/// The pre-tokenizers of a tokenizer.json, compiled. Thread-safe.
class PreTokenizers {
 public:
  /// `raw_bytes`: if the last step is ByteLevel, its words are left as bytes instead of being spelled in its alphabet.
  /// Error without a place for a pattern that does not compile.
  PreTokenizers(const std::vector<pre_tokenizers::Step>& steps, bool raw_bytes);
  /// Words are not empty afterwards. Error(unsupported) if a pattern gives up.
  void apply(Words& words) const;

 private:
  std::vector<std::function<void(Words&)>> steps_;
};

}  // namespace ropewalk::formats
