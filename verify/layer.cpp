#include "verify/layer.h"

#include <algorithm>
#include <cmath>

#include "verify/attention.h"
#include "verify/gemm.h"
#include "verify/rms_norm.h"
#include "verify/swiglu.h"

namespace ropewalk::verify {
namespace {

constexpr std::size_t kRowBlock = 96;  // rows that pass through a block of linears while its weights are in the cache
constexpr std::size_t kPanelBlock =
    8;  // panels of gate and up whose product is still in the cache when swiglu takes it

struct Sizes {
  std::size_t d_model, d_ff, n_heads, n_kv_heads, head_dim;
  std::size_t d_q() const { return n_heads * head_dim; }
  std::size_t d_kv() const { return n_kv_heads * head_dim; }
};

/// Where one row of the chunk belongs.
struct Place {
  KvCache* cache;
  const RotaryTable* rotary;
  std::size_t position;
};

struct LayerCall {
  const ModelConfig& config;
  const LayerWeights& weights;
  Sizes sizes;
  std::span<const Place> places;
  float* residual;
  std::size_t residual_stride, query_stride;
  LayerScratch& scratch;

  std::size_t rows() const { return places.size(); }
};

/// y (op)= x W^T + bias for panels [first_panel, first_panel + panels).
void linear(const float* x, std::size_t x_stride, std::size_t rows, const PackedMatrix& w,
            const std::vector<float>& bias, std::size_t first_panel, std::size_t panels, float* y, std::size_t y_stride,
            Into into) {
  gemm({.a = x,
        .a_stride = x_stride,
        .rows = rows,
        .b = w.panel(first_panel),
        .panel_stride = w.depth * kPanel,
        .panels = panels,
        .depth = w.depth,
        .c = y,
        .c_stride = y_stride,
        .bias = bias.empty() ? nullptr : bias.data() + first_panel * kPanel,
        .into = into});
}

/// A x of `rows` rows to `thin`, row_stride(rank) apart.
void multiply_thin(const float* x, std::size_t x_stride, std::size_t rows, const LowRankFactors& delta,
                   AlignedBuffer& thin) {
  if (delta.rank() == 0) return;
  thin.grow(kRowBlock * row_stride(delta.rank()));
  linear(x, x_stride, rows, delta.a, {}, 0, delta.a.panels, thin.data(), row_stride(delta.rank()), Into::store);
}
/// y += B (A x) for panels [first_panel, first_panel + panels), from what multiply_thin() gave.
void add_delta(const AlignedBuffer& thin, std::size_t rows, const LowRankFactors& delta, std::size_t first_panel,
               std::size_t panels, float* y, std::size_t y_stride) {
  if (delta.rank() == 0) return;
  linear(thin.data(), row_stride(delta.rank()), rows, delta.b, {}, first_panel, panels, y, y_stride, Into::add);
}

/// Where a block of activations goes: the thread's own, or rows [first, ...) of the chunk's if they are to be kept.
float* block_rows(const LayerCall& call, AlignedBuffer& kept, AlignedBuffer& mine, std::size_t first,
                  std::size_t stride) {
  if (call.scratch.keep_inputs) return kept.data() + first * stride;
  mine.grow(kRowBlock * stride);
  return mine.data();
}

/// Norm, Q, K, V and rotation of rows [first, first + rows): queries to the scratch, keys and values to the caches.
void project(const LayerCall& call, std::size_t first, std::size_t rows, LayerScratch::PerThread& mine) {
  const Sizes& s = call.sizes;
  const std::size_t norm_stride = row_stride(s.d_model), qkv_stride = row_stride(call.weights.qkv.outputs);
  mine.projected.grow(kRowBlock * qkv_stride);
  float* normed = block_rows(call, call.scratch.attention_normed, mine.normed, first, norm_stride);
  rms_norm(call.residual + first * call.residual_stride, call.residual_stride, rows, call.weights.attention_norm.data(),
           s.d_model, call.config.rms_eps, normed, norm_stride);
  linear(normed, norm_stride, rows, call.weights.qkv, call.weights.qkv_bias, 0, call.weights.qkv.panels,
         mine.projected.data(), qkv_stride, Into::store);
  multiply_thin(normed, norm_stride, rows, call.weights.qkv_delta, mine.thin);
  add_delta(mine.thin, rows, call.weights.qkv_delta, 0, call.weights.qkv.panels, mine.projected.data(), qkv_stride);
  for (std::size_t r = 0; r < rows; ++r) {
    const Place& place = call.places[first + r];
    float *q = mine.projected.data() + r * qkv_stride, *k = q + s.d_q(), *v = k + s.d_kv();
    // keys follow the queries
    rotate(q, s.n_heads + s.n_kv_heads, s.head_dim, call.config.rotary_pairs, *place.rotary, place.position);
    std::copy_n(q, s.d_q(), call.scratch.queries.data() + (first + r) * call.query_stride);
    for (std::size_t head = 0; head < s.n_kv_heads; ++head)
      place.cache->store(head, place.position, k + head * s.head_dim, v + head * s.head_dim);
  }
}

/// Output projection into the residual, then norm and MLP into the residual, for rows [first, first + rows).
void finish(const LayerCall& call, std::size_t first, std::size_t rows, LayerScratch::PerThread& mine) {
  const Sizes& s = call.sizes;
  const LayerWeights& w = call.weights;
  const std::size_t norm_stride = row_stride(s.d_model), block_stride = row_stride(kPanelBlock * kPanel),
                    act_stride = row_stride(s.d_ff);
  mine.projected.grow(kRowBlock * block_stride);
  float *normed = block_rows(call, call.scratch.mlp_normed, mine.normed, first, norm_stride),
        *activated = block_rows(call, call.scratch.activated, mine.activated, first, act_stride);
  float* x = call.residual + first * call.residual_stride;
  const float* attended = call.scratch.queries.data() + first * call.query_stride;
  linear(attended, call.query_stride, rows, w.output, w.output_bias, 0, w.output.panels, x, call.residual_stride,
         Into::add);
  multiply_thin(attended, call.query_stride, rows, w.output_delta, mine.thin);
  add_delta(mine.thin, rows, w.output_delta, 0, w.output.panels, x, call.residual_stride);
  rms_norm(x, call.residual_stride, rows, w.mlp_norm.data(), s.d_model, call.config.rms_eps, normed, norm_stride);
  multiply_thin(normed, norm_stride, rows, w.gate_up_delta, mine.thin);
  for (std::size_t panel = 0; panel < w.gate_up.panels; panel += kPanelBlock) {
    const std::size_t panels = std::min(kPanelBlock, w.gate_up.panels - panel);
    linear(normed, norm_stride, rows, w.gate_up, w.gate_up_bias, panel, panels, mine.projected.data(), block_stride,
           Into::store);
    add_delta(mine.thin, rows, w.gate_up_delta, panel, panels, mine.projected.data(), block_stride);
    swiglu(mine.projected.data(), block_stride, rows, panels, activated + panel * kPanel / 2, act_stride);
  }
  linear(activated, act_stride, rows, w.down, w.down_bias, 0, w.down.panels, x, call.residual_stride, Into::add);
  multiply_thin(activated, act_stride, rows, w.down_delta, mine.thin);
  add_delta(mine.thin, rows, w.down_delta, 0, w.down.panels, x, call.residual_stride);
}

/// One head of up to kQueryTile rows of one stretch.
struct AttentionPiece {
  std::size_t row, rows, first_position, head;
  const KvCache* cache;
};

std::vector<AttentionPiece> attention_pieces(const Chunk& chunk, const std::vector<KvCache>& caches,
                                             std::size_t n_heads) {
  std::vector<AttentionPiece> pieces;
  for (const Stretch& stretch : chunk)
    for (std::size_t head = 0; head < n_heads; ++head)
      for (std::size_t r = 0; r < stretch.rows; r += kQueryTile)
        pieces.push_back({stretch.first_row - chunk.front().first_row + r, std::min(kQueryTile, stretch.rows - r),
                          stretch.first_position + r, head, &caches[stretch.cache]});
  // Late positions see more keys: the long pieces first, so that no thread ends up alone with one.
  std::ranges::stable_sort(pieces, std::greater{}, &AttentionPiece::first_position);
  return pieces;
}

}  // namespace

void run_layer(const ModelConfig& config, const LayerWeights& weights, const Chunk& chunk, float* residual,
               std::vector<KvCache>& caches, std::span<const std::shared_ptr<const RotaryTable>> rotary,
               const Workers& workers, LayerScratch& scratch) {
  const Sizes sizes{std::size_t(config.d_model), std::size_t(config.d_ff), std::size_t(config.n_heads),
                    std::size_t(config.n_kv_heads), std::size_t(config.head_dim)};
  std::vector<Place> places;
  for (const Stretch& stretch : chunk)
    for (std::size_t r = 0; r < stretch.rows; ++r)
      places.push_back({&caches[stretch.cache], rotary[stretch.window].get(), stretch.first_position + r});
  const std::size_t query_stride = row_stride(sizes.d_q());
  scratch.queries.grow(places.size() * query_stride);
  scratch.threads.resize(static_cast<std::size_t>(workers.threads()));
  if (scratch.keep_inputs) {
    scratch.attention_normed.grow(places.size() * row_stride(sizes.d_model));
    scratch.mlp_normed.grow(places.size() * row_stride(sizes.d_model));
    scratch.activated.grow(places.size() * row_stride(sizes.d_ff));
  }
  const LayerCall call{config, weights, sizes, places, residual, row_stride(sizes.d_model), query_stride, scratch};

  const std::size_t block = std::clamp<std::size_t>(
      places.size() / (4 * static_cast<std::size_t>(workers.threads())) / 12 * 12, 12, kRowBlock);
  const std::size_t blocks = (places.size() + block - 1) / block;
  workers.for_each(blocks, [&](std::size_t index, std::size_t slot) {
    project(call, index * block, std::min(block, places.size() - index * block), scratch.threads[slot]);
  });

  const std::vector<AttentionPiece> pieces = attention_pieces(chunk, caches, sizes.n_heads);
  std::optional<std::size_t> window;
  if (config.sliding_window) window = std::size_t(*config.sliding_window);
  workers.for_each(pieces.size(), [&](std::size_t index, std::size_t) {
    const AttentionPiece& piece = pieces[index];
    float* q = scratch.queries.data() + piece.row * query_stride + piece.head * sizes.head_dim;
    attention(*piece.cache, {.q = q,
                             .out = q,
                             .stride = query_stride,
                             .rows = piece.rows,
                             .first_position = piece.first_position,
                             .kv_head = piece.head / (sizes.n_heads / sizes.n_kv_heads),
                             .scale = float(1.0 / std::sqrt(double(sizes.head_dim))),
                             .sliding_window = window});
  });

  workers.for_each(blocks, [&](std::size_t index, std::size_t slot) {
    finish(call, index * block, std::min(block, places.size() - index * block), scratch.threads[slot]);
  });
}

}  // namespace ropewalk::verify
