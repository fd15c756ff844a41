#pragma once

#include <cmath>
#include <cstdint>

#include "verify/cuda/attention_args.h"
#include "verify/cuda/block.h"

// Attention in f32 for --precision f32: multiply-adds of the CUDA cores, so that nothing is rounded to 16 bits. A score
// is one chain over the channels as on the host.
//   block x: a tile of kQueries queries, the last tile first; y: the head; z: the window
//   thread (ty, tx) = (thread / 16, thread % 16): queries ty + 16 i; of a tile of keys, keys tx + 16 j; of the output,
//     channels 64 m + 4 tx .. + 3
// Keys and values take turns in one buffer. Rows are 4 floats longer than kWidth: 16-byte reads of 8 neighbouring rows
// fall into different banks.
namespace ropewalk::verify {

template <int kWidthT, int kQueriesT>
struct AttentionF32Tile {
  using Element = float;
  static constexpr int kWidth = kWidthT, kQueries = kQueriesT, kKeys = kQueriesT, kThreads = 256;
  static constexpr int kRows = kQueries / 16, kColumns = kKeys / 16, kGroups = kWidth / 64;  // of a thread
  static constexpr int kStride = kWidth + 4, kWeightStride = kKeys + 4;
  static_assert(kWidth % 64 == 0 && kQueries % 16 == 0);

  struct Shared {
    alignas(16) float q[kQueries * kStride];
    alignas(16) float kv[kKeys * kStride];
    alignas(16) float weights[kQueries * kWeightStride];
  };
  struct State {
    float out[kRows][kGroups * 4];
    float scores[kRows][kColumns];
    float max[kRows], largest[kRows];  // scaled; finite while nothing has been seen
    double sum[kRows];                 // of this thread's keys
  };
};

/// Rows to a buffer of kRows rows, zeros around them. Ends with a barrier.
template <class Tile, int kRows, class Block>
ROPEWALK_DEVICE void load_f32_tile(const Block& block, float* tile, const float* from, std::uint64_t stride,
                                   std::uint64_t rows, int head_dim) {
  block.each([&](int thread) {
    for (int i = thread; i < kRows * Tile::kWidth; i += Tile::kThreads) {
      const int row = i / Tile::kWidth, c = i % Tile::kWidth;
      tile[row * Tile::kStride + c] =
          std::uint64_t(row) < rows && c < head_dim ? from[std::uint64_t(row) * stride + std::uint64_t(c)] : 0.0f;
    }
  });
}

template <class Tile, class Block, class State>
ROPEWALK_DEVICE void score_f32_tile(const Block& block, const typename Tile::Shared& shared, State& state,
                                    int head_dim) {
  block.lanes([&](int thread) {
    const int ty = thread / 16, tx = thread % 16;
    auto& mine = state[thread];
    ROPEWALK_UNROLL
    for (int i = 0; i < Tile::kRows; ++i) ROPEWALK_UNROLL
    for (int j = 0; j < Tile::kColumns; ++j) mine.scores[i][j] = 0;
    for (int c = 0; c < head_dim; c += 4) {  // past head_dim both are zeros
      float q[Tile::kRows][4], k[Tile::kColumns][4];
      ROPEWALK_UNROLL
      for (int e = 0; e < 4; ++e) {
        ROPEWALK_UNROLL
        for (int i = 0; i < Tile::kRows; ++i) q[i][e] = shared.q[(ty + 16 * i) * Tile::kStride + c + e];
        ROPEWALK_UNROLL
        for (int j = 0; j < Tile::kColumns; ++j) k[j][e] = shared.kv[(tx + 16 * j) * Tile::kStride + c + e];
      }
      ROPEWALK_UNROLL
      for (int e = 0; e < 4; ++e) ROPEWALK_UNROLL
      for (int i = 0; i < Tile::kRows; ++i) ROPEWALK_UNROLL
      for (int j = 0; j < Tile::kColumns; ++j) mine.scores[i][j] = std::fma(q[i][e], k[j][e], mine.scores[i][j]);
    }
  });
}

/// Weights of this tile's keys to shared memory; sums and outputs so far shrink to the new maximum. Ends with a
/// barrier.
template <class Tile, class Block, class State>
ROPEWALK_DEVICE void softmax_f32_tile(const Block& block, typename Tile::Shared& shared, State& state,
                                      const AttentionRange& range, std::uint64_t first_key, std::uint64_t window,
                                      float scale) {
  block.lanes([&](int thread) {
    auto& mine = state[thread];
    ROPEWALK_UNROLL
    for (int i = 0; i < Tile::kRows; ++i) {
      const std::uint64_t position = range.position + std::uint64_t(thread / 16 + 16 * i);
      mine.largest[i] = -INFINITY;
      ROPEWALK_UNROLL
      for (int j = 0; j < Tile::kColumns; ++j) {
        const std::uint64_t key = first_key + std::uint64_t(thread % 16 + 16 * j);
        if (key > position || (window != 0 && key + window <= position)) mine.scores[i][j] = -INFINITY;
        mine.largest[i] = std::fmax(mine.largest[i], mine.scores[i][j]);
      }
    }
  });
  ROPEWALK_UNROLL
  for (int i = 0; i < Tile::kRows; ++i)
    block.template group_max<16>([&](int thread) -> float& { return state[thread].largest[i]; });
  block.each([&](int thread) {
    auto& mine = state[thread];
    ROPEWALK_UNROLL
    for (int i = 0; i < Tile::kRows; ++i) {
      const float max = std::fmax(mine.max[i], mine.largest[i] * scale), shrink = std::exp(mine.max[i] - max);
      mine.max[i] = max;
      mine.sum[i] *= double(shrink);
      ROPEWALK_UNROLL
      for (int j = 0; j < Tile::kColumns; ++j) {
        const float weight = std::exp(mine.scores[i][j] * scale - max);
        mine.sum[i] += double(weight);
        shared.weights[(thread / 16 + 16 * i) * Tile::kWeightStride + thread % 16 + 16 * j] = weight;
      }
      ROPEWALK_UNROLL
      for (int c = 0; c < Tile::kGroups * 4; ++c) mine.out[i][c] *= shrink;
    }
  });
}

/// Ends with a barrier.
template <class Tile, class Block, class State>
ROPEWALK_DEVICE void value_f32_tile(const Block& block, const typename Tile::Shared& shared, State& state) {
  block.each([&](int thread) {
    const int ty = thread / 16, tx = thread % 16;
    auto& mine = state[thread];
    for (int key = 0; key < Tile::kKeys; ++key) {
      ROPEWALK_UNROLL
      for (int m = 0; m < Tile::kGroups; ++m) {
        float v[4];
        ROPEWALK_UNROLL
        for (int e = 0; e < 4; ++e) v[e] = shared.kv[key * Tile::kStride + 64 * m + 4 * tx + e];
        ROPEWALK_UNROLL
        for (int i = 0; i < Tile::kRows; ++i) {
          const float weight = shared.weights[(ty + 16 * i) * Tile::kWeightStride + key];
          ROPEWALK_UNROLL
          for (int e = 0; e < 4; ++e) mine.out[i][4 * m + e] = std::fma(weight, v[e], mine.out[i][4 * m + e]);
        }
      }
    }
  });
}

template <class Tile, class Block>
requires(sizeof(typename Tile::Element) == sizeof(float)) ROPEWALK_DEVICE
    void attention_block(const Block& block, const AttentionArgs<float>& args, typename Tile::Shared& shared) {
  const AttentionRange range = attention_range(args, block.grid_x() - 1 - block.x(), Tile::kQueries, Tile::kKeys);
  const std::uint64_t kv_head = block.y() / (args.n_heads / args.n_kv_heads);
  const float* k = args.k + block.z() * args.kv_window + kv_head * args.head_dim;
  const float* v = args.v + block.z() * args.kv_window + kv_head * args.head_dim;
  const int head_dim = int(args.head_dim);

  typename Block::template PerThread<typename Tile::State> state(block);
  block.lanes([&](int thread) {
    ROPEWALK_UNROLL
    for (int i = 0; i < Tile::kRows; ++i) {
      // A sink is a score that was seen first: one thread of a row's sixteen counts it.
      state[thread].max[i] = args.sinks ? args.sinks[block.y()] : -1e30f;
      state[thread].sum[i] = args.sinks && thread % 16 == 0 ? 1.0 : 0.0;
      ROPEWALK_UNROLL
      for (int c = 0; c < Tile::kGroups * 4; ++c) state[thread].out[i][c] = 0;
    }
  });
  load_f32_tile<Tile, Tile::kQueries>(
      block, shared.q, args.q + block.z() * args.q_window + range.row * args.q_row + block.y() * args.head_dim,
      args.q_row, range.rows, head_dim);
  for (std::uint64_t key_tile = range.begin; key_tile < range.end; ++key_tile) {
    const std::uint64_t first = key_tile * Tile::kKeys;
    load_f32_tile<Tile, Tile::kKeys>(block, shared.kv, k + first * args.kv_row, args.kv_row, range.keys_total - first,
                                     head_dim);
    score_f32_tile<Tile>(block, shared, state, head_dim);
    // its barrier: every thread is done with the keys
    softmax_f32_tile<Tile>(block, shared, state, range, first, args.window, args.scale);
    load_f32_tile<Tile, Tile::kKeys>(block, shared.kv, v + first * args.kv_row, args.kv_row, range.keys_total - first,
                                     head_dim);
    value_f32_tile<Tile>(block, shared, state);
  }
  ROPEWALK_UNROLL
  for (int i = 0; i < Tile::kRows; ++i)
    block.template group_sum<16>([&](int thread) -> double& { return state[thread].sum[i]; });
  float* out = args.out + block.z() * args.out_window + block.y() * args.head_dim;
  block.lanes([&](int thread) {
    ROPEWALK_UNROLL
    for (int i = 0; i < Tile::kRows; ++i) {
      const auto row = std::uint64_t(thread / 16 + 16 * i);
      if (row >= range.rows) continue;
      const double inverse = 1.0 / state[thread].sum[i];
      float* at = out + (range.row + row) * args.out_row;
      ROPEWALK_UNROLL
      for (int c = 0; c < Tile::kGroups * 4; ++c) {
        const int channel = 64 * (c / 4) + thread % 16 * 4 + c % 4;
        if (channel < head_dim) at[channel] = float(double(state[thread].out[i][c]) * inverse);
      }
      if (args.lse && thread % 16 == 0)
        args.lse[(block.z() * args.n_heads + block.y()) * args.rows + range.row + row] =
            float(double(state[thread].max[i]) + std::log(state[thread].sum[i]));
    }
  });
}

}  // namespace ropewalk::verify
