#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace ropewalk::formats {

/// Longest of a set of strings that a text starts with. A trie whose nodes keep their children in a list; sets here are
/// small (user-defined pieces, added tokens).
class PrefixMatcher {
 public:
  /// `key` must not be empty. The last value given for a key counts.
  void add(std::string_view key, std::int32_t value);
  bool empty() const noexcept { return nodes_.size() == 1; }
  /// False if nothing starts with this byte: the cheap test before longest().
  bool may_start(char first) const noexcept { return starts_[static_cast<unsigned char>(first)]; }

  struct Match {
    std::size_t length = 0;
    std::int32_t value = -1;
  };
  /// The longest key that `text` starts with among its first `max_keys` ones by length (sentencepiece looks at 64);
  /// nullopt if none.
  std::optional<Match> longest(std::string_view text, int max_keys) const;
  /// Bytes of `text` that some key begins with, whole or not.
  std::size_t longest_beginning(std::string_view text) const;

 private:
  struct Node {
    std::int32_t value = -1, first_child = -1, next_sibling = -1;
    char label = 0;
  };
  std::int32_t child(std::int32_t node, char label) const;
  std::vector<Node> nodes_ = std::vector<Node>(1);
  std::array<bool, 256> starts_{};
};

}  // namespace ropewalk::formats
