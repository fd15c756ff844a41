#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/tokenizers/piece_merger.h"

namespace ropewalk::formats {

/// Cuts `text` into characters and user-defined stretches, merges them, word by word where that gives the same ids, and
/// hands each final symbol to `emit` in text order. Words already seen in this text are not merged again: natural text
/// repeats itself.
class WordEncoder {
 public:
  /// Length of the symbol a text starts with, and whether it may merge.
  struct Cut {
    std::size_t length = 0;
    bool frozen = false;
  };
  using Cutter = std::function<Cut(std::string_view)>;
  using Emit = std::function<void(const MergeSymbol&, const MergeHistory*)>;

  /// `keep_history`: the emitter needs it, and merges of the whole text go into one, as in sentencepiece. Words are
  /// then not treated alone.
  WordEncoder(const PieceIndex& index, const PieceMerger& merger, bool keep_history)
      : index_(index), merger_(merger), keep_history_(keep_history) {}

  /// Error(unsupported) for text of 2 GiB or more. `ids`: where `emit` appends; repeated words are copied there.
  void encode(std::string_view text, const Cutter& cut, const Emit& emit, std::vector<std::int32_t>& ids) const;

 private:
  const PieceIndex& index_;
  const PieceMerger& merger_;
  bool keep_history_;
};

}  // namespace ropewalk::formats
