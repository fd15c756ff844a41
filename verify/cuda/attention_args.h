#pragma once

#include <cstdint>

#ifndef __CUDACC__
#include "verify/accelerator.h"
#endif

namespace ropewalk::verify {

/// Widest head the device bodies take.
inline constexpr std::uint32_t kMaxDeviceHeadDim = 256;

/// Attention of all heads for consecutive positions of windows of one length. Element: float, Bf16 or Fp16. Offsets are
/// in elements; a head's channels are side by side, heads one after the other: channel c of head h of a row is at h *
/// head_dim + c.
template <class Element>
struct AttentionArgs {
  const Element* q;  // query `row` of window w: q + w * q_window + row * q_row
  Element* out;      // likewise; may be q itself
  // key of position j of window w: k + w * kv_window + j * kv_row; positions 0 .. first_position + rows - 1
  const Element* k;
  const Element* v;
  // [windows, n_heads, rows] or null: ln of the sum of e^score over what a row sees (and its sink)
  float* lse = nullptr;
  const float* sinks = nullptr;  // [n_heads] or null: one more score in a row's sum, with no value to it
  std::uint64_t q_row, q_window, out_row, out_window, kv_row, kv_window;
  std::uint64_t rows;            // queries of each window
  std::uint64_t first_position;  // of query 0; those before are earlier chunks
  std::uint64_t window = 0;      // keys a query sees, itself included; 0: all
  std::uint32_t n_heads, n_kv_heads, head_dim;
  std::uint32_t vectors = 0;  // set by the launch: rows and heads start on 16 bytes
  float scale;                // 1 / sqrt(head_dim)
};

#ifndef __CUDACC__
/// What attention() takes of what a sweep says (accelerator.h).
template <class Element>
AttentionArgs<Element> attention_args(const DeviceAttention& a) {
  AttentionArgs<Element> out{};
  out.q = reinterpret_cast<const Element*>(a.q.data), out.out = reinterpret_cast<Element*>(a.out.data);
  out.k = reinterpret_cast<const Element*>(a.keys.data), out.v = reinterpret_cast<const Element*>(a.values.data);
  out.q_row = a.q.stride, out.q_window = a.rows * a.q.stride, out.out_row = a.out.stride,
  out.out_window = a.rows * a.out.stride;
  out.kv_row = a.keys.stride, out.kv_window = a.kv_rows * a.keys.stride;
  out.rows = a.rows, out.first_position = a.first_position, out.window = a.sliding_window;
  out.n_heads = static_cast<std::uint32_t>(a.n_heads), out.n_kv_heads = static_cast<std::uint32_t>(a.n_kv_heads),
  out.head_dim = static_cast<std::uint32_t>(a.head_dim);
  out.scale = a.scale;
  return out;
}
#endif

/// What the query tile of a block sees: its rows, their positions, the key tiles [begin, end) of `keys` positions each
/// that at least one of them sees. Key tiles are cut from position 0 on, whatever the chunk: a row's bits depend on its
/// position and the numbers alone.
struct AttentionRange {
  std::uint64_t row, rows;   // of the window's queries
  std::uint64_t position;    // of the first row
  std::uint64_t begin, end;  // key tiles
  std::uint64_t keys_total;  // positions that exist in memory
};
template <class Element>
#ifdef __CUDACC__
__host__ __device__
#endif
    constexpr AttentionRange
    attention_range(const AttentionArgs<Element>& args, std::uint64_t tile, std::uint64_t tile_rows,
                    std::uint64_t tile_keys) {
  AttentionRange out{};
  out.row = tile * tile_rows;
  out.rows = args.rows - out.row < tile_rows ? args.rows - out.row : tile_rows;
  out.position = args.first_position + out.row;
  out.keys_total = out.position + out.rows;  // the last row sees as far as itself
  out.begin = args.window != 0 && out.position + 1 > args.window ? (out.position + 1 - args.window) / tile_keys : 0;
  out.end = (out.keys_total + tile_keys - 1) / tile_keys;
  return out;
}

/// Which columns of a tile of keys a query row sees, in numbers that fit a register: those in [from + row, to + row].
struct SeenColumns {
  int from, to;
  bool all;  // every row sees every column
};
#ifdef __CUDACC__
__host__ __device__
#endif
    constexpr SeenColumns
    seen_columns(const AttentionRange& range, std::uint64_t first_key, std::uint64_t tile_keys, std::uint64_t window) {
  const auto keys = static_cast<std::int64_t>(tile_keys), rows = static_cast<std::int64_t>(range.rows);
  // column of row 0's own key; > -rows, or no row would see the tile
  const auto own = static_cast<std::int64_t>(range.position) - static_cast<std::int64_t>(first_key);
  const std::int64_t behind =
      window == 0 || window > range.position + range.rows ? -rows : own + 1 - static_cast<std::int64_t>(window);
  SeenColumns out{};
  out.to = static_cast<int>(own < keys ? own : keys);
  out.from = static_cast<int>(behind > -rows ? behind : -rows);  // below, no row starts inside the tile
  out.all = own >= keys - 1 && behind + rows - 1 <= 0;
  return out;
}

}  // namespace ropewalk::verify
