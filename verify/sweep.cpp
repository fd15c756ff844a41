#include "verify/sweep.h"

#include <algorithm>
#include <cmath>

#include "lib/error.h"
#include "verify/device_sweep.h"
#include "verify/forward.h"

namespace ropewalk::verify {
namespace {

void report(const SweepOptions& options, int layers_done) {
  if (options.progress) options.progress(layers_done);
}

/// The id that follows each row, -1 at the end of a window.
std::vector<std::int32_t> next_ids(std::span<const Window> windows) {
  std::vector<std::int32_t> next;
  for (const Window& window : windows)
    for (std::size_t t = 0; t < window.size(); ++t) next.push_back(t + 1 < window.size() ? window[t + 1] : -1);
  return next;
}

/// piece(first row, rows, slot) over blocks of at most HeadRows::kRows rows.
void for_row_blocks(const Workers& workers, std::size_t rows,
                    const std::function<void(std::size_t, std::size_t, std::size_t)>& piece) {
  const std::size_t block =
      std::clamp<std::size_t>(rows / (4 * static_cast<std::size_t>(workers.threads())) / 12 * 12, 12, HeadRows::kRows);
  workers.for_each((rows + block - 1) / block, [&](std::size_t index, std::size_t slot) {
    piece(index * block, std::min(block, rows - index * block), slot);
  });
}

/// One row of one model: statistics and the logit of the token that came.
struct Row {
  RowStatistics statistics;
  double next_logit = 0;
};

/// Final norm, head and statistics of every row. `each_block(first_row, rows, first_column, head_rows)` sees the logits
/// before they are taken in; may be empty.
using SeeLogits = std::function<void(std::size_t, std::size_t, std::size_t, HeadRows&)>;
std::vector<Row> run_head(const Forward& forward, const HeadWeights& head, std::span<const std::int32_t> next,
                          const Workers& workers, const SeeLogits& see) {
  std::vector<Row> rows(forward.rows());
  std::vector<HeadRows> scratch(static_cast<std::size_t>(workers.threads()));
  for_row_blocks(workers, rows.size(), [&](std::size_t first, std::size_t count, std::size_t slot) {
    HeadRows& block = scratch[slot];
    block.start(forward.config(), head, forward.row(first), forward.stride(), count);
    for (std::size_t column = 0; column < head.logits.outputs; column += kVocabBlock) {
      block.compute(column);
      if (see) see(first, count, column, block);
      for (std::size_t r = 0; r < count; ++r) {
        // wraps where it is not in this block
        const std::size_t target = static_cast<std::size_t>(next[first + r]) - column;
        if (target < block.width()) rows[first + r].next_logit = double(block.logits(r)[target]);
        accumulate(block.logits(r), column, block.width(), rows[first + r].statistics);
      }
    }
  });
  return rows;
}

Forward run_layers(const Checkpoint& model, std::span<const Window> windows, const Workers& workers,
                   const SweepOptions& options) {
  Forward forward(model, windows, workers);
  for (int layer = 0; layer < model.config.n_layers; ++layer) {
    report(options, layer);
    forward.run_layer(layer);
  }
  report(options, model.config.n_layers);
  return forward;
}

/// Mean over rows of |a - b| / |a|, 2-norms in double, rows in order. 0 where both are the same, also where |a| is 0.
double distance(const Forward& a, const Forward& b, const Workers& workers) {
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
  double sum = 0;
  for (const double row : rows) sum += row;
  return rows.empty() ? 0 : sum / double(rows.size());
}

}  // namespace

std::vector<std::vector<TokenScore>> score(const Checkpoint& model, std::span<const Window> windows,
                                           const SweepOptions& options) {
  if (options.device)
    return device_score(*open_device(options.device->index, options.device->memory_bytes), model, windows, options);
  const Workers workers(options.threads);
  const Forward forward = run_layers(model, windows, workers, options);
  const std::vector<Row> rows = run_head(forward, read_head(model, workers), next_ids(windows), workers, {});
  std::vector<std::vector<TokenScore>> scores;
  std::size_t row = 0;
  for (const Window& window : windows) {
    auto& out = scores.emplace_back();
    for (std::size_t t = 0; t < window.size(); ++t, ++row)
      if (t + 1 < window.size())
        out.push_back({rows[row].statistics.log_sum_exp() - rows[row].next_logit, rows[row].statistics.argmax,
                       float(rows[row].statistics.entropy())});
  }
  return scores;
}

std::vector<std::size_t> split_windows(const ModelConfig& config, std::span<const std::size_t> lengths,
                                       std::uint64_t bytes) {
  const std::uint64_t per_token = row_stride(static_cast<std::size_t>(config.d_model)) * sizeof(float) + sizeof(Row) +
                                  sizeof(TokenScore) + 2 * sizeof(std::int32_t);
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
  if (options.device)
    return device_logits(*open_device(options.device->index, options.device->memory_bytes), model, window, last,
                         options);
  const Workers workers(options.threads);
  const std::span<const Window> windows(&window, 1);
  const Forward forward = run_layers(model, windows, workers, options);
  const auto n_vocab = std::size_t(model.config.n_vocab);
  const std::size_t kept = last <= 0 ? window.size() : std::min(window.size(), static_cast<std::size_t>(last)),
                    skipped = window.size() - kept;
  LogitsResult out;
  out.logits.resize(kept * n_vocab);
  const auto keep = [&](std::size_t first, std::size_t count, std::size_t column, HeadRows& block) {
    for (std::size_t r = 0; r < count; ++r)
      if (first + r >= skipped)
        std::copy_n(block.logits(r), block.width(), out.logits.data() + (first + r - skipped) * n_vocab + column);
  };
  const std::vector<Row> rows = run_head(forward, read_head(model, workers), next_ids(windows), workers, keep);
  for (std::size_t t = 0; t + 1 < window.size(); ++t)
    out.nll.push_back(rows[t].statistics.log_sum_exp() - rows[t].next_logit);
  return out;
}

PairResult compare(const Checkpoint& a, const Checkpoint& b, std::span<const Window> windows,
                   const SweepOptions& options) {
  if (a.config.n_vocab != b.config.n_vocab)
    throw Error(ErrorKind::bad_input, {b.label},
                "vocabulary of " + std::to_string(b.config.n_vocab) + ", " + std::to_string(a.config.n_vocab) + " in " +
                    a.label,
                "compare models with the same vocabulary");
  if (options.device)
    return device_compare(*open_device(options.device->index, options.device->memory_bytes), a, b, windows, options);
  const Workers workers(options.threads);
  Forward forward_a(a, windows, workers), forward_b(b, windows, workers);
  const bool same_shape = a.config.n_layers == b.config.n_layers && a.config.d_model == b.config.d_model;
  const int layers = std::max(a.config.n_layers, b.config.n_layers);
  PairResult result;
  for (int layer = 0; layer < layers; ++layer) {
    report(options, layer);
    if (layer < a.config.n_layers) forward_a.run_layer(layer);
    if (layer < b.config.n_layers) forward_b.run_layer(layer);
    if (same_shape) result.layer_distance.push_back(distance(forward_a, forward_b, workers));
  }
  report(options, layers);

  const HeadWeights head_a = read_head(a, workers), head_b = read_head(b, workers);
  const std::vector<std::int32_t> next = next_ids(windows);
  std::vector<PairScore> rows(next.size());
  std::vector<std::pair<HeadRows, HeadRows>> scratch(static_cast<std::size_t>(workers.threads()));
  for_row_blocks(workers, rows.size(), [&](std::size_t first, std::size_t count, std::size_t slot) {
    auto& [block_a, block_b] = scratch[slot];
    block_a.start(a.config, head_a, forward_a.row(first), forward_a.stride(), count);
    block_b.start(b.config, head_b, forward_b.row(first), forward_b.stride(), count);
    std::vector<PairStatistics> statistics(count);
    std::vector<std::pair<double, double>> next_logits(count);
    for (std::size_t column = 0; column < head_a.logits.outputs; column += kVocabBlock) {
      block_a.compute(column);
      block_b.compute(column);
      for (std::size_t r = 0; r < count; ++r) {
        const std::size_t target = static_cast<std::size_t>(next[first + r]) - column;
        if (target < block_a.width())
          next_logits[r] = {double(block_a.logits(r)[target]), double(block_b.logits(r)[target])};
        accumulate(block_a.logits(r), block_b.logits(r), column, block_a.width(), statistics[r]);
      }
    }
    for (std::size_t r = 0; r < count; ++r) {
      PairScore& out = rows[first + r];
      const PairStatistics& s = statistics[r];
      if (next[first + r] >= 0)
        out.nll_a = s.a.log_sum_exp() - next_logits[r].first, out.nll_b = s.b.log_sum_exp() - next_logits[r].second;
      out.kl = s.kl();
      out.same_top1 = s.same_top1();
    }
  });
  auto row = rows.begin();
  for (const Window& window : windows) {
    const auto end = row + static_cast<std::ptrdiff_t>(window.size());
    result.scores.emplace_back(row, end);
    row = end;
  }
  return result;
}

}  // namespace ropewalk::verify
