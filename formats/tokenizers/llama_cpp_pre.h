#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace ropewalk::formats {

/// One cut of a text into words, in llama.cpp 0.5: every stretch so far is cut at the matches, which are words, and so is
/// what lies between them.
struct LlamaCppStep {
  enum class Kind : std::uint8_t {
    classes,          // a regular expression over the text's classes of characters (llama_cpp_words.h)
    characters,       // a regular expression over the characters; \s is White_Space, which no other item matches
    digit_groups,     // runs of numbers in groups of three from the right; the first group takes what stands before it
    thousands,        // before every group of three digits, counted from the right
    classes_and_han,  // like classes; Chinese characters are \x{D6} if they are letters, else \x{D7}
  };
  Kind kind;
  std::string_view pattern = {};  // PCRE2, where \p{N} \p{L} \p{P} \p{M} \p{S} are classes
  bool ascii_case = false;        // stands for an expression that tells case in all scripts, and tells ASCII's alone

  friend bool operator==(const LlamaCppStep&, const LlamaCppStep&) = default;
};

/// What tokenizer.ggml.pre stands for. Facts of llama.cpp 0.5, src/llama-vocab.cpp and src/unicode.cpp; the expressions
/// are written so that none backtracks far.
struct LlamaCppPre {
  std::string_view name;
  std::span<const LlamaCppStep> steps;
  bool ignore_merges = false;       // a word that is a token is not merged
  bool add_bos = false;             // unless the file says
  bool clean_spaces = false;        // decoding removes spaces before punctuation
  bool has_default_bos = true;      // id 11
  bool newlines_whole = false;      // a word of newlines that is a token is not merged
  bool spelled_characters = false;  // pieces hold characters, spaces as U+2581, instead of GPT-2's alphabet
};

/// nullptr for a name that the engine does not know, and for `whitespace`, which is for embedding models. Empty:
/// default.
const LlamaCppPre* find_llama_cpp_pre(std::string_view name);
/// All of them.
std::span<const LlamaCppPre> llama_cpp_pres();

/// Under both, every vocabulary makes the same words of every text and merges them alike: they differ at most in name,
/// in what is added and in how ids are decoded.
bool same_words(const LlamaCppPre& a, const LlamaCppPre& b);
/// Its expression stands for one that tells capitals from small letters in every script, and knows ASCII's alone:
/// a tokenizer.json with the other one gives ids that differ (docs/tokenizers.md).
bool ascii_case(const LlamaCppPre& pre);

}  // namespace ropewalk::formats
