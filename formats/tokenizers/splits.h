#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

#include "formats/tokenizers/pre_tokenizers.h"

namespace ropewalk::formats {

/// Stretches that cover one word, matches of a pattern and what lies between them, and what a behaviour makes of them.
class SplitWord {
 public:
  SplitWord(pre_tokenizers::SplitBehavior behavior, bool invert) : behavior_(behavior), invert_(invert) {}

  /// Cuts `word` at the matches; begin() first, then match() for each in order, then finish() with where words go.
  void begin(const Words::Word& word) {
    word_ = word;
    last_ = 0;
    parts_.clear();
  }
  void match(std::size_t begin, std::size_t end) {
    if (last_ != begin) parts_.push_back({last_, begin, invert_});
    parts_.push_back({begin, end, !invert_});
    last_ = end;
  }
  void finish(std::vector<Words::Word>& out);

 private:
  struct Part {
    std::size_t begin, end;
    bool is_match;
  };
  void put(std::size_t begin, std::size_t end, std::vector<Words::Word>& out) const;
  void contiguous(std::vector<Words::Word>& out) const;
  void with_previous(std::vector<Words::Word>& out) const;
  void with_next(std::vector<Words::Word>& out) const;

  pre_tokenizers::SplitBehavior behavior_;
  bool invert_;
  Words::Word word_;
  std::size_t last_ = 0;
  std::vector<Part> parts_;
};

}  // namespace ropewalk::formats
