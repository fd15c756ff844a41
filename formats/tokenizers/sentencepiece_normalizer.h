#pragma once

#include <array>
#include <bitset>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "formats/tokenizers/prefix_matcher.h"
#include "lib/vocabulary.h"

namespace ropewalk::formats {

/// SentencePiece's precompiled_charsmap: the longest matching rule replaces what a text starts with.
///
///   u32 trie_bytes (multiple of 1024) | trie_bytes of double array, u32 units | replacements, each NUL-terminated
///
/// A unit of the double array (darts-clone): bits 0-7 label, 8 has a leaf, 9 offset is in 256s, 10-30 offset; of a
/// leaf: bit 31 set, 0-30 value, the byte where the replacement starts. All integers little-endian.
class Charsmap {
 public:
  /// Empty `blob`: no rules. Error(bad_input) for a table the library refuses, before anything in it is followed.
  explicit Charsmap(std::string_view blob);

  struct Rule {
    std::size_t length = 0;        // bytes replaced; 0: no rule matches
    std::string_view replacement;  // lives as long as the Charsmap
  };
  /// Of the rules that match, the longest among the first `max_matches` by length.
  Rule longest(std::string_view text, int max_matches) const;
  /// The shortest one.
  Rule shortest(std::string_view text) const { return longest(text, 1); }
  bool empty() const noexcept { return units_.empty(); }
  /// False if no rule matches a text that begins with these two bytes.
  bool may_match(char first, char second) const;
  /// All replacements are valid UTF-8, wherever a rule points.
  bool is_utf8() const;

 private:
  std::vector<std::uint32_t> units_;
  std::string replacements_;
};

/// normalizer_spec at work: characters by the table, spaces to U+2581, one more in front. User-defined pieces pass as
/// they are; a byte that is no UTF-8 becomes U+FFFD. treat_whitespace_as_suffix puts the one more at the end.
class SentencepieceNormalizer {
 public:
  /// `user_defined` must outlive this. Error(bad_input) for a bad table.
  SentencepieceNormalizer(const Vocabulary& vocabulary, const PrefixMatcher& user_defined);
  /// `dummy_prefix` false: none, whatever the spec says.
  std::string normalize(std::string_view text, bool dummy_prefix = true) const;

 private:
  struct Step {
    std::size_t length;
    std::string_view output;
  };
  Step step(std::string_view text) const;
  /// Bytes at the start of `text` that stay as they are and are no spaces, as far as a table of two characters tells.
  std::size_t plain_prefix(std::string_view text) const;

  const PrefixMatcher* user_defined_;
  Charsmap charsmap_;
  // [first][second] of ASCII: no rule matches, and the first is no space
  std::array<std::bitset<128>, 128> plain_;
  bool add_dummy_prefix_, remove_extra_whitespaces_, whitespace_as_suffix_;
  std::string_view space_;
};

}  // namespace ropewalk::formats
