#pragma once

#include <cstddef>
#include <optional>

#include "verify/kv_cache.h"

namespace ropewalk::verify {

inline constexpr std::size_t kMaxHeadDim = 512;
/// Keys per step of the online softmax. A constant: it decides where sums are cut, so it decides bits.
inline constexpr std::size_t kKeyTile = 512;
/// Query rows of one call at most: what its scratch holds.
inline constexpr std::size_t kQueryTile = 96;

/// Causal attention of one head for `rows` <= kQueryTile consecutive positions from first_position on; their keys and
/// values are in `cache` already.
///   out[r, :] = sum over positions j of softmax_j(q[r, :] . k[j, :] * scale) v[j, :],   j <= first_position + r, and j
///     > first_position + r - window
/// q, out: [rows, head_dim], `stride` floats apart; out may be q. Keys are taken in tiles of 512 from position 0 on
/// with an online softmax, never all scores at once.
/// A row's bits depend on its position and the numbers alone, not on which rows are computed with it.
struct Attention {
  const float* q;
  float* out;
  std::size_t stride;
  std::size_t rows, first_position;
  std::size_t kv_head;
  float scale;                                // 1 / sqrt(head_dim)
  std::optional<std::size_t> sliding_window;  // keys a query sees, itself included
};
void attention(const KvCache& cache, const Attention& args);

/// The definition: two passes over all scores of a row, in double. For tests.
void attention_reference(const KvCache& cache, const Attention& args);

}  // namespace ropewalk::verify
