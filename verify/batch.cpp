#include "verify/batch.h"

#include <algorithm>

namespace ropewalk::verify {

std::vector<Chunk> plan_chunks(std::span<const std::size_t> window_lengths, std::size_t chunk_rows) {
  std::vector<Chunk> chunks;
  std::size_t filled = chunk_rows, row = 0;  // as if the chunk before were full
  for (std::size_t window = 0; window < window_lengths.size(); ++window) {
    const std::size_t length = window_lengths[window];
    if (filled + length > chunk_rows) filled = 0, chunks.emplace_back();
    for (std::size_t position = 0; position < length;) {
      if (filled == chunk_rows) filled = 0, chunks.emplace_back();
      const std::size_t left = length - position, room = chunk_rows - filled;
      const std::size_t rows = left == room + 1 && room > 2 ? room - 1 : std::min(left, room);
      chunks.back().push_back({window, position, rows, row, chunks.back().size()});
      position += rows, row += rows;
      filled = rows < left ? chunk_rows : filled + rows;  // what goes on does so in a chunk of its own
    }
    if (length > chunk_rows) filled = chunk_rows;  // the next window starts a group of its own
  }
  std::erase_if(chunks, [](const Chunk& chunk) { return chunk.empty(); });
  return chunks;
}

}  // namespace ropewalk::verify
