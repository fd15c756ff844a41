#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "formats/tokenizers/llama_cpp_pre.h"
#include "formats/tokenizers/regex.h"

namespace ropewalk::formats {

/// How llama.cpp 0.5 cuts a text into words (src/unicode.cpp). Most of its expressions run over one byte per character:
/// ASCII as it is, others by class
///
///   \x{D1} number   \x{D2} letter   \x{D3} punctuation   \x{D4} mark   \x{D5} symbol   \x{0B} white space   \x{D0} rest
///
/// of Unicode 15.0, so that "letters" are one class with no case beyond ASCII. Thread-safe.
class LlamaCppWords {
 public:
  explicit LlamaCppWords(const LlamaCppPre& pre);

  /// Stretches that cover `text`, in order; some may be empty. `text` is what the engine makes of bytes that are no
  /// UTF-8 (as_llama_cpp_reads). Error(unsupported) without a place if an expression gives up.
  std::vector<std::string_view> cut(std::string_view text) const;

 private:
  struct Step {
    LlamaCppStep::Kind kind;
    std::vector<Regex> regex;  // none or one
  };
  std::vector<Step> steps_;
  bool han_ = false;
};

/// Bytes as the engine takes them: those that begin no character become U+FFFD each, overlong forms their character,
/// surrogates stay. Error(bad_input) without a place for a character past U+10FFFF, which ends the engine.
std::string as_llama_cpp_reads(std::string_view text);
/// The same as numbers, up to 0x1FFFFF.
std::vector<std::uint32_t> llama_cpp_characters(std::string_view text);

}  // namespace ropewalk::formats
