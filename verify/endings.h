#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "verify/head_statistics.h"
#include "verify/sweep.h"

namespace ropewalk::verify {

/// What one model thinks of a window, and of ids that may come behind it.
struct EndedScore {
  std::vector<double> within;   // [t], t < size - 1: -log p(ids[t + 1] | ids[.. t])
  std::vector<double> endings;  // -log p(ending | ids)
};
/// As score() of sweep.h, `endings[w]` held against what the model expects behind windows[w]: one window in place of one
/// for each ending. The bits are those of score() of the window with the ending behind it, unless the rope's angles
/// depend on the length. Error(bad_input) for a window without ids.
std::vector<EndedScore> score_endings(const Checkpoint& model, std::span<const Window> windows,
                                      std::span<const std::vector<std::int32_t>> endings, const SweepOptions& options);

/// The logits of endings, taken out of a sweep's while those exist: a block of rows and columns at a time.
class EndingLogits {
 public:
  /// As many `endings` as windows; both outlive it.
  EndingLogits(std::span<const Window> windows, std::span<const std::vector<std::int32_t>> endings);

  /// take(row of the block, column of the block, its place) for each that stands in rows [first_row, first_row + rows) of
  /// all windows' and in columns [first_column, first_column + width). Blocks of different rows may be taken at once.
  template <class Take>
  void take_from(std::size_t first_row, std::size_t rows, std::size_t first_column, std::size_t width, Take&& take) {
    for (auto at = std::ranges::lower_bound(last_rows_, first_row); at != last_rows_.end() && *at < first_row + rows;
         ++at) {
      const auto window = static_cast<std::size_t>(at - last_rows_.begin());
      for (std::size_t i = 0; i < endings_[window].size(); ++i) {
        const std::size_t column = static_cast<std::size_t>(endings_[window][i]) - first_column;  // wraps before it
        if (column < width) take(*at - first_row, column, logits_[window][i]);
      }
    }
  }

  const std::vector<std::vector<float>>& by_window() const noexcept { return logits_; }

 private:
  std::span<const std::vector<std::int32_t>> endings_;
  std::vector<std::size_t> last_rows_;  // of each window; ascending
  std::vector<std::vector<float>> logits_;
};

/// What rows of the windows and logits of their endings amount to.
std::vector<EndedScore> ended_scores(std::span<const HeadRow> rows, std::span<const Window> windows,
                                     std::span<const std::vector<float>> logits);

}  // namespace ropewalk::verify
