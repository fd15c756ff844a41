#include "verify/text_evidence.h"

#include <algorithm>
#include <vector>

namespace ropewalk::verify {
namespace {

constexpr std::size_t kRun = 8;
constexpr std::uint64_t kTokens = 32;

/// How many of them differ.
template <class Value, class Less>
std::uint64_t distinct(std::vector<Value> values, const Less& less) {
  std::ranges::sort(values, less);
  std::uint64_t n = values.empty() ? 0 : 1;
  for (std::size_t i = 1; i < values.size(); ++i) n += less(values[i - 1], values[i]) ? 1 : 0;
  return n;
}

}  // namespace

TextEvidence text_evidence(std::span<const Window> windows, int n_vocab) {
  TextEvidence out;
  std::size_t length = kRun;
  std::vector<std::int32_t> ids;
  for (const Window& window : windows) {
    ids.insert(ids.end(), window.begin(), window.end());
    if (!window.empty()) length = std::min(length, window.size());
  }
  std::vector<std::span<const std::int32_t>> runs;
  for (const Window& window : windows)
    for (std::size_t from = 0; from + length <= window.size(); ++from)
      runs.push_back(std::span(window).subspan(from, length));
  out.positions = ids.size(), out.runs = runs.size(), out.run_length = static_cast<int>(length);
  out.tokens_needed = std::min({kTokens, out.positions / 4, static_cast<std::uint64_t>(n_vocab) / 4});
  out.distinct_tokens = distinct(std::move(ids), std::less<>());
  out.distinct_runs = distinct(std::move(runs),
                               [](const auto& a, const auto& b) { return std::ranges::lexicographical_compare(a, b); });
  return out;
}

}  // namespace ropewalk::verify
