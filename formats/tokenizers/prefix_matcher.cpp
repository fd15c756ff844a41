#include "formats/tokenizers/prefix_matcher.h"

namespace ropewalk::formats {

std::int32_t PrefixMatcher::child(std::int32_t node, char label) const {
  std::int32_t at = nodes_[static_cast<std::size_t>(node)].first_child;
  while (at >= 0 && nodes_[static_cast<std::size_t>(at)].label != label)
    at = nodes_[static_cast<std::size_t>(at)].next_sibling;
  return at;
}

void PrefixMatcher::add(std::string_view key, std::int32_t value) {
  starts_[static_cast<unsigned char>(key[0])] = true;
  std::int32_t node = 0;
  for (char label : key) {
    std::int32_t next = child(node, label);
    if (next < 0) {
      next = static_cast<std::int32_t>(nodes_.size());
      Node& parent = nodes_[static_cast<std::size_t>(node)];
      const Node fresh{.value = -1, .first_child = -1, .next_sibling = parent.first_child, .label = label};
      parent.first_child = next;
      nodes_.push_back(fresh);
    }
    node = next;
  }
  nodes_[static_cast<std::size_t>(node)].value = value;
}

std::optional<PrefixMatcher::Match> PrefixMatcher::longest(std::string_view text, int max_keys) const {
  std::optional<Match> best;
  std::int32_t node = 0;
  for (std::size_t length = 1; length <= text.size() && max_keys > 0; ++length) {
    node = child(node, text[length - 1]);
    if (node < 0) break;
    if (const std::int32_t value = nodes_[static_cast<std::size_t>(node)].value; value >= 0) {
      best = Match{length, value};
      --max_keys;
    }
  }
  return best;
}

std::size_t PrefixMatcher::longest_beginning(std::string_view text) const {
  std::int32_t node = 0;
  std::size_t at = 0;
  while (at < text.size() && (node = child(node, text[at])) >= 0) ++at;
  return at;
}

}  // namespace ropewalk::formats
