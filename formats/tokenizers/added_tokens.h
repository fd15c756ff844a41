#pragma once

#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "formats/tokenizers/prefix_matcher.h"
#include "lib/vocabulary.h"

namespace ropewalk::formats {

/// Finds added tokens in a text: the leftmost first, the longest of those that begin there. What stands to their left or
/// right may be theirs too (lstrip, rstrip), or make them part of a word (single_word).
class AddedTokenFinder {
 public:
  struct Token {
    std::string text;  // to look for; normalized if it is one that is looked for in normalized text
    AddedToken token;
  };
  explicit AddedTokenFinder(std::vector<Token> tokens);
  bool empty() const noexcept { return tokens_.empty(); }

  /// Hands stretches of `text` in order: those without a token to `plain`, tokens to `found`. Special tokens count only
  /// if `special`. Stretches are not empty.
  void split(std::string_view text, bool special, const std::function<void(std::string_view)>& plain,
             const std::function<void(const AddedToken&)>& found) const;

 private:
  std::vector<Token> tokens_;
  PrefixMatcher matcher_;
};

}  // namespace ropewalk::formats
