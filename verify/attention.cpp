#include "verify/attention.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "verify/gemm.h"
#include "verify/softmax.h"

namespace ropewalk::verify {
namespace {

constexpr std::size_t kStrip = 12;  // rows whose scores against one key tile stay in the first-level cache
constexpr std::size_t kScoreStride = kKeyTile + 16;

struct Scratch {
  alignas(64) std::array<float, kStrip * kScoreStride> scores;
  // [rows, head_dim padded]: weighted sums of values so far
  alignas(64) std::array<float, kQueryTile*(kMaxHeadDim + 16)> sums;
  std::array<SoftmaxRow, kQueryTile> rows;
};

/// Half-open range of positions that `position` sees.
struct Seen {
  std::size_t begin, end;
};
Seen seen_from(std::size_t position, const std::optional<std::size_t>& window) {
  const std::size_t end = position + 1;
  return {window && end > *window ? end - *window : 0, end};
}

/// Rows [row, row + count) of the queries and the keys [tile, tile + keys), all of which at least one of the rows sees.
struct Strip {
  const KvCache& cache;
  const Attention& args;
  std::size_t row, count, tile, keys;

  /// This strip's share of the next tile, of which `first` holds `width` floats a position from position 0 on: without
  /// it the first strip of each tile of a long window would wait for memory.
  Ahead of_next_tile(const float* first, std::size_t width) const {
    const std::size_t next = tile + kKeyTile, end = args.first_position + args.rows;
    if (next >= end) return {};
    const std::size_t strips = (args.rows + kStrip - 1) / kStrip,
                      floats = std::min(kKeyTile, end - next) * width / strips;
    return {first + next * width + row / kStrip * floats, floats};
  }

  /// Of the tile's keys, by their place in it, those that row `row + r` sees.
  Seen seen(std::size_t r) const {
    const Seen all = seen_from(args.first_position + row + r, args.sliding_window);
    const std::size_t begin = std::min(std::max(all.begin, tile) - tile, keys);
    return {begin, std::max(begin, std::min(all.end - std::min(all.end, tile), keys))};
  }
};

void take_scores(const Strip& strip, Scratch& scratch) {
  const KvCache& cache = strip.cache;
  const std::size_t head_dim = cache.head_dim(), sum_stride = row_stride(head_dim), width = whole_panels(strip.keys);
  gemm({.a = strip.args.q + strip.row * strip.args.stride,
        .a_stride = strip.args.stride,
        .rows = strip.count,
        .b = cache.keys(strip.args.kv_head) + strip.tile * head_dim,
        .panel_stride = kPanel * head_dim,
        .panels = width / kPanel,
        .depth = head_dim,
        .c = scratch.scores.data(),
        .c_stride = kScoreStride,
        .ahead = strip.of_next_tile(cache.keys(strip.args.kv_head), head_dim)});
  for (std::size_t r = 0; r < strip.count; ++r) {
    float* scores = scratch.scores.data() + r * kScoreStride;
    const Seen seen = strip.seen(r);
    std::fill(scores, scores + seen.begin, -std::numeric_limits<float>::infinity());
    std::fill(scores + seen.end, scores + width, -std::numeric_limits<float>::infinity());
    const float correction = softmax_tile(scores, width, strip.args.scale, scratch.rows[strip.row + r]);
    float* sums = scratch.sums.data() + (strip.row + r) * sum_stride;
    if (correction != 1.0f)
      for (std::size_t c = 0; c < head_dim; ++c) sums[c] *= correction;
  }
}

/// The values of the tile's keys [from, to), weighted, onto the sums of rows [r, r + rows) of the strip.
void add_values(const Strip& strip, std::size_t r, std::size_t rows, std::size_t from, std::size_t to,
                Scratch& scratch) {
  if (from >= to) return;
  const KvCache& cache = strip.cache;
  const std::size_t sum_stride = row_stride(cache.head_dim());
  gemm({.a = scratch.scores.data() + r * kScoreStride + from,
        .a_stride = kScoreStride,
        .rows = rows,
        .b = cache.values(strip.args.kv_head) + (strip.tile + from) * cache.value_stride(),
        .b_stride = cache.value_stride(),
        .panel_stride = kPanel,
        .panels = cache.value_stride() / kPanel,
        .depth = to - from,
        .c = scratch.sums.data() + (strip.row + r) * sum_stride,
        .c_stride = sum_stride,
        .into = Into::chain,
        .ahead = strip.of_next_tile(cache.values(strip.args.kv_head), cache.value_stride())});
}

void strip_step(const Strip& strip, Scratch& scratch) {
  take_scores(strip, scratch);
  // What all rows see in one product, what only some do row by row: a key's weight is 0 for a row that does not see it,
  // but 0 times an overflowed value is NaN. Each row's sum is one chain in the order of the keys either way.
  Seen common = strip.seen(0);
  for (std::size_t r = 1; r < strip.count; ++r)
    common = {std::max(common.begin, strip.seen(r).begin), std::min(common.end, strip.seen(r).end)};
  if (common.begin >= common.end) common = {strip.keys, strip.keys};
  for (std::size_t r = 0; r < strip.count; ++r)
    add_values(strip, r, 1, strip.seen(r).begin, std::min(common.begin, strip.seen(r).end), scratch);
  add_values(strip, 0, strip.count, common.begin, common.end, scratch);
  for (std::size_t r = 0; r < strip.count; ++r)
    add_values(strip, r, 1, std::max(common.end, strip.seen(r).begin), strip.seen(r).end, scratch);
}

}  // namespace

void attention(const KvCache& cache, const Attention& args) {
  const std::size_t head_dim = cache.head_dim(), sum_stride = row_stride(head_dim);
  Scratch scratch;  // 230 kB of stack; only what the head needs is touched
  std::fill_n(scratch.sums.data(), args.rows * sum_stride, 0.0f);
  const std::size_t first = seen_from(args.first_position, args.sliding_window).begin,
                    last = args.first_position + args.rows;
  // a tile of keys and values stays in the cache for all strips
  for (std::size_t tile = first / kKeyTile * kKeyTile; tile < last; tile += kKeyTile)
    for (std::size_t row = 0; row < args.rows; row += kStrip) {
      const std::size_t count = std::min(kStrip, args.rows - row), end = args.first_position + row + count;
      if (end <= tile || seen_from(args.first_position + row, args.sliding_window).begin >= tile + kKeyTile) continue;
      strip_step({cache, args, row, count, tile, std::min(kKeyTile, end - tile)}, scratch);
    }
  for (std::size_t row = 0; row < args.rows; ++row) {
    const double inverse = 1.0 / scratch.rows[row].sum;
    for (std::size_t c = 0; c < head_dim; ++c)
      args.out[row * args.stride + c] = float(double(scratch.sums[row * sum_stride + c]) * inverse);
  }
}

void attention_reference(const KvCache& cache, const Attention& args) {
  const std::size_t head_dim = cache.head_dim();
  for (std::size_t row = 0; row < args.rows; ++row) {
    const Seen seen = seen_from(args.first_position + row, args.sliding_window);
    std::vector<double> weights(seen.end - seen.begin), sums(head_dim);
    double max = -std::numeric_limits<double>::infinity(), total = 0;
    for (std::size_t j = seen.begin; j < seen.end; ++j) {
      const float* key = cache.keys(args.kv_head) + j / kPanel * kPanel * head_dim + j % kPanel;
      double dot = 0;
      for (std::size_t c = 0; c < head_dim; ++c) dot += double(args.q[row * args.stride + c]) * double(key[c * kPanel]);
      weights[j - seen.begin] = dot * double(args.scale);
      max = std::max(max, weights[j - seen.begin]);
    }
    for (double& w : weights) total += w = std::exp(w - max);
    for (std::size_t j = seen.begin; j < seen.end; ++j)
      for (std::size_t c = 0; c < head_dim; ++c)
        sums[c] += weights[j - seen.begin] / total * double(cache.values(args.kv_head)[j * cache.value_stride() + c]);
    for (std::size_t c = 0; c < head_dim; ++c) args.out[row * args.stride + c] = float(sums[c]);
  }
}

}  // namespace ropewalk::verify
