#pragma once

#include <cstdint>

#include "verify/cuda/block.h"
#include "verify/cuda/element.h"
#include "verify/cuda/tile_copy.h"

// out = x w^T on tensor cores (mma.sync m16n8k16), where cuBLASLt is missing, and to hold it against.
//   block x: kRows rows of x; y: kColumns rows of w (columns of out)
//   warp w of 4: rows 64 (w / 2) .. + 63 of the tile, columns 64 (w % 2) .. + 63: 4 groups of 16 rows, 8 of 8 columns
// The depth is taken 64 at a time from 0 on; the next piece is on its way while one is multiplied: one barrier for
// each. Past the edges stand zeros. A sum's bits depend on its row and column of the operands alone.
namespace ropewalk::verify {

template <class Element, class Out>
struct GemmArgs {
  const Element* x;  // [rows, depth]
  std::uint64_t x_stride;
  const Element* w;  // [columns, depth]
  std::uint64_t w_stride;
  Out* out;  // [rows, columns]
  std::uint64_t out_stride;
  std::uint64_t rows, columns, depth;
  bool accumulate;  // out += instead of out =
  bool vectors;     // rows of x and w start on 16 bytes and depth is a multiple of 8
};

struct GemmTile {
  static constexpr int kRows = 128, kColumns = 128, kDepth = 64, kThreads = 128;
  static constexpr int kGroups = 4, kColumnGroups = 8;  // of a warp
  template <class Element>
  struct Shared {
    alignas(128) Element x[2][kRows * kDepth];
    alignas(128) Element w[2][kColumns * kDepth];
  };
  struct State {
    float sums[kGroups][kColumnGroups][4];
    std::uint32_t a[kGroups][4], b[4];
  };
};

template <class Element, class Block, class State>
ROPEWALK_DEVICE void multiply_tile(const Block& block, const Element* x, const Element* w, State& state) {
  using T = GemmTile;
  ROPEWALK_UNROLL
  for (int depth = 0; depth < T::kDepth / 16; ++depth) {
    ROPEWALK_UNROLL
    for (int group = 0; group < T::kGroups; ++group)
      block.load_matrices([&](int thread) { return state[thread].a[group]; },
                          [&](int thread) {
                            const int lane = thread % 32, warp = thread / 32;
                            return x +
                                   swizzled<T::kDepth>(warp / 2 * 64 + group * 16 + lane % 16, 2 * depth + lane / 16);
                          });
    ROPEWALK_UNROLL
    for (int n = 0; n < T::kColumnGroups; n += 2) {
      block.load_matrices([&](int thread) { return state[thread].b; },
                          [&](int thread) {
                            const int lane = thread % 32, warp = thread / 32;
                            return w + swizzled<T::kDepth>(warp % 2 * 64 + 8 * n + lane % 8 + lane / 16 * 8,
                                                           2 * depth + lane / 8 % 2);
                          });
      ROPEWALK_UNROLL
      for (int group = 0; group < T::kGroups; ++group) ROPEWALK_UNROLL
      for (int half = 0; half < 2; ++half)
        block.template mma<Element>([&](int thread) { return state[thread].sums[group][n + half]; },
                                    [&](int thread) { return state[thread].a[group]; },
                                    [&](int thread) { return state[thread].b + 2 * half; });
    }
  }
}

template <class Element, class Out, class Block>
ROPEWALK_DEVICE void gemm_block(const Block& block, const GemmArgs<Element, Out>& args,
                                GemmTile::Shared<Element>& shared) {
  using T = GemmTile;
  const std::uint64_t first_row = block.x() * T::kRows, first_column = block.y() * T::kColumns;
  const Element* x = args.x + first_row * args.x_stride;     // x[first_row, :]
  const Element* w = args.w + first_column * args.w_stride;  // w[first_column, :]
  const auto copy = [&](std::uint64_t depth) {
    const int at = int(depth / T::kDepth % 2);
    copy_tile<T::kRows, T::kDepth, T::kThreads>(block, shared.x[at], x + depth, args.x_stride, args.rows - first_row,
                                                args.depth - depth, args.vectors);
    copy_tile<T::kColumns, T::kDepth, T::kThreads>(block, shared.w[at], w + depth, args.w_stride,
                                                   args.columns - first_column, args.depth - depth, args.vectors);
  };
  typename Block::template PerThread<T::State> state(block);
  block.lanes([&](int thread) {
    ROPEWALK_UNROLL
    for (int group = 0; group < T::kGroups; ++group) ROPEWALK_UNROLL
    for (int n = 0; n < T::kColumnGroups; ++n) ROPEWALK_UNROLL
    for (int i = 0; i < 4; ++i) state[thread].sums[group][n][i] = 0;
  });
  if (args.depth > 0) copy(0);
  for (std::uint64_t depth = 0; depth < args.depth; depth += T::kDepth) {
    block
        .finish_copies();  // this piece has arrived, and every warp is done with the one before, whose place the next takes
    if (depth + T::kDepth < args.depth) copy(depth + T::kDepth);
    const int at = int(depth / T::kDepth % 2);
    multiply_tile(block, shared.x[at], shared.w[at], state);
  }
  block.lanes([&](int thread) {
    const int lane = thread % 32, warp = thread / 32;
    ROPEWALK_UNROLL
    for (int group = 0; group < T::kGroups; ++group) ROPEWALK_UNROLL
    for (int half = 0; half < 2; ++half) {
      const std::uint64_t row = first_row + std::uint64_t(warp / 2 * 64 + group * 16 + lane / 4 + half * 8);
      if (row >= args.rows) continue;
      Out* out = args.out + row * args.out_stride;
      ROPEWALK_UNROLL
      for (int n = 0; n < T::kColumnGroups; ++n) ROPEWALK_UNROLL
      for (int i = 0; i < 2; ++i) {
        const std::uint64_t column = first_column + std::uint64_t(warp % 2 * 64 + 8 * n + lane % 4 * 2 + i);
        const float sum = state[thread].sums[group][n][2 * half + i];
        if (column < args.columns) out[column] = from_float<Out>(args.accumulate ? to_float(out[column]) + sum : sum);
      }
    }
  });
}

}  // namespace ropewalk::verify
