#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <optional>
#include <vector>

#include "formats/tokenizers/word_model.h"

namespace ropewalk::formats {

/// Which of two merges of one pair counts.
enum class EqualMerges : std::uint8_t { first, last };

/// Pair of ids to the rank and result of its merge, by open addressing.
class MergeTable {
 public:
  struct Entry {
    std::int32_t left = -1, right = -1, result = 0;
    std::uint32_t rank = 0;
  };

  /// `by_result`: a merge's rank is the id of what it makes.
  MergeTable(const std::vector<BpeModel::Merge>& merges, EqualMerges equal, bool by_result = false)
      : entries_(std::bit_ceil(merges.size() * 2 + 2)) {
    for (std::size_t rank = 0; rank < merges.size(); ++rank) {
      const BpeModel::Merge& merge = merges[rank];
      Entry& entry = entries_[slot(merge.left, merge.right)];
      if (entry.left >= 0 && equal == EqualMerges::first) continue;
      entry = {merge.left, merge.right, merge.result,
               by_result ? static_cast<std::uint32_t>(merge.result) : static_cast<std::uint32_t>(rank)};
    }
  }
  /// nullptr if they do not merge. Ids below 0 merge with nothing.
  const Entry* find(std::int32_t left, std::int32_t right) const noexcept {
    if ((left | right) < 0) return nullptr;
    const Entry& entry = entries_[slot(left, right)];
    return entry.left < 0 ? nullptr : &entry;
  }

 private:
  std::size_t slot(std::int32_t left, std::int32_t right) const noexcept {
    std::uint64_t hash = static_cast<std::uint64_t>(left) << 32 | static_cast<std::uint32_t>(right);
    hash = (hash ^ hash >> 29) * 0x9E3779B97F4A7C15u;
    std::size_t at = static_cast<std::size_t>(hash >> 20) & (entries_.size() - 1);
    while (entries_[at].left >= 0 && (entries_[at].left != left || entries_[at].right != right))
      at = (at + 1) & (entries_.size() - 1);
    return at;
  }
  std::vector<Entry> entries_;
};

/// Merges scratch.symbols in place: the smallest rank first, the leftmost of equals; n log n in the word. A candidate of
/// the queue whose symbols have changed since counts if the pair now at its place merges to the same piece (the
/// tokenizers library), or only if it is the same merge (llama.cpp: `same_merge`).
inline void merge_symbols(WordScratch& scratch, const MergeTable& merges, bool same_merge) {
  struct Later {
    bool operator()(const WordScratch::Candidate& a, const WordScratch::Candidate& b) const noexcept {
      return a.rank != b.rank ? a.rank > b.rank : a.position > b.position;
    }
  };
  auto& symbols = scratch.symbols;
  auto& queue = scratch.queue;
  queue.clear();
  const auto candidate = [&](std::int32_t left, std::int32_t right) -> std::optional<WordScratch::Candidate> {
    const auto* found =
        merges.find(symbols[static_cast<std::size_t>(left)].id, symbols[static_cast<std::size_t>(right)].id);
    if (!found) return std::nullopt;
    return WordScratch::Candidate{found->rank, static_cast<std::uint32_t>(left), found->result};
  };
  for (std::size_t at = 0; at + 1 < symbols.size(); ++at)
    if (const auto next = candidate(static_cast<std::int32_t>(at), static_cast<std::int32_t>(at + 1)))
      queue.push_back(*next);
  std::make_heap(queue.begin(), queue.end(), Later{});
  const auto push = [&](std::int32_t left, std::int32_t right) {
    const auto next = candidate(left, right);
    if (!next) return;
    queue.push_back(*next);
    std::push_heap(queue.begin(), queue.end(), Later{});
  };
  while (!queue.empty()) {
    std::pop_heap(queue.begin(), queue.end(), Later{});
    const WordScratch::Candidate top = queue.back();
    queue.pop_back();
    const auto here = static_cast<std::int32_t>(top.position);
    WordScratch::Symbol& left = symbols[top.position];
    if (left.merged || left.next < 0) continue;
    const auto now = candidate(here, left.next);
    if (!now || (same_merge ? now->rank != top.rank : now->result != top.result)) continue;
    WordScratch::Symbol& right = symbols[static_cast<std::size_t>(left.next)];
    left.id = top.result;
    left.next = right.next;
    right.merged = true;
    if (left.next >= 0) symbols[static_cast<std::size_t>(left.next)].previous = here;
    if (left.previous >= 0) push(left.previous, here);
    if (left.next >= 0) push(here, left.next);
  }
}

/// Appends a symbol behind the others.
inline void add_symbol(WordScratch& scratch, std::int32_t id) {
  const auto at = static_cast<std::int32_t>(scratch.symbols.size());
  if (at > 0) scratch.symbols.back().next = at;
  scratch.symbols.push_back({id, at - 1, -1, false});
}

}  // namespace ropewalk::formats
