#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "lib/error.h"

namespace ropewalk::formats {

/// The best way to cut a text into pieces, by the sum of their scores (Viterbi): one node per place in the text, the best
/// path that ends there. The first of equals counts. Offers must come by rising `begin`. Sums are of type `Score`, in
/// which sentencepiece has float and others double: it decides between paths that are nearly equal.
template <class Score>
class UnigramLattice {
 public:
  /// Error(unsupported) without a place for a text of 4 GiB.
  explicit UnigramLattice(std::size_t text_bytes) {
    if (text_bytes >= kNowhere)
      throw Error(ErrorKind::unsupported, {}, "a text of 4 GiB cannot be tokenized at once",
                  "give it in several files");
    nodes_.resize(text_bytes + 1);
    nodes_[0].begin = 0;
  }

  /// A piece from `begin` to `end`.
  void offer(std::size_t begin, std::size_t end, Score score, std::int32_t id) {
    Node& node = nodes_[end];
    const Score whole = score + nodes_[begin].score;
    if (node.begin == kNowhere || whole > node.score) node = {whole, static_cast<std::uint32_t>(begin), id};
  }
  /// Takes the sum at `at` from it and from all behind it, up to `reach` bytes: what is offered next keeps its digits.
  void rebase(std::size_t at, std::size_t reach) {
    const Score base = nodes_[at].score;
    for (std::size_t end = at; end < std::min(nodes_.size(), at + reach + 1); ++end)
      if (end == at || nodes_[end].begin != kNowhere) nodes_[end].score -= base;
  }
  Score sum_at(std::size_t at) const { return nodes_[at].score; }
  /// Of the last piece on the best path to `end`.
  std::size_t begin_of(std::size_t end) const { return nodes_[end].begin; }
  std::int32_t id_of(std::size_t end) const { return nodes_[end].id; }

  /// Where the pieces of the best path end, last first.
  std::vector<std::size_t> ends() const {
    std::vector<std::size_t> out;
    for (std::size_t end = nodes_.size() - 1; end > 0; end = nodes_[end].begin) out.push_back(end);
    return out;
  }

 private:
  static constexpr std::uint32_t kNowhere = 0xFFFFFFFFu;  // no piece ends here
  struct Node {
    Score score = 0;
    std::uint32_t begin = kNowhere;
    std::int32_t id = -1;
  };
  std::vector<Node> nodes_;
};

}  // namespace ropewalk::formats
