#include "verify/sweep.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "lib/error.h"
#include "verify/device_sweep.h"
#include "verify/forward.h"
#include "verify/layer_sweep.h"
#include "verify/scores.h"
#include "verify/sweep_journal.h"

namespace ropewalk::verify {
namespace {

/// Mean over rows of |a - b| / |a|, 2-norms in double, rows in order. 0 where both are the same, also where |a| is 0.
double distance(const Forward& a, const Forward& b, std::span<const Window> windows, const Workers& workers) {
  const auto width = std::size_t(a.config().d_model);
  std::vector<double> rows(a.rows());
  for_row_blocks(workers, rows.size(), [&](std::size_t first, std::size_t count, std::size_t) {
    for (std::size_t row = first; row < first + count; ++row) {
      double difference = 0, norm = 0;
      for (std::size_t c = 0; c < width; ++c) {
        const double x = a.row(row)[c], y = b.row(row)[c];
        difference += (x - y) * (x - y);
        norm += x * x;
      }
      rows[row] = difference == 0 ? 0 : std::sqrt(difference / norm);
    }
  });
  return mean_of(window_sums(rows, windows), windows);
}

/// Scores as a journal keeps them: three numbers each, exactly.
std::vector<double> numbers_of(const std::vector<std::vector<TokenScore>>& scores) {
  std::vector<double> numbers;
  for (const auto& window : scores)
    for (const TokenScore& score : window)
      numbers.insert(numbers.end(), {score.nll, double(score.argmax), double(score.entropy)});
  return numbers;
}
/// Error(bad_input) unless they are what numbers_of() makes of scores of these windows.
std::vector<std::vector<TokenScore>> scores_of(const std::vector<double>& numbers, std::span<const Window> windows) {
  std::vector<std::vector<TokenScore>> scores;
  std::size_t at = 0;
  bool fits = true;
  for (const Window& window : windows)
    for (TokenScore& score : scores.emplace_back(window.empty() ? 0 : window.size() - 1)) {
      fits = fits && numbers.size() - at >= 3 && numbers[at + 1] >= -1 && numbers[at + 1] < 1 << 30;
      if (!fits) break;
      score = {numbers[at], static_cast<std::int32_t>(numbers[at + 1]), static_cast<float>(numbers[at + 2])};
      at += 3;
    }
  if (!fits || at != numbers.size()) throw foreign_results();
  return scores;
}

/// run_head of two models whose vocabularies are one.
std::vector<HeadRow> run_pair_head(const Forward& a, const Forward& b, const HeadWeights& head_a,
                                   const HeadWeights& head_b, std::span<const std::int32_t> next,
                                   const Workers& workers) {
  std::vector<HeadRow> rows(next.size());
  std::vector<std::pair<HeadRows, HeadRows>> scratch(static_cast<std::size_t>(workers.threads()));
  for_row_blocks(workers, rows.size(), [&](std::size_t first, std::size_t count, std::size_t slot) {
    auto& [block_a, block_b] = scratch[slot];
    block_a.start(a.config(), head_a, a.row(first), a.stride(), count);
    block_b.start(b.config(), head_b, b.row(first), b.stride(), count);
    for (std::size_t column = 0; column < head_a.logits.outputs; column += kVocabBlock) {
      block_a.compute(column);
      block_b.compute(column);
      for (std::size_t r = 0; r < count; ++r) {
        HeadRow& row = rows[first + r];
        const std::size_t target = static_cast<std::size_t>(next[first + r]) - column;
        if (target < block_a.width())
          row.next_a = double(block_a.logits(r)[target]), row.next_b = double(block_b.logits(r)[target]);
        accumulate(block_a.logits(r), block_b.logits(r), column, block_a.width(), row.statistics);
      }
    }
  });
  return rows;
}

}  // namespace

std::optional<WeightRounding> KnownRounding::find(const Checkpoint& model, DType type) const {
  const auto same = [](const std::weak_ptr<const LazyTensor>& a, const TensorPtr& b) { return a.lock() == b; };
  for (const Known& known : all_)
    if (known.type == type && std::ranges::equal(known.tensors, model.tensors, same)) return known.rounding;
  return std::nullopt;
}
void KnownRounding::add(const Checkpoint& model, DType type, const WeightRounding& rounding) {
  all_.push_back({{model.tensors.begin(), model.tensors.end()}, type, rounding});
}

std::vector<std::vector<TokenScore>> score(const Checkpoint& model, std::span<const Window> windows,
                                           const SweepOptions& options) {
  if (options.device) return device_score(OpenDevices(*options.device, windows.size()).all(), model, windows, options);
  if (options.journal)
    if (const auto found = options.journal->begin({"score", {&model}, windows})) return scores_of(*found, windows);
  const Workers workers(options.threads);
  Forward forward(model, windows, workers);
  run_layers(std::array{&forward}, options);
  auto scores = token_scores(run_head(forward, read_head(model, workers), next_ids(windows), workers, {}), windows);
  if (options.journal) options.journal->finish(numbers_of(scores));
  return scores;
}

std::vector<std::size_t> split_windows(const ModelConfig& config, std::span<const std::size_t> lengths,
                                       std::uint64_t bytes) {
  const std::uint64_t per_token = row_stride(static_cast<std::size_t>(config.d_model)) * sizeof(float) +
                                  sizeof(HeadRow) + sizeof(TokenScore) + 2 * sizeof(std::int32_t);
  std::vector<std::size_t> parts;
  std::uint64_t held = 0;
  std::size_t begin = 0;
  for (std::size_t w = 0; w < lengths.size(); ++w) {
    const std::uint64_t needed = lengths[w] * per_token;
    if (w > begin && needed > bytes - std::min(bytes, held)) {
      parts.push_back(w - begin);
      begin = w, held = 0;
    }
    held += needed;
  }
  if (begin < lengths.size()) parts.push_back(lengths.size() - begin);
  return parts;
}

LogitsResult logits(const Checkpoint& model, const Window& window, int last, const SweepOptions& options) {
  if (options.device) return device_logits(OpenDevices(*options.device, 1).all(), model, window, last, options);
  const Workers workers(options.threads);
  const std::span<const Window> windows(&window, 1);
  Forward forward(model, windows, workers);
  run_layers(std::array{&forward}, options);
  const auto n_vocab = std::size_t(model.config.n_vocab);
  const std::size_t skipped = rows_before_last(window.size(), last);
  LogitsResult out;
  out.logits.resize((window.size() - skipped) * n_vocab);
  const auto keep = [&](std::size_t first, std::size_t count, std::size_t column, HeadRows& block) {
    for (std::size_t r = 0; r < count; ++r)
      if (first + r >= skipped)
        std::copy_n(block.logits(r), block.width(), out.logits.data() + (first + r - skipped) * n_vocab + column);
  };
  const std::vector<HeadRow> rows = run_head(forward, read_head(model, workers), next_ids(windows), workers, keep);
  const std::vector<std::vector<TokenScore>> scores = token_scores(rows, windows);
  for (const TokenScore& score : scores.front()) out.nll.push_back(score.nll);
  return out;
}

PairResult compare(const Checkpoint& a, const Checkpoint& b, std::span<const Window> windows,
                   const SweepOptions& options) {
  if (a.config.n_vocab != b.config.n_vocab)
    throw Error(ErrorKind::bad_input, {b.label},
                "vocabulary of " + std::to_string(b.config.n_vocab) + ", " + std::to_string(a.config.n_vocab) + " in " +
                    a.label,
                "compare models with the same vocabulary");
  if (options.device) return device_compare(OpenDevices(*options.device, windows.size()).all(), a, b, windows, options);
  if (options.journal) options.journal->begin({"compare", {&a, &b}, windows});
  const Workers workers(options.threads);
  Forward forward_a(a, windows, workers), forward_b(b, windows, workers);
  const bool same_shape = a.config.n_layers == b.config.n_layers && a.config.d_model == b.config.d_model;
  PairResult result;
  result.layer_distance = run_layers(
      std::array{&forward_a, &forward_b}, options, same_shape ? 1 : 0,
      [&](int, std::vector<double>& found) { found.push_back(distance(forward_a, forward_b, windows, workers)); });
  result.scores = pair_scores(
      run_pair_head(forward_a, forward_b, read_head(a, workers), read_head(b, workers), next_ids(windows), workers),
      windows);
  return result;
}

}  // namespace ropewalk::verify
