#include "lib/executor.h"

#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/parallel_for.h>
#include <oneapi/tbb/task_arena.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "lib/convert.h"
#include "lib/error.h"

namespace ropewalk {
namespace {

/// Memory that grows and is never cleared: a block overwrites what it reads.
template <class T>
class Buffer {
 public:
  std::span<T> of(std::uint64_t n) {
    if (n > capacity_) {
      data_.reset();  // both at once would double the peak
      data_ = std::make_unique_for_overwrite<T[]>(n);
      capacity_ = n;
    }
    return {data_.get(), n};
  }

 private:
  std::unique_ptr<T[]> data_;
  std::uint64_t capacity_ = 0;
};

/// One worker's buffers, reused from block to block.
struct Scratch {
  Buffer<std::byte> raw, encoded;
  Buffer<float> narrow;
  Buffer<double> wide;
};

bool takes_raw(const LazyTensor& tensor, const Sink& sink) { return sink.dtype == tensor.dtype() && tensor.has_raw(); }

void check(const StreamItem& item) {
  const LazyTensor& tensor = *item.tensor;
  const auto refuse = [&](const std::string& problem, const char* fix) { throw Error(ErrorKind::unsupported, {}, "'" + tensor.name() + "' " + problem, fix); };
  for (const Sink& sink : item.sinks) {
    const std::string name(info(sink.dtype).name);
    if (!byte_size(sink.dtype, tensor.info().columns()))
      refuse("has rows of " + std::to_string(tensor.info().columns()) + " elements, not whole blocks of " + name, "choose another encoding for it");
    if (!takes_raw(tensor, sink) && !can_encode(sink.dtype)) refuse("cannot be encoded as " + name, "choose f32, f16, bf16 or q8_0");
  }
}

/// First element whose f16 is infinite though its value is not.
template <class Value>
void refuse_overflow(const LazyTensor& tensor, RowRange rows, std::span<const Value> values, std::span<const std::byte> halves) {
  bool any = false;
  for (std::size_t i = 0; i < values.size(); ++i) {  // no branch: the compiler vectorises it
    std::uint16_t bits;
    std::memcpy(&bits, halves.data() + 2 * i, 2);
    any |= (bits & 0x7fff) == 0x7c00;
  }
  if (!any) return;
  for (std::size_t i = 0; i < values.size(); ++i) {
    std::uint16_t bits;
    std::memcpy(&bits, halves.data() + 2 * i, 2);
    if ((bits & 0x7fff) != 0x7c00 || !std::isfinite(values[i])) continue;
    const std::uint64_t element = rows.begin * tensor.info().columns() + i;
    throw Error(ErrorKind::bad_input, {}, "'" + tensor.name() + "' holds " + std::to_string(values[i]) + " at element " + std::to_string(element) + ", f16 ends at 65504", "choose bf16 or f32");
  }
}

/// Produces the rows once and writes them to every sink.
void run_block(const StreamItem& item, RowRange rows, Scratch& scratch) {
  const LazyTensor& tensor = *item.tensor;
  const std::uint64_t elements = rows.size() * tensor.info().columns();
  const auto is_raw = [&](const Sink& sink) { return takes_raw(tensor, sink); };
  const bool any_raw = std::any_of(item.sinks.begin(), item.sinks.end(), is_raw);
  const bool all_raw = std::all_of(item.sinks.begin(), item.sinks.end(), is_raw);

  std::span<std::byte> raw;
  if (any_raw) tensor.read_raw(rows, raw = scratch.raw.of(rows.size() * tensor.info().row_bytes()));
  std::span<float> narrow;
  std::span<double> wide;
  if (!all_raw) {
    const bool from_raw = any_raw && can_decode(tensor.dtype());  // has_raw() promises the same values
    if (tensor.is_wide()) {
      wide = scratch.wide.of(elements);
      from_raw ? decode_f64(tensor.dtype(), raw, wide) : tensor.read_f64(rows, wide);
    } else {
      narrow = scratch.narrow.of(elements);
      from_raw ? decode_f32(tensor.dtype(), raw, narrow) : tensor.read_f32(rows, narrow);
    }
  }
  for (const Sink& sink : item.sinks) {
    const std::uint64_t row_bytes = byte_size(sink.dtype, tensor.info().columns()).value_or(0);
    std::span<const std::byte> bytes = raw;
    if (!is_raw(sink)) {
      const auto encoded = scratch.encoded.of(rows.size() * row_bytes);
      tensor.is_wide() ? encode_f64(sink.dtype, wide, encoded) : encode_f32(sink.dtype, narrow, encoded);
      if (sink.refuse_overflow && sink.dtype == DType::f16)
        tensor.is_wide() ? refuse_overflow<double>(tensor, rows, wide, encoded) : refuse_overflow<float>(tensor, rows, narrow, encoded);
      bytes = encoded;
    }
    sink.file->write(sink.offset_bytes + rows.begin * row_bytes, bytes);
  }
}

/// Hands out blocks in the order of the items, prepares and releases tensors, and collects what went wrong.
class Streamer {
 public:
  Streamer(const std::vector<StreamItem>& items, const StreamOptions& options) : items_(items), options_(options), rows_(items.size()), left_(items.size()) {
    for (std::size_t item = 0; item < items.size(); ++item) {
      check(items[item]);
      const TensorInfo& tensor = items[item].tensor->info();
      const std::uint64_t rows = rows_[item] = items[item].sinks.empty() || tensor.columns() == 0 ? 0 : tensor.rows();
      const std::uint64_t step = rows_per_block(*items[item].tensor);
      left_[item] = rows / step + (rows % step != 0);
    }
  }

  /// What each worker does until nothing is left.
  void work() {
    Scratch scratch;
    while (const auto block = next()) {
      const StreamItem& item = items_[block->item];
      try {
        item.tensor->prepare();
        run_block(item, block->rows, scratch);
        finished(*block);
      } catch (...) {
        failed(*block, std::current_exception());
      }
    }
  }

  void report() const {
    if (error_) std::rethrow_exception(error_);
    if (cancelled_) throw Cancelled();
  }

 private:
  struct Block {
    std::uint64_t number;  // in order of the items
    std::size_t item;
    RowRange rows;
  };

  std::uint64_t rows_per_block(const LazyTensor& tensor) const {
    const std::uint64_t unit = std::max<std::uint64_t>(1, tensor.row_unit());
    const std::uint64_t row_bytes = std::max<std::uint64_t>(1, tensor.info().columns()) * sizeof(float);
    return std::max<std::uint64_t>(1, options_.block_bytes / row_bytes / unit) * unit;
  }

  std::optional<Block> next() {
    const std::lock_guard lock(mutex_);
    if (stop_) return std::nullopt;
    if (options_.cancelled && options_.cancelled()) {
      cancelled_ = stop_ = true;
      return std::nullopt;
    }
    while (item_ < items_.size() && row_ >= rows_[item_]) {
      ++item_;
      row_ = 0;
    }
    if (item_ == items_.size()) return std::nullopt;
    const LazyTensor& tensor = *items_[item_].tensor;
    const RowRange rows{row_, row_ + std::min(rows_per_block(tensor), rows_[item_] - row_)};
    row_ = rows.end;
    return Block{number_++, item_, rows};
  }

  void finished(const Block& block) {
    const LazyTensor& tensor = *items_[block.item].tensor;
    bool last = false;
    {
      const std::lock_guard lock(mutex_);
      last = --left_[block.item] == 0;
    }
    if (last) tensor.release();
    if (options_.progress) {
      const std::lock_guard lock(progress_mutex_);
      options_.progress(block.rows.size() * tensor.info().row_bytes());
    }
  }

  void failed(const Block& block, std::exception_ptr error) {
    const std::lock_guard lock(mutex_);
    stop_ = true;
    if (error_ && error_block_ < block.number) return;  // of several, the one that stands first
    error_ = std::move(error);
    error_block_ = block.number;
  }

  const std::vector<StreamItem>& items_;
  const StreamOptions& options_;
  std::mutex mutex_, progress_mutex_;
  std::vector<std::uint64_t> rows_;  // of each item, 0 if there is nothing to do
  std::vector<std::uint64_t> left_;  // blocks of each item not finished yet
  std::size_t item_ = 0;             // next block to hand out
  std::uint64_t row_ = 0, number_ = 0;
  bool stop_ = false, cancelled_ = false;
  std::exception_ptr error_;
  std::uint64_t error_block_ = 0;
};

}  // namespace

void stream(const std::vector<StreamItem>& items, const StreamOptions& options) {
  const int threads = options.threads > 0 ? options.threads : available_threads();
  Streamer streamer(items, options);
  if (threads == 1) {
    streamer.work();
  } else {
    // TBB starts no more threads than there are CPUs unless told.
    const tbb::global_control allow(tbb::global_control::max_allowed_parallelism, static_cast<std::size_t>(threads));
    tbb::task_arena arena(threads);
    arena.execute([&] { tbb::parallel_for(0, threads, [&](int) { streamer.work(); }, tbb::simple_partitioner()); });
  }
  streamer.report();
}

}  // namespace ropewalk
