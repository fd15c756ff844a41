#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "lib/vocabulary.h"

namespace ropewalk::formats {

/// The byte that "<0x0A>" or "<0x0a>" spells.
std::optional<std::uint8_t> plamo2_byte(std::string_view text);

/// llama.cpp 0.5's tokenizer of kind `plamo2`, one stretch of text without special tokens: the cut into tokens with the
/// largest sum of scores, each rounded to 1/10,000, found from the text's end; of equals the longest token first. What is
/// no token costs 1000 and becomes its bytes. Tokens of every type but byte are matched.
class LlamaCppPlamo2 {
 public:
  /// Error(bad_input) without a place if a byte has no token (id 0 counts as none), or a token is not UTF-8.
  explicit LlamaCppPlamo2(std::span<const Piece> pieces);
  /// Appends the ids. A byte order mark at the front is dropped, a byte that is no UTF-8 is U+FFFD.
  void encode(std::string_view text, std::vector<std::int32_t>& ids) const;

 private:
  // An end of a token; the root is the empty one. Every token is one, too.
  struct Node {
    std::int32_t score;  // kInvalid: no token
    std::int32_t id = -1;
    std::uint32_t length = 0;  // characters
    std::uint32_t parent = 0;  // without its first character
    std::uint32_t begins = 0;  // the longest shorter node that this one begins with
    std::uint32_t next = 0;    // of those the longest that is a token
  };
  std::uint32_t child(std::uint32_t node, std::uint32_t code) const;
  std::uint32_t step(std::uint32_t node, std::uint32_t code) const;
  void link(const std::vector<std::uint32_t>& codes);

  std::vector<Node> nodes_;
  std::unordered_map<std::uint64_t, std::uint32_t> children_;  // node << 32 | the character in front of it
  std::vector<std::int32_t> bytes_;                            // [256]
};

}  // namespace ropewalk::formats
