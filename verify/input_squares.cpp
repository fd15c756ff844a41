#include "verify/input_squares.h"

#include <algorithm>
#include <cmath>

#include "lib/error.h"
#include "verify/forward.h"
#include "verify/rms_norm.h"
#include "verify/scores.h"

namespace ropewalk::verify {
namespace {

constexpr std::size_t kRowsAtOnce = 1024;   // whose inputs are kept
constexpr std::size_t kColumnsAtOnce = 64;  // of a piece of work: a cache line of sums in double, eight times over

/// One kind of input of a layer: what reaches several weights.
class InputSum {
 public:
  InputSum(std::size_t width, std::vector<std::string> weights) : sums_(width), weights_(std::move(weights)) {}

  /// Rows of a window, [rows, width], `stride` floats apart; counted[row] says which.
  void add(const float* rows, std::size_t stride, std::span<const std::uint8_t> counted, const Workers& workers) {
    const std::size_t pieces = (sums_.size() + kColumnsAtOnce - 1) / kColumnsAtOnce;
    workers.for_each(pieces, [&](std::size_t piece, std::size_t) {
      const std::size_t begin = piece * kColumnsAtOnce, end = std::min(sums_.size(), begin + kColumnsAtOnce);
      for (std::size_t row = 0; row < counted.size(); ++row) {
        if (!counted[row]) continue;
        const float* x = rows + row * stride;
        for (std::size_t column = begin; column < end; ++column) sums_[column] += double(x[column]) * double(x[column]);
      }
    });
    rows_ += std::count(counted.begin(), counted.end(), std::uint8_t{1});
  }

  /// The window is over: it joins the totals.
  void finish_window(const Checkpoint& model, InputTotals& totals) {
    if (rows_ > 0)
      for (const std::string& weight : weights_) {
        InputSquares& total = totals[weight];
        if (total.sums.empty()) total.sums.resize(sums_.size());
        if (total.sums.size() != sums_.size())
          throw Error(ErrorKind::bad_input, {.path = model.label},
                      "'" + weight + "' has " + std::to_string(sums_.size()) + " columns, what is added to " +
                          std::to_string(total.sums.size()),
                      "add to a matrix of this model");
        total.rows += rows_;
        for (std::size_t column = 0; column < sums_.size(); ++column) {
          total.sums[column] = static_cast<float>(double(total.sums[column]) + sums_[column]);
          if (std::isfinite(total.sums[column])) continue;
          throw Error(ErrorKind::bad_input, {.path = model.label},
                      "what reaches '" + weight + "' is not finite, at channel " + std::to_string(column),
                      "look for the fault with ropewalk perplexity and diff: this model computes nothing useful");
        }
      }
    std::ranges::fill(sums_, 0.0);
    rows_ = 0;
  }

 private:
  std::vector<double> sums_;  // of the window so far
  std::int64_t rows_ = 0;
  std::vector<std::string> weights_;
};

/// counted[position] of every window.
using Counted = std::vector<std::vector<std::uint8_t>>;
Counted counted_rows(std::span<const CountedWindow> windows) {
  Counted counted;
  for (const CountedWindow& window : windows) {
    counted.emplace_back(window.ids.size(), std::uint8_t{1});
    for (const CountedWindow::Range& range : window.left_out)
      for (std::size_t at = range.from; at < std::min(range.to, window.ids.size()); ++at) counted.back()[at] = 0;
  }
  return counted;
}
std::span<const std::uint8_t> counted_of(const Counted& counted, const Stretch& stretch) {
  return std::span(counted[stretch.window]).subspan(stretch.first_position, stretch.rows);
}

void collect_layer(const Checkpoint& model, Forward& forward, int layer, const Counted& counted, const Workers& workers,
                   InputTotals& totals) {
  const ModelConfig& config = model.config;
  const auto d_model = std::size_t(config.d_model), d_q = std::size_t(config.d_q()), d_ff = std::size_t(config.d_ff);
  const std::string prefix = "model.layers." + std::to_string(layer) + ".", attention = prefix + "self_attn.",
                    mlp = prefix + "mlp.";
  InputSum qkv(d_model, {attention + "q_proj.weight", attention + "k_proj.weight", attention + "v_proj.weight"}),
      output(d_q, {attention + "o_proj.weight"}), gate_up(d_model, {mlp + "gate_proj.weight", mlp + "up_proj.weight"}),
      down(d_ff, {mlp + "down_proj.weight"});
  forward.run_layer(layer, [&](const Chunk& chunk, const LayerScratch& inputs) {
    for (const Stretch& stretch : chunk) {
      const std::size_t row = stretch.first_row - chunk.front().first_row;
      const auto which = counted_of(counted, stretch);
      const auto add = [&](InputSum& sum, const AlignedBuffer& rows, std::size_t width) {
        sum.add(rows.data() + row * row_stride(width), row_stride(width), which, workers);
      };
      add(qkv, inputs.attention_normed, d_model);
      add(output, inputs.queries, d_q);
      add(gate_up, inputs.mlp_normed, d_model);
      add(down, inputs.activated, d_ff);
      if (stretch.first_position + stretch.rows < counted[stretch.window].size()) continue;
      for (InputSum* sum : {&qkv, &output, &gate_up, &down}) sum->finish_window(model, totals);
    }
  });
}

void collect_head(const Checkpoint& model, const Forward& forward, const HeadWeights& head, const Counted& counted,
                  const Workers& workers, InputTotals& totals) {
  const auto d_model = std::size_t(model.config.d_model);
  const std::size_t stride = row_stride(d_model);
  InputSum sum(d_model, {"lm_head.weight"});
  AlignedBuffer normed(kRowsAtOnce * stride);
  std::size_t first_row = 0;
  for (const std::vector<std::uint8_t>& window : counted) {
    for (std::size_t at = 0; at < window.size(); at += kRowsAtOnce) {
      const std::size_t rows = std::min(kRowsAtOnce, window.size() - at);
      for_row_blocks(workers, rows, [&](std::size_t first, std::size_t count, std::size_t) {
        rms_norm(forward.row(first_row + at + first), forward.stride(), count, head.norm.data(), d_model,
                 model.config.rms_eps, normed.data() + first * stride, stride);
      });
      sum.add(normed.data(), stride, std::span(window).subspan(at, rows), workers);
    }
    sum.finish_window(model, totals);
    first_row += window.size();
  }
}

}  // namespace

std::vector<std::vector<TokenScore>> collect_input_squares(const Checkpoint& model,
                                                           std::span<const CountedWindow> windows, InputTotals& totals,
                                                           const CollectOptions& options) {
  const Workers workers(options.sweep.threads);
  const auto report = [&](int layer) {
    if (options.sweep.progress) options.sweep.progress(layer);
  };
  std::vector<Window> ids;
  for (const CountedWindow& window : windows) ids.push_back(window.ids);
  const Counted counted = counted_rows(windows);
  Forward forward(model, ids, workers, kRowsAtOnce);
  for (int layer = 0; layer < model.config.n_layers; ++layer) {
    report(layer);
    collect_layer(model, forward, layer, counted, workers, totals);
  }
  report(model.config.n_layers);
  const bool output = options.output && !model.config.tied_head;
  if (!output && !options.scores) return {};
  const HeadWeights head = read_head(model, workers);
  if (output) collect_head(model, forward, head, counted, workers, totals);
  if (!options.scores) return {};
  return token_scores(run_head(forward, head, next_ids(ids), workers, {}), ids);
}

std::vector<CountedWindow::Range> rows_left_out(const EngineBatches& batches, std::size_t index, std::size_t count) {
  constexpr std::size_t kFewest = 16;  // tokens of a matrix product that llama-imatrix looks at
  const auto [context, batch, micro_batch] = batches;
  const std::size_t abreast = std::max<std::size_t>(1, batch / context), length = std::min(context, batch),
                    windows = std::min(abreast, count - index / abreast * abreast),
                    piece = std::max<std::size_t>(1, std::min(micro_batch, batch) / windows);
  std::vector<CountedWindow::Range> out;
  for (std::size_t begin = 0; begin < context; begin += length) {
    const std::size_t end = std::min(context, begin + length), rest = (end - begin) % piece;
    if (piece * windows < kFewest) out.push_back({begin, end});
    else if (rest > 0 && rest * windows < kFewest) out.push_back({end - rest, end});
  }
  return out;
}

}  // namespace ropewalk::verify
