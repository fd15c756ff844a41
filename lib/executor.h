#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "lib/lazy_tensor.h"
#include "lib/pending_file.h"

namespace ropewalk {

/// Where one encoding of a tensor goes: whole rows of `dtype`, back to back from offset_bytes.
struct Sink {
  DType dtype;
  PendingFile* file;
  std::uint64_t offset_bytes;
  bool refuse_overflow = false;  // f16: a finite value past 65504 is Error(bad_input) naming tensor and element, not infinity
};

/// One tensor and every output that wants it: its rows are produced once and encoded for each sink.
struct StreamItem {
  TensorPtr tensor;
  std::vector<Sink> sinks;
};

struct StreamOptions {
  int threads = 0;                                // 0: all the process may use (cgroup-aware)
  std::uint64_t block_bytes = std::uint64_t{1} << 20;  // of f32 values per row block and thread: read, converted and written while in the L2 cache
  std::function<void(std::uint64_t rows_bytes)> progress;  // after each block: stored bytes of the source rows done; any thread, serialised
  std::function<bool()> cancelled;                // polled before each block; any thread, serialised
};

/// Streams every item to its sinks: blocks of rows in parallel, in any order, the same bytes whatever the thread count.
/// A sink whose dtype is the tensor's and whose tensor has_raw() receives the raw bytes; otherwise the value is rounded once from
/// the widest type offered (past the largest finite it becomes infinity: put a cast() under the sink where that is to be refused).
/// Tensors are prepared when their first block comes and released after their last, in order of the items: at most one more than `threads` are
/// prepared at once. Memory: that plus threads x a few blocks (a block is at least row_unit rows, so a single row is never cut).
/// The first exception of any block is rethrown after all threads stopped; Cancelled if `cancelled` returned true. Nothing is finished here: the
/// caller finishes the files. Error(unsupported) before any work if a sink's encoding cannot be written or does not fit the row.
void stream(const std::vector<StreamItem>& items, const StreamOptions& options);

/// CPUs this process may use: the smallest of affinity mask and cgroup quota (v1 and v2), at least 1.
int available_threads();

}  // namespace ropewalk
