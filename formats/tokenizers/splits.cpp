#include "formats/tokenizers/splits.h"

#include <algorithm>

namespace ropewalk::formats {

using pre_tokenizers::SplitBehavior;

void SplitWord::put(std::size_t begin, std::size_t end, std::vector<Words::Word>& out) const {
  if (begin == end) return;
  out.push_back({static_cast<std::uint32_t>(word_.begin + begin), static_cast<std::uint32_t>(word_.begin + end),
                 word_.at_start && begin == 0});
}

void SplitWord::finish(std::vector<Words::Word>& out) {
  const std::size_t size = word_.end - word_.begin;
  if (last_ != size) parts_.push_back({last_, size, invert_});
  switch (behavior_) {
    case SplitBehavior::isolated:
      for (const Part& part : parts_) put(part.begin, part.end, out);
      return;
    case SplitBehavior::removed:
      for (const Part& part : parts_)
        if (!part.is_match) put(part.begin, part.end, out);
      return;
    case SplitBehavior::contiguous: return contiguous(out);
    case SplitBehavior::merged_with_previous: return with_previous(out);
    case SplitBehavior::merged_with_next: return with_next(out);
  }
}

/// Neighbours of one kind are one word.
void SplitWord::contiguous(std::vector<Words::Word>& out) const {
  for (std::size_t at = 0; at < parts_.size();) {
    std::size_t last = at;
    while (last + 1 < parts_.size() && parts_[last + 1].is_match == parts_[at].is_match) ++last;
    put(parts_[at].begin, parts_[last].end, out);
    at = last + 1;
  }
}

/// A match joins what stands before it, unless that is a match too.
void SplitWord::with_previous(std::vector<Words::Word>& out) const {
  for (std::size_t at = 0; at < parts_.size();) {
    const bool joins = !parts_[at].is_match && at + 1 < parts_.size() && parts_[at + 1].is_match;
    put(parts_[at].begin, parts_[at + joins].end, out);
    at += 1 + joins;
  }
}

/// A match joins what stands behind it, unless that is a match too.
void SplitWord::with_next(std::vector<Words::Word>& out) const {
  for (std::size_t at = 0; at < parts_.size();) {
    const bool joins = parts_[at].is_match && at + 1 < parts_.size() && !parts_[at + 1].is_match;
    put(parts_[at].begin, parts_[at + joins].end, out);
    at += 1 + joins;
  }
}

}  // namespace ropewalk::formats
