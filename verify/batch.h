#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "verify/sweep.h"

namespace ropewalk::verify {

/// Consecutive positions of one window: rows [first_row, first_row + rows) of the residual, in which windows stand one
/// after another.
struct Stretch {
  std::size_t window, first_position, rows, first_row;
  std::size_t cache;  // which key-value cache of the group is the window's
};
/// What is computed at once: consecutive rows.
using Chunk = std::vector<Stretch>;

/// Tokens of a chunk at most: what activations are allocated for. Does not change a bit of any result.
inline constexpr std::size_t kChunkRows = 4096;

/// Short windows share a chunk; a long window is cut into several, in order, and then has the caches for itself. With
/// three rows a chunk and more, no piece of a longer window is a single row: libraries have kernels of their own for
/// one row (cuda/cudnn_sdpa.h), and whether a window ended in one would hang on the memory there is.
std::vector<Chunk> plan_chunks(std::span<const std::size_t> window_lengths, std::size_t chunk_rows = kChunkRows);

}  // namespace ropewalk::verify
