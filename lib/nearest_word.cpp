#include "lib/nearest_word.h"

#include <algorithm>
#include <numeric>

namespace ropewalk {
namespace {

// what a file claims is a name can be of any length, and the work grows with its square
constexpr std::size_t kLongest = 256;

/// Levenshtein's, one row at a time.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1)});
      diagonal = above;
    }
  }
  return row.back();
}

}  // namespace

std::optional<std::string> nearest_word(std::string_view word, const std::vector<std::string>& known,
                                        std::size_t most_edits) {
  std::optional<std::string> best;
  std::size_t nearest = (most_edits > 0 ? most_edits : std::max<std::size_t>(1, word.size() / 3)) + 1;
  if (word.size() > kLongest) return best;
  for (const std::string& candidate : known) {
    const bool cut_short = candidate.size() > word.size() && word.size() >= 4 && candidate.starts_with(word);
    // no fewer edits
    const std::size_t gap = std::max(word.size(), candidate.size()) - std::min(word.size(), candidate.size());
    if (!cut_short && gap >= nearest) continue;
    const std::size_t distance = cut_short ? 1 : edit_distance(word, candidate);
    if (distance < nearest) best = candidate, nearest = distance;
  }
  return best;
}

}  // namespace ropewalk
