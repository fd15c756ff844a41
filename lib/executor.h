#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "lib/lazy_tensor.h"
#include "lib/pending_file.h"
#include "lib/recipes.h"
#include "lib/value_range.h"

namespace ropewalk {

class EncodingErrors;  // lib/encoding_error.h

/// Where one encoding of a tensor goes: whole rows of `dtype`, back to back from offset_bytes.
struct Sink {
  DType dtype;
  PendingFile* file;  // nullptr: nowhere, it is encoded to be measured
  std::uint64_t offset_bytes;
  OutOfRange out_of_range = OutOfRange::ieee;       // of values that have to be encoded; raw bytes pass as they are
  std::shared_ptr<const RowOrder> order = nullptr;  // rows leave in this order of the tensor's
  // what block encoders weigh errors by: as many as the tensor has columns, or that many for each of its experts (equal
  // parts of its rows, in order)
  std::shared_ptr<const std::vector<float>> importances = nullptr;
  EncodingErrors* errors = nullptr;  // of each block of rows; raw bytes that pass have none. Rows as they leave
};

/// One tensor and every output that wants it: its rows are produced once and encoded for each sink.
struct StreamItem {
  TensorPtr tensor;
  std::vector<Sink> sinks;
};

/// Collects what several writers want, so that one pass feeds them all.
class StreamPlan {
 public:
  /// Joins the item of the same tensor object, or of the tensor it is a re-ordering of.
  void add(const TensorPtr& tensor, Sink sink);
  const std::vector<StreamItem>& items() const noexcept { return items_; }

 private:
  std::vector<StreamItem> items_;
  std::unordered_map<const LazyTensor*, std::size_t> index_;
};

/// What a pass met in one tensor that its owner should hear of.
struct StreamFinding {
  std::string tensor;
  std::uint64_t not_finite = 0;  // infinities and NaN
  std::uint64_t first_row = 0;   // where the first of them stands
  std::uint64_t clamped = 0;     // values clamped into the range of a narrower type, in all outputs
  std::uint64_t overflowed = 0;  // finite values written as infinities (OutOfRange::ieee), in all outputs
};

struct StreamOptions {
  int threads = 0;  // 0: all the process may use (cgroup-aware)
  // of f32 values per row block and thread: read, converted and written while in the L2 cache
  std::uint64_t block_bytes = std::uint64_t{1} << 20;
  // after each block: stored bytes of the source rows done; any thread, serialised
  std::function<void(std::uint64_t rows_bytes)> progress;
  // after the pass, from the caller's thread, in order of the items
  std::function<void(const StreamFinding&)> finding = nullptr;
  // what prepared tensors may cost together; one that costs more is prepared alone
  std::uint64_t prepared_bytes = std::uint64_t{256} << 20;
};

/// Streams every item to its sinks: blocks of rows in parallel, in any order, the same bytes whatever the thread count.
/// A sink whose dtype is the tensor's and whose tensor has_raw() receives the raw bytes; otherwise the value is rounded
/// once from the widest type offered; Sink::out_of_range says what becomes of values that do not fit. Infinities and NaN
/// are counted in all that can be decoded, raw bytes too.
/// Tensors are prepared when their first block comes and released after their last, in order of the items: at most one
/// more than `threads` are prepared at once, and no more than options.prepared_bytes of them. Memory: that plus threads x
/// a few blocks (a block is at least row_unit rows, so a single row is never cut).
/// The first exception of any block is rethrown after all threads stopped. Nothing is finished here: the caller finishes
/// the files. Error(unsupported) before any work if a sink's encoding cannot be written or does not fit the row.
void stream(const std::vector<StreamItem>& items, const StreamOptions& options);

/// CPUs this process may use: the smallest of affinity mask and cgroup quota (v1 and v2), at least 1.
int available_threads();

}  // namespace ropewalk
