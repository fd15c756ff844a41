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

/// Rows [row, row + count) against the keys [tile, tile + keys), all of which at least one of the rows sees.
void strip_step(const KvCache& cache, const Attention& args, std::size_t row, std::size_t count, std::size_t tile,
                std::size_t keys, Scratch& scratch) {
  const std::size_t head_dim = cache.head_dim(), sum_stride = row_stride(head_dim);
  float* scores = scratch.scores.data();
  gemm({.a = args.q + row * args.stride,
        .a_stride = args.stride,
        .rows = count,
        .b = cache.keys(args.kv_head) + tile * head_dim,
        .panel_stride = kPanel * head_dim,
        .panels = whole_panels(keys) / kPanel,
        .depth = head_dim,
        .c = scores,
        .c_stride = kScoreStride});
  const std::size_t width = whole_panels(keys);
  for (std::size_t r = 0; r < count; ++r) {
    float* row_scores = scores + r * kScoreStride;
    const Seen seen = seen_from(args.first_position + row + r, args.sliding_window);
    const std::size_t begin = std::min(std::max(seen.begin, tile) - tile, width),
                      end = std::max(begin, std::min(seen.end - std::min(seen.end, tile), width));
    std::fill(row_scores, row_scores + begin, -std::numeric_limits<float>::infinity());
    std::fill(row_scores + end, row_scores + width, -std::numeric_limits<float>::infinity());
    const float correction = softmax_tile(row_scores, width, args.scale, scratch.rows[row + r]);
    float* sums = scratch.sums.data() + (row + r) * sum_stride;
    if (correction != 1.0f)
      for (std::size_t c = 0; c < head_dim; ++c) sums[c] *= correction;
  }
  // Keys a row does not see have weight 0 here, and fma(0, v, sum) is sum: the chain is as long as the row's own.
  gemm({.a = scores,
        .a_stride = kScoreStride,
        .rows = count,
        .b = cache.values(args.kv_head) + tile * cache.value_stride(),
        .b_stride = cache.value_stride(),
        .panel_stride = kPanel,
        .panels = cache.value_stride() / kPanel,
        .depth = keys,
        .c = scratch.sums.data() + row * sum_stride,
        .c_stride = sum_stride,
        .into = Into::chain});
}

}  // namespace

void attention(const KvCache& cache, const Attention& args) {
  const std::size_t head_dim = cache.head_dim(), sum_stride = row_stride(head_dim);
  Scratch scratch;  // 270 kB of stack; only what the head needs is touched
  std::fill_n(scratch.sums.data(), args.rows * sum_stride, 0.0f);
  const std::size_t first = seen_from(args.first_position, args.sliding_window).begin,
                    last = args.first_position + args.rows;
  for (std::size_t tile = first / kKeyTile * kKeyTile; tile < last;
       tile += kKeyTile)  // a tile of keys and values stays in the cache for all strips
    for (std::size_t row = 0; row < args.rows; row += kStrip) {
      const std::size_t count = std::min(kStrip, args.rows - row), end = args.first_position + row + count;
      if (end <= tile || seen_from(args.first_position + row, args.sliding_window).begin >= tile + kKeyTile) continue;
      strip_step(cache, args, row, count, tile, std::min(kKeyTile, end - tile), scratch);
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
