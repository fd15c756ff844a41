#include "verify/endings.h"

#include <array>
#include <string>

#include "lib/error.h"
#include "verify/device_sweep.h"
#include "verify/forward.h"
#include "verify/layer_sweep.h"
#include "verify/scores.h"
#include "verify/sweep_journal.h"

namespace ropewalk::verify {
namespace {

/// For the identity of a sweep.
std::string text_of(std::span<const std::vector<std::int32_t>> endings) {
  std::string out;
  for (const auto& of_window : endings) {
    for (const std::int32_t id : of_window) out += std::to_string(id) + ",";
    out += ";";
  }
  return out;
}

/// As a journal keeps them.
std::vector<double> numbers_of(const std::vector<EndedScore>& scores) {
  std::vector<double> numbers;
  for (const EndedScore& one : scores) {
    numbers.insert(numbers.end(), one.within.begin(), one.within.end());
    numbers.insert(numbers.end(), one.endings.begin(), one.endings.end());
  }
  return numbers;
}
std::vector<EndedScore> scores_of(std::span<const double> numbers, std::span<const Window> windows,
                                  std::span<const std::vector<std::int32_t>> endings) {
  std::size_t expected = 0;
  for (std::size_t w = 0; w < windows.size(); ++w) expected += windows[w].size() - 1 + endings[w].size();
  if (numbers.size() != expected) throw foreign_results();
  std::vector<EndedScore> scores(windows.size());
  const auto next = [&](std::size_t count) {
    const auto part = numbers.first(count);
    numbers = numbers.subspan(count);
    return std::vector<double>(part.begin(), part.end());
  };
  for (std::size_t w = 0; w < windows.size(); ++w) {
    scores[w].within = next(windows[w].size() - 1);
    scores[w].endings = next(endings[w].size());
  }
  return scores;
}

}  // namespace

EndingLogits::EndingLogits(std::span<const Window> windows, std::span<const std::vector<std::int32_t>> endings)
    : endings_(endings) {
  std::size_t rows = 0;
  for (std::size_t w = 0; w < windows.size(); ++w) {
    rows += windows[w].size();
    last_rows_.push_back(rows - 1);
    logits_.emplace_back(endings[w].size());
  }
}

std::vector<EndedScore> ended_scores(std::span<const HeadRow> rows, std::span<const Window> windows,
                                     std::span<const std::vector<float>> logits) {
  std::vector<EndedScore> out;
  for (std::size_t w = 0; w < windows.size(); ++w) {
    EndedScore& score = out.emplace_back();
    const std::span<const HeadRow> own = rows.first(windows[w].size());
    rows = rows.subspan(windows[w].size());
    for (const HeadRow& row : own.first(own.size() - 1)) score.within.push_back(nll_a(row));
    const double sum = own.back().statistics.a.log_sum_exp();
    for (const float logit : logits[w]) score.endings.push_back(sum - double(logit));
  }
  return out;
}

std::vector<EndedScore> score_endings(const Checkpoint& model, std::span<const Window> windows,
                                      std::span<const std::vector<std::int32_t>> endings, const SweepOptions& options) {
  if (std::ranges::any_of(windows, &Window::empty))
    throw Error(ErrorKind::bad_input, {model.label}, "a window without ids expects nothing", "put a token before it");
  check_ids(model, endings);
  if (options.device)
    return device_score_endings(OpenDevices(*options.device, windows.size()).all(), model, windows, endings, options);
  if (options.journal)
    if (const auto found = options.journal->begin({"endings", {&model}, windows, text_of(endings)}))
      return scores_of(*found, windows, endings);
  const Workers workers(options.threads);
  Forward forward(model, windows, workers);
  run_layers(std::array{&forward}, options);
  EndingLogits logits(windows, endings);
  const auto rows = run_head(
      forward, read_head(model, workers), next_ids(windows), workers,
      [&](std::size_t first, std::size_t count, std::size_t column, HeadRows& block) {
        logits.take_from(first, count, column, block.width(),
                         [&](std::size_t row, std::size_t at, float& place) { place = block.logits(row)[at]; });
      });
  auto scores = ended_scores(rows, windows, logits.by_window());
  if (options.journal) options.journal->finish(numbers_of(scores));
  return scores;
}

}  // namespace ropewalk::verify
