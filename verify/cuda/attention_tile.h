#pragma once

#include <cmath>
#include <cstdint>

#include "verify/cuda/attention_args.h"
#include "verify/cuda/block.h"
#include "verify/cuda/element.h"
#include "verify/cuda/tile_copy.h"

// Attention on tensor cores (mma.sync m16n8k16) with an online softmax (arXiv:2307.08691, algorithm 1): for what cuDNN
// does not do, or where it is missing.
//   block x: a tile of kQueries queries, the last tile (which sees the most keys) first; y: the head; z: the window
//   warp w: kGroups groups of 16 queries from 16 kGroups w on, all channels; what it loads of keys and values serves
//     all its groups
//   a lane: of every 8 columns of a group's scores or sums, columns 2 (lane % 4) and the next, of rows lane / 4 and
//     lane / 4 + 8
// While scores are taken the values are on their way from global memory, and the next keys while values are summed: two
// barriers for each tile of keys.
// kWidth: head_dim rounded up to what tiles are laid out for; channels past head_dim are zeros and no time is spent on
// whole groups of them.
namespace ropewalk::verify {

template <class ElementT, int kWidthT, int kGroupsT, int kKeysT>
struct AttentionTile {
  using Element = ElementT;
  static constexpr int kWidth = kWidthT, kGroups = kGroupsT, kKeys = kKeysT, kWarps = 4, kThreads = 32 * kWarps,
                       kQueries = 16 * kGroups * kWarps;
  static_assert(kWidth % 64 == 0 && kKeys % 16 == 0);

  /// The row of the tile that a lane's place `half` (0, 1) of a group is.
  static constexpr int row_of(int thread, int group, int half) {
    return (thread / 32 * kGroups + group) * 16 + thread % 32 / 4 + half * 8;
  }

  struct Shared {
    alignas(128) Element q[kQueries * kWidth];
    alignas(128) Element k[kKeys * kWidth];
    alignas(128) Element v[kKeys * kWidth];
  };
  /// What a lane keeps.
  struct State {
    // of each 8 channels: row lane / 4, its two columns; row lane / 4 + 8, its two columns
    float out[kGroups][kWidth / 8][4];
    float scores[kGroups][kKeys / 8][4];  // likewise of each 8 keys
    float max[kGroups][2];                // of scale * score, in units of ln 2; finite while nothing has been seen
    float sum[kGroups][2];                // of this lane's columns
    std::uint32_t a[kGroups][4], b[4];
  };
  struct Largest {
    float of[kGroups][2];
  };
};

/// scores = q k^T.
template <class Tile, class Block, class State>
ROPEWALK_DEVICE void score_tile(const Block& block, typename Tile::Shared& shared, State& state, int head_dim) {
  block.lanes([&](int thread) {
    ROPEWALK_UNROLL
    for (int group = 0; group < Tile::kGroups; ++group) ROPEWALK_UNROLL
    for (int n = 0; n < Tile::kKeys / 8; ++n) ROPEWALK_UNROLL
    for (int i = 0; i < 4; ++i) state[thread].scores[group][n][i] = 0;
  });
  ROPEWALK_UNROLL
  for (int depth = 0; depth < Tile::kWidth / 16; ++depth) {
    if (16 * depth >= head_dim) break;
    // a: matrices (rows 0-7, channels 0-7), (rows 8-15, same), (rows 0-7, channels 8-15), (rows 8-15, same)
    ROPEWALK_UNROLL
    for (int group = 0; group < Tile::kGroups; ++group)
      block.load_matrices([&](int thread) { return state[thread].a[group]; },
                          [&](int thread) {
                            const int lane = thread % 32;
                            return shared.q +
                                   swizzled<Tile::kWidth>((thread / 32 * Tile::kGroups + group) * 16 + lane % 16,
                                                          2 * depth + lane / 16);
                          });
    ROPEWALK_UNROLL
    for (int n = 0; n < Tile::kKeys / 8; n += 2) {
      // b of two groups of 8 keys: (keys 0-7, channels 0-7), (same, channels 8-15), (keys 8-15, channels 0-7), (same,
      // channels 8-15)
      block.load_matrices([&](int thread) { return state[thread].b; },
                          [&](int thread) {
                            const int lane = thread % 32;
                            return shared.k +
                                   swizzled<Tile::kWidth>(8 * n + lane % 8 + lane / 16 * 8, 2 * depth + lane / 8 % 2);
                          });
      ROPEWALK_UNROLL
      for (int group = 0; group < Tile::kGroups; ++group) ROPEWALK_UNROLL
      for (int half = 0; half < 2; ++half)
        block.template mma<typename Tile::Element>([&](int thread) { return state[thread].scores[group][n + half]; },
                                                   [&](int thread) { return state[thread].a[group]; },
                                                   [&](int thread) { return state[thread].b + 2 * half; });
    }
  }
}

/// scores become e^(scale * score - maximum), the maximum rising and what was summed shrinking with it. Keys that a row
/// does not see: 0.
template <class Tile, class Block, class State>
ROPEWALK_DEVICE void softmax_scores(const Block& block, State& state, const AttentionRange& range,
                                    std::uint64_t first_key, std::uint64_t window, float scale_log2) {
  const SeenColumns seen = seen_columns(range, first_key, Tile::kKeys, window);
  typename Block::template PerThread<typename Tile::Largest> largest(block);
  block.lanes([&](int thread) {
    ROPEWALK_UNROLL
    for (int group = 0; group < Tile::kGroups; ++group) ROPEWALK_UNROLL
    for (int half = 0; half < 2; ++half) {
      const int row = Tile::row_of(thread, group, half);
      float max = -INFINITY;
      ROPEWALK_UNROLL
      for (int n = 0; n < Tile::kKeys / 8; ++n) ROPEWALK_UNROLL
      for (int column = 0; column < 2; ++column) {
        float& score = state[thread].scores[group][n][2 * half + column];
        const int key = 8 * n + thread % 4 * 2 + column;
        if (!seen.all && (key > seen.to + row || key < seen.from + row)) score = -INFINITY;
        max = std::fmax(max, score);
      }
      largest[thread].of[group][half] = max;
    }
  });
  ROPEWALK_UNROLL
  for (int group = 0; group < Tile::kGroups; ++group) ROPEWALK_UNROLL
  for (int half = 0; half < 2; ++half)
    block.template group_max<4>([&](int thread) -> float& { return largest[thread].of[group][half]; });
  block.lanes([&](int thread) {
    ROPEWALK_UNROLL
    for (int group = 0; group < Tile::kGroups; ++group) ROPEWALK_UNROLL
    for (int half = 0; half < 2; ++half) {
      const float old = state[thread].max[group][half],
                  max = std::fmax(old, largest[thread].of[group][half] * scale_log2), shrink = block.exp2(old - max);
      float sum = 0;
      ROPEWALK_UNROLL
      for (int n = 0; n < Tile::kKeys / 8; ++n) ROPEWALK_UNROLL
      for (int column = 0; column < 2; ++column) {
        float& score = state[thread].scores[group][n][2 * half + column];
        score = block.exp2(std::fma(score, scale_log2, -max));
        sum += score;
      }
      state[thread].max[group][half] = max;
      state[thread].sum[group][half] = std::fma(state[thread].sum[group][half], shrink, sum);
      ROPEWALK_UNROLL
      for (int n = 0; n < Tile::kWidth / 8; ++n) ROPEWALK_UNROLL
      for (int column = 0; column < 2; ++column) state[thread].out[group][n][2 * half + column] *= shrink;
    }
  });
}

/// out += weights v. The lane that holds a score as part of a sum holds it as part of an operand too: weights never
/// leave the registers.
template <class Tile, class Block, class State>
ROPEWALK_DEVICE void value_tile(const Block& block, typename Tile::Shared& shared, State& state, int head_dim) {
  ROPEWALK_UNROLL
  for (int depth = 0; depth < Tile::kKeys / 16; ++depth) {
    block.lanes([&](int thread) {
      ROPEWALK_UNROLL
      for (int group = 0; group < Tile::kGroups; ++group) ROPEWALK_UNROLL
      for (int i = 0; i < 4; ++i) {  // keys 0-7 of both rows, then keys 8-15
        const float* pair = state[thread].scores[group][2 * depth + i / 2] + i % 2 * 2;
        state[thread].a[group][i] = pack_two<typename Tile::Element>(pair[0], pair[1]);
      }
    });
    ROPEWALK_UNROLL
    for (int n = 0; n < Tile::kWidth / 8; n += 2) {
      if (8 * n >= head_dim) break;
      // b of two groups of 8 channels, transposed: (keys 0-7, channels 0-7), (keys 8-15, same), (keys 0-7, channels
      // 8-15), (keys 8-15, same)
      block.load_matrices_transposed([&](int thread) { return state[thread].b; },
                                     [&](int thread) {
                                       const int lane = thread % 32;
                                       return shared.v + swizzled<Tile::kWidth>(16 * depth + lane % 16, n + lane / 16);
                                     });
      ROPEWALK_UNROLL
      for (int group = 0; group < Tile::kGroups; ++group) ROPEWALK_UNROLL
      for (int half = 0; half < 2; ++half)
        block.template mma<typename Tile::Element>([&](int thread) { return state[thread].out[group][n + half]; },
                                                   [&](int thread) { return state[thread].a[group]; },
                                                   [&](int thread) { return state[thread].b + 2 * half; });
    }
  }
}

/// Divides by the sums and writes rows and their ln-sum-exp.
template <class Tile, class Block, class State>
ROPEWALK_DEVICE void write_tile(const Block& block, const AttentionArgs<typename Tile::Element>& args,
                                const AttentionRange& range, State& state) {
  ROPEWALK_UNROLL
  for (int group = 0; group < Tile::kGroups; ++group) ROPEWALK_UNROLL
  for (int half = 0; half < 2; ++half)
    block.template group_sum<4>([&](int thread) -> float& { return state[thread].sum[group][half]; });
  typename Tile::Element* out = args.out + block.z() * args.out_window + block.y() * args.head_dim;
  block.lanes([&](int thread) {
    ROPEWALK_UNROLL
    for (int group = 0; group < Tile::kGroups; ++group) ROPEWALK_UNROLL
    for (int half = 0; half < 2; ++half) {
      const auto row = std::uint64_t(Tile::row_of(thread, group, half));
      if (row >= range.rows) continue;
      const float sum = state[thread].sum[group][half], inverse = 1.0f / sum;
      typename Tile::Element* at = out + (range.row + row) * args.out_row;
      ROPEWALK_UNROLL
      for (int n = 0; n < Tile::kWidth / 8; ++n) ROPEWALK_UNROLL
      for (int column = 0; column < 2; ++column) {
        const int channel = 8 * n + thread % 4 * 2 + column;
        if (channel < int(args.head_dim))
          at[channel] = from_float<typename Tile::Element>(state[thread].out[group][n][2 * half + column] * inverse);
      }
      if (args.lse && thread % 4 == 0)
        args.lse[(block.z() * args.n_heads + block.y()) * args.rows + range.row + row] =
            0.69314718f * (state[thread].max[group][half] + std::log2(sum));
    }
  });
}

template <class Tile, class Block>
requires(sizeof(typename Tile::Element) == 2) ROPEWALK_DEVICE
    void attention_block(const Block& block, const AttentionArgs<typename Tile::Element>& args,
                         typename Tile::Shared& shared) {
  const AttentionRange range = attention_range(args, block.grid_x() - 1 - block.x(), Tile::kQueries, Tile::kKeys);
  const std::uint64_t kv_head = block.y() / (args.n_heads / args.n_kv_heads);
  const auto* k = args.k + block.z() * args.kv_window + kv_head * args.head_dim;
  const auto* v = args.v + block.z() * args.kv_window + kv_head * args.head_dim;
  const int head_dim = int(args.head_dim);
  const bool vectors = args.vectors != 0;
  const auto load_keys = [&](typename Tile::Element* tile, const typename Tile::Element* from, std::uint64_t key_tile) {
    const std::uint64_t first = key_tile * Tile::kKeys;
    copy_tile<Tile::kKeys, Tile::kWidth, Tile::kThreads>(block, tile, from + first * args.kv_row, args.kv_row,
                                                         range.keys_total - first, args.head_dim, vectors);
  };

  typename Block::template PerThread<typename Tile::State> state(block);
  block.lanes([&](int thread) {
    ROPEWALK_UNROLL
    for (int group = 0; group < Tile::kGroups; ++group) {
      ROPEWALK_UNROLL
      for (int n = 0; n < Tile::kWidth / 8; ++n) ROPEWALK_UNROLL
      for (int i = 0; i < 4; ++i) state[thread].out[group][n][i] = 0;
      ROPEWALK_UNROLL
      for (int half = 0; half < 2; ++half) {
        // A sink is a score that was seen first: one lane of a row's four counts it.
        state[thread].max[group][half] = args.sinks ? args.sinks[block.y()] * 1.44269504f : -1e30f;
        state[thread].sum[group][half] = args.sinks && thread % 4 == 0 ? 1.0f : 0.0f;
      }
    }
  });
  copy_tile<Tile::kQueries, Tile::kWidth, Tile::kThreads>(
      block, shared.q, args.q + block.z() * args.q_window + range.row * args.q_row + block.y() * args.head_dim,
      args.q_row, range.rows, args.head_dim, vectors);
  load_keys(shared.k, k, range.begin);
  for (std::uint64_t key_tile = range.begin; key_tile < range.end; ++key_tile) {
    block.finish_copies();  // keys have arrived, and every warp is done with the values of the tile before
    load_keys(shared.v, v, key_tile);
    score_tile<Tile>(block, shared, state, head_dim);
    softmax_scores<Tile>(block, state, range, key_tile * Tile::kKeys, args.window, args.scale * 1.44269504f);
    block.finish_copies();  // values have arrived, and every warp is done with the keys
    if (key_tile + 1 < range.end) load_keys(shared.k, k, key_tile + 1);
    value_tile<Tile>(block, shared, state, head_dim);
  }
  write_tile<Tile>(block, args, range, state);
}

}  // namespace ropewalk::verify
