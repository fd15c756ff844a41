#include "lib/executor.h"

#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/parallel_for.h>
#include <oneapi/tbb/task_arena.h>

#include <algorithm>
#include <cmath>
#include <condition_variable>
#include <cstring>
#include <exception>
#include <memory>
#include <mutex>
#include <numeric>
#include <optional>
#include <string>
#include <utility>

#include "lib/codecs/decode.h"
#include "lib/codecs/encode.h"
#include "lib/convert.h"
#include "lib/encoding_error.h"
#include "lib/error.h"
#include "lib/number_text.h"

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
  Buffer<std::byte> raw, encoded, ordered;
  Buffer<float> narrow;
  Buffer<double> wide;
};

bool takes_raw(const LazyTensor& tensor, const Sink& sink) { return sink.dtype == tensor.dtype() && tensor.has_raw(); }

void check(const StreamItem& item) {
  const LazyTensor& tensor = *item.tensor;
  const auto refuse = [&](const std::string& problem, const char* fix) {
    throw Error(ErrorKind::unsupported, {.path = std::string(tensor.file())}, "'" + tensor.name() + "' " + problem,
                fix);
  };
  for (const Sink& sink : item.sinks) {
    const std::string name(info(sink.dtype).name);
    if (!byte_size(sink.dtype, tensor.info().columns()))
      refuse("has rows of " + std::to_string(tensor.info().columns()) + " elements, not whole blocks of " + name,
             "choose another encoding for it");
    if (!takes_raw(tensor, sink) && !can_encode(sink.dtype) && !sink.importances)
      refuse("cannot be encoded as " + name, "choose another encoding for it");
    if (sink.importances && (!has_block_encoder(sink.dtype) || sink.importances->empty() ||
                             sink.importances->size() % tensor.info().columns() != 0 ||
                             tensor.info().rows() % (sink.importances->size() / tensor.info().columns()) != 0))
      refuse("has " + std::to_string(sink.importances->size()) + " importances for rows of " +
                 std::to_string(tensor.info().columns()) + " elements",
             "give as many, for each expert");
  }
}

/// Rows of one tensor in the forms its sinks take: raw bytes, and values of the widest type the tensor offers.
struct Rows {
  const LazyTensor& tensor;
  RowRange range;
  std::span<const std::byte> raw;
  std::span<float> narrow;
  std::span<double> wide;
};

Rows produce(const StreamItem& item, RowRange range, Scratch& scratch) {
  const LazyTensor& tensor = *item.tensor;
  const std::uint64_t elements = range.size() * tensor.info().columns();
  const auto is_raw = [&](const Sink& sink) { return takes_raw(tensor, sink); };
  const bool any_raw = std::any_of(item.sinks.begin(), item.sinks.end(), is_raw);
  Rows rows{tensor, range, {}, {}, {}};
  if (any_raw) {
    const std::span<std::byte> raw = scratch.raw.of(range.size() * tensor.info().row_bytes());
    tensor.read_raw(range, raw);
    rows.raw = raw;
  }
  if (std::all_of(item.sinks.begin(), item.sinks.end(), is_raw)) return rows;
  const bool from_raw = any_raw && can_decode(tensor.dtype());  // has_raw() promises the same values
  if (tensor.is_wide()) {
    rows.wide = scratch.wide.of(elements);
    from_raw ? decode_f64(tensor.dtype(), rows.raw, rows.wide) : tensor.read_f64(range, rows.wide);
  } else {
    rows.narrow = scratch.narrow.of(elements);
    from_raw ? decode_f32(tensor.dtype(), rows.raw, rows.narrow) : tensor.read_f32(range, rows.narrow);
  }
  return rows;
}

/// Of the raw bytes where there are any: they are fewer.
double largest_of(const Rows& rows) {
  if (!rows.raw.empty()) return can_decode(rows.tensor.dtype()) ? largest_magnitude(rows.tensor.dtype(), rows.raw) : 0;
  return rows.wide.empty() ? largest_magnitude(std::span<const float>(rows.narrow))
                           : largest_magnitude(std::span<const double>(rows.wide));
}

/// Infinities and NaN, once it is known that there are some.
void count_not_finite(const Rows& rows, StreamFinding& finding) {
  std::vector<double> decoded;
  if (!rows.raw.empty()) {
    decoded.resize(rows.range.size() * rows.tensor.info().columns());
    decode_f64(rows.tensor.dtype(), rows.raw, decoded);
  }
  const auto count = [&](auto values) {
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (std::isfinite(values[i])) continue;
      const std::uint64_t row = rows.range.begin + i / rows.tensor.info().columns();
      if (finding.not_finite++ == 0) finding.first_row = row;
    }
  };
  if (!decoded.empty()) count(std::span(decoded));
  else if (!rows.wide.empty()) count(rows.wide);
  else count(rows.narrow);
}

/// Importances of one row of a block: those of its expert's columns.
std::span<const float> importances_of(const Rows& rows, std::uint64_t row, const Sink& sink) {
  const std::uint64_t columns = rows.tensor.info().columns();
  const std::span<const float> all(*sink.importances);
  const std::uint64_t rows_per_expert = rows.tensor.info().rows() / (all.size() / columns);
  return all.subspan((rows.range.begin + row) / rows_per_expert * columns, columns);
}

/// Blocks whose errors are weighed, row by row.
void encode_weighted(const Rows& rows, std::span<const float> values, const Sink& sink, std::span<std::byte> bytes) {
  const std::uint64_t columns = rows.tensor.info().columns(), row_bytes = bytes.size() / rows.range.size();
  for (std::uint64_t row = 0; row < rows.range.size(); ++row)
    encode_blocks(sink.dtype, values.subspan(row * columns, columns), columns, importances_of(rows, row, sink),
                  bytes.subspan(row * row_bytes, row_bytes));
}
void encode_weighted(const Rows& rows, std::span<const double> values, const Sink& sink, std::span<std::byte> bytes) {
  const std::vector<float> rounded(values.begin(), values.end());
  encode_weighted(rows, rounded, sink, bytes);
}

/// Whether blocks of values in range always have finite scales. They have where those are taken from the extremes (and in
/// plain types); a fit may set one above what the largest element needs, and does with importances past what a float's
/// products hold; an exponent of MXFP4 may be too small to be stored.
bool range_suffices(const Sink& sink) {
  switch (sink.dtype) {
    case DType::q4_0:
    case DType::q4_1:
    case DType::q5_0:
    case DType::q5_1: return sink.importances == nullptr;
    case DType::q8_0:
    case DType::q1_0:
    case DType::q2_0:
    case DType::tq1_0:
    case DType::tq2_0:
    case DType::nvfp4: return true;
    default: return !is_block_type(sink.dtype);
  }
}

/// Refuses blocks that came out with a scale that is no finite number.
template <class Float>
void check_scales(const Rows& rows, std::span<const Float> values, const Sink& sink, std::span<const std::byte> bytes) {
  const auto block = first_spoilt_block(sink.dtype, bytes);
  if (!block) return;
  const auto elements = static_cast<std::uint64_t>(info(sink.dtype).block_elements);
  const std::uint64_t columns = rows.tensor.info().columns(), row = *block * elements / columns,
                      column = *block * elements % columns;
  const auto largest = [](auto all) { return number_text(largest_magnitude(all), 3); };
  std::string problem = "tensor '" + rows.tensor.name() + "': row " + std::to_string(rows.range.begin + row) +
                        ", columns " + std::to_string(column) + " to " + std::to_string(column + elements - 1) +
                        ": their " + std::string(info(sink.dtype).name) +
                        " scale would be infinite or no number (of values up to " +
                        largest(values.subspan(*block * elements, elements));
  if (sink.importances)
    problem += ", importances up to " + largest(importances_of(rows, row, sink).subspan(column, elements));
  throw Error(ErrorKind::bad_input, {.path = std::string(rows.tensor.file())}, problem + ")",
              sink.importances
                  ? "make the importances anew, leave this tensor's out (quantize has --exclude-weights), or "
                    "choose another type for it"
                  : "choose another type for it");
}

template <class Float>
std::span<const std::byte> encode(const Rows& rows, std::span<Float> values, const Sink& sink, double largest,
                                  std::span<std::byte> bytes, StreamFinding& finding) {
  std::vector<Float> clamped;  // a copy: other sinks take the values as they are
  if (sink.out_of_range != OutOfRange::ieee && !in_range(sink.dtype, largest)) {
    clamped.assign(values.begin(), values.end());
    values = clamped;
    finding.clamped += enforce_range(rows.tensor, rows.range.begin, sink.dtype, sink.out_of_range, values);
  } else if (!in_range(sink.dtype, largest)) {
    finding.overflowed += count_out_of_range(sink.dtype, std::span<const Float>(values));
  }
  if (sink.importances) encode_weighted(rows, std::span<const Float>(values), sink, bytes);
  else if constexpr (sizeof(Float) == 8) encode_f64(sink.dtype, values, bytes);
  else encode_f32(sink.dtype, values, bytes);
  if (sink.out_of_range != OutOfRange::ieee && !range_suffices(sink))
    check_scales(rows, std::span<const Float>(values), sink, bytes);
  return bytes;
}

/// Where row `row` of the tensor leaves.
std::uint64_t place_of(std::uint64_t row, const RowOrder& order) {
  const std::uint64_t n = order.source.size();
  const auto found = std::find(order.source.begin(), order.source.end(), static_cast<std::uint32_t>(row % n));
  return row / n * n + static_cast<std::uint64_t>(found - order.source.begin());
}

/// What a block's encoding has lost, importances by expert.
template <class Float>
EncodingError measured(const Rows& rows, std::span<const Float> values, const Sink& sink,
                       std::span<const std::byte> bytes) {
  const std::uint64_t columns = rows.tensor.info().columns();
  if (!sink.importances) return measure_encoding(sink.dtype, values, columns, {}, bytes);
  const std::uint64_t row_bytes = bytes.size() / rows.range.size();
  EncodingError sum;
  for (std::uint64_t row = 0; row < rows.range.size(); ++row)
    append(sum,
           measure_encoding(sink.dtype, values.subspan(row * columns, columns), columns,
                            importances_of(rows, row, sink), bytes.subspan(row * row_bytes, row_bytes)),
           row);
  return sum;
}
void measure(const Rows& rows, const Sink& sink, std::span<const std::byte> bytes) {
  EncodingError error{.elements = rows.range.size() * rows.tensor.info().columns()};
  if (!takes_raw(rows.tensor, sink))
    error = rows.wide.empty() ? measured(rows, std::span<const float>(rows.narrow), sink, bytes)
                              : measured(rows, std::span<const double>(rows.wide), sink, bytes);
  if (sink.order) error.worst_row = place_of(rows.range.begin + error.worst_row, *sink.order) - rows.range.begin;
  sink.errors->add(rows.range.begin, error);
}

/// Whole groups of rows in another order.
std::span<const std::byte> reordered(std::span<const std::byte> rows, std::uint64_t row_bytes, const RowOrder& order,
                                     std::span<std::byte> out) {
  const std::uint64_t n = order.source.size();
  for (std::uint64_t first = 0; first * row_bytes < rows.size(); first += n)
    for (std::uint64_t row = 0; row < n; ++row)
      std::memcpy(out.data() + (first + row) * row_bytes, rows.data() + (first + order.source[row]) * row_bytes,
                  row_bytes);
  return out;
}

/// Produces the rows once and writes them to every sink.
StreamFinding run_block(const StreamItem& item, RowRange range, Scratch& scratch) {
  const Rows rows = produce(item, range, scratch);
  const double largest = largest_of(rows);
  StreamFinding finding;
  if (!std::isfinite(largest)) count_not_finite(rows, finding);
  for (const Sink& sink : item.sinks) {
    const std::uint64_t row_bytes = byte_size(sink.dtype, rows.tensor.info().columns()).value_or(0),
                        bytes = range.size() * row_bytes;
    std::span<const std::byte> out = rows.raw;
    if (!takes_raw(rows.tensor, sink))
      out = rows.wide.empty() ? encode(rows, rows.narrow, sink, largest, scratch.encoded.of(bytes), finding)
                              : encode(rows, rows.wide, sink, largest, scratch.encoded.of(bytes), finding);
    if (sink.errors) measure(rows, sink, out);
    if (!sink.file) continue;
    if (sink.order) out = reordered(out, row_bytes, *sink.order, scratch.ordered.of(bytes));
    sink.file->write(sink.offset_bytes + range.begin * row_bytes, out);
  }
  return finding;
}

/// Hands out blocks in the order of the items, prepares and releases tensors, and collects what went wrong.
class Streamer {
 public:
  Streamer(const std::vector<StreamItem>& items, const StreamOptions& options)
      : items_(items),
        options_(options),
        rows_(items.size()),
        left_(items.size()),
        clamped_before_(items.size()),
        findings_(items.size()) {
    for (std::size_t item = 0; item < items.size(); ++item) {
      check(items[item]);
      const TensorInfo& tensor = items[item].tensor->info();
      const std::uint64_t rows = rows_[item] = items[item].sinks.empty() || tensor.columns() == 0 ? 0 : tensor.rows();
      const std::uint64_t step = rows_per_block(items[item]);
      clamped_before_[item] = items[item].tensor->clamped();
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
        finished(*block, run_block(item, block->rows, scratch));
      } catch (...) {
        failed(*block, std::current_exception());
      }
    }
  }

  void report() const {
    if (error_) std::rethrow_exception(error_);
    if (!options_.finding) return;
    for (std::size_t item = 0; item < items_.size(); ++item) {
      StreamFinding finding = findings_[item];
      finding.tensor = items_[item].tensor->name();
      finding.clamped += items_[item].tensor->clamped() - clamped_before_[item];
      if (finding.not_finite + finding.clamped + finding.overflowed > 0) options_.finding(finding);
    }
  }

 private:
  struct Block {
    std::uint64_t number;  // in order of the items
    std::size_t item;
    RowRange rows;
  };

  std::uint64_t rows_per_block(const StreamItem& item) const {
    const LazyTensor& tensor = *item.tensor;
    std::uint64_t unit = std::max<std::uint64_t>(1, tensor.row_unit());
    for (const Sink& sink : item.sinks)
      if (sink.order) unit = std::lcm<std::uint64_t>(unit, sink.order->source.size());
    const std::uint64_t row_bytes = std::max<std::uint64_t>(1, tensor.info().columns()) * sizeof(float);
    return std::max<std::uint64_t>(1, options_.block_bytes / row_bytes / unit) * unit;
  }

  std::optional<Block> next() {
    std::unique_lock lock(mutex_);
    while (!stop_) {
      while (item_ < items_.size() && row_ >= rows_[item_]) {
        ++item_;
        row_ = 0;
      }
      if (item_ == items_.size()) break;
      const StreamItem& item = items_[item_];
      if (row_ == 0) {  // its first block: the tensor is about to be prepared
        const std::uint64_t cost = item.tensor->prepared_bytes();
        if (prepared_ > 0 && cost > 0 && prepared_ + cost > options_.prepared_bytes) {
          released_.wait(lock);  // some block of another tensor is under way, or nothing would be prepared
          continue;
        }
        prepared_ += cost;
      }
      const RowRange rows{row_, row_ + std::min(rows_per_block(item), rows_[item_] - row_)};
      row_ = rows.end;
      return Block{number_++, item_, rows};
    }
    return std::nullopt;
  }

  void finished(const Block& block, const StreamFinding& finding) {
    const LazyTensor& tensor = *items_[block.item].tensor;
    bool last = false;
    {
      const std::lock_guard lock(mutex_);
      last = --left_[block.item] == 0;
      StreamFinding& all = findings_[block.item];
      if (finding.not_finite > 0)
        all.first_row = all.not_finite > 0 ? std::min(all.first_row, finding.first_row) : finding.first_row;
      all.not_finite += finding.not_finite;
      all.clamped += finding.clamped;
      all.overflowed += finding.overflowed;
    }
    if (last) {
      tensor.release();
      const std::lock_guard lock(mutex_);
      prepared_ -= tensor.prepared_bytes();
      released_.notify_all();
    }
    if (options_.progress) {
      const std::lock_guard lock(progress_mutex_);
      options_.progress(block.rows.size() * tensor.info().row_bytes());
    }
  }

  void failed(const Block& block, std::exception_ptr error) {
    const std::lock_guard lock(mutex_);
    stop_ = true;
    released_.notify_all();
    if (error_ && error_block_ < block.number) return;  // of several, the one that stands first
    error_ = std::move(error);
    error_block_ = block.number;
  }

  const std::vector<StreamItem>& items_;
  const StreamOptions& options_;
  std::mutex mutex_, progress_mutex_;
  std::condition_variable released_;
  std::uint64_t prepared_ = 0;                 // bytes of what is prepared
  std::vector<std::uint64_t> rows_;            // of each item, 0 if there is nothing to do
  std::vector<std::uint64_t> left_;            // blocks of each item not finished yet
  std::vector<std::uint64_t> clamped_before_;  // of each item's tensor
  std::vector<StreamFinding> findings_;
  std::size_t item_ = 0;  // next block to hand out
  std::uint64_t row_ = 0, number_ = 0;
  bool stop_ = false;
  std::exception_ptr error_;
  std::uint64_t error_block_ = 0;
};

}  // namespace

void StreamPlan::add(const TensorPtr& tensor, Sink sink) {
  sink.order = row_order(*tensor);
  const TensorPtr& read = sink.order ? sink.order->parent : tensor;
  const auto [found, added] = index_.emplace(read.get(), items_.size());
  if (added) items_.push_back({read, {}});
  items_[found->second].sinks.push_back(std::move(sink));
}

void stream(const std::vector<StreamItem>& items, const StreamOptions& options) {
  const int threads = options.threads > 0 ? options.threads : available_threads();
  Streamer streamer(items, options);
  if (threads == 1) {
    streamer.work();
  } else {
    // TBB starts no more threads than there are CPUs unless told.
    const tbb::global_control allow(tbb::global_control::max_allowed_parallelism, static_cast<std::size_t>(threads));
    tbb::task_arena arena(threads);
    arena.execute([&] {
      tbb::parallel_for(
          0, threads, [&](int) { streamer.work(); }, tbb::simple_partitioner());
    });
  }
  streamer.report();
}

}  // namespace ropewalk
