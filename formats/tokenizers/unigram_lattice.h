#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "lib/error.h"

namespace ropewalk::formats {

/// The best way to cut a text into pieces, by the sum of their scores (Viterbi): one node per place in the text from the
/// last cut on, the best path that ends there. The first of equals counts. Offers must come by rising `begin`. Sums are of type `Score`, in
/// which sentencepiece has float and others double: it decides between paths that are nearly equal.
template <class Score>
class UnigramLattice {
 public:
  /// Error(unsupported) without a place for a text of 4 GiB.
  explicit UnigramLattice(std::size_t text_bytes) {
    if (text_bytes >= kNowhere)
      throw Error(ErrorKind::unsupported, {}, "a text of 4 GiB cannot be tokenized at once",
                  "give it in several files");
  }

  /// A piece from `begin` to `end`.
  void offer(std::size_t begin, std::size_t end, Score score, std::int32_t id) {
    if (end - cut_ >= nodes_.size()) nodes_.resize(end - cut_ + 1);
    Node& node = nodes_[end - cut_];
    const Score whole = score + sum_at(begin);
    if (node.begin == kNowhere || whole > node.score) node = {whole, static_cast<std::uint32_t>(begin), id};
  }
  /// Takes the sum at `at` from it and from all behind it, up to `reach` bytes: what is offered next keeps its digits.
  void rebase(std::size_t at, std::size_t reach) {
    const Score base = sum_at(at);
    at -= cut_;
    for (std::size_t end = at; end < std::min(nodes_.size(), at + reach + 1); ++end)
      if (end == at || nodes_[end].begin != kNowhere) nodes_[end].score -= base;
  }
  Score sum_at(std::size_t at) const { return nodes_[at - cut_].score; }
  /// Of the last piece on the best path to `end`.
  std::size_t begin_of(std::size_t end) const { return nodes_[end - cut_].begin; }
  std::int32_t id_of(std::size_t end) const { return nodes_[end - cut_].id; }

  /// take(begin, end, id) of each piece of the best path from the last cut to `at`, in order; then cuts there: what lies
  /// before is forgotten. No piece that was offered may reach past `at`.
  template <class Take>
  void cut(std::size_t at, const Take& take) {
    std::size_t next = at;  // the chain is turned round: each node gets the end of the piece behind its own
    for (std::size_t end = at; end != cut_;) {
      const std::size_t begin = begin_of(end);
      nodes_[end - cut_].begin = static_cast<std::uint32_t>(next);
      next = end;
      end = begin;
    }
    for (std::size_t begin = cut_, end = next; begin != at;) {
      take(begin, end, id_of(end));
      begin = end;
      end = begin_of(end);
    }
    nodes_.front() = {sum_at(at), 0, -1};
    nodes_.resize(1);
    cut_ = at;
  }

  /// Where the pieces of the best path end, last first.
  std::vector<std::size_t> ends() const {
    std::vector<std::size_t> out;
    for (std::size_t end = cut_ + nodes_.size() - 1; end > cut_; end = begin_of(end)) out.push_back(end);
    return out;
  }

 private:
  static constexpr std::uint32_t kNowhere = 0xFFFFFFFFu;  // no piece ends here
  struct Node {
    Score score = 0;
    std::uint32_t begin = kNowhere;
    std::int32_t id = -1;
  };
  std::vector<Node> nodes_ = {Node{0, 0, -1}};  // [places behind the cut], itself first
  std::size_t cut_ = 0;
};

}  // namespace ropewalk::formats
