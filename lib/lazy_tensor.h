#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lib/dtype.h"

namespace ropewalk {

/// How the channels of a head that rotate are stored along the rows of Q and K. Other tensors are `none`.
enum class RotaryPairs : std::uint8_t {
  none,         // not a rotary projection
  half_split,   // pair i is rows (i, i + rotary_dim/2) of a head: transformers
  interleaved,  // pair i is rows (2i, 2i + 1): GGUF of arch llama, original Llama
};

/// "[32, 64]".
std::string shape_text(std::span<const std::uint64_t> shape);

struct TensorInfo {
  std::string name;                  // canonical (transformers) name, e.g. "model.layers.0.self_attn.q_proj.weight"
  std::vector<std::uint64_t> shape;  // outermost first, as in safetensors
  DType dtype;                       // stored (or produced) encoding
  RotaryPairs pairs = RotaryPairs::none;

  /// All axes but the last, flattened; 1 for 0-d and 1-d tensors.
  std::uint64_t rows() const noexcept;
  /// The last axis; 1 for a scalar.
  std::uint64_t columns() const noexcept;
  std::uint64_t elements() const noexcept { return rows() * columns(); }
  /// Bytes of one row in `dtype`. Readers check that shapes are whole blocks and do not wrap.
  std::uint64_t row_bytes() const noexcept;
  std::uint64_t bytes() const noexcept { return rows() * row_bytes(); }
};

/// Half-open range of rows.
struct RowRange {
  std::uint64_t begin, end;
  std::uint64_t size() const noexcept { return end - begin; }
};

/// A tensor as a recipe that produces any range of its rows, at any time, from any thread.
/// Any partition into ranges, in any order, gives the same bytes. Reading may throw Error (I/O, or content found bad).
class LazyTensor {
 public:
  explicit LazyTensor(TensorInfo info) : info_(std::move(info)) {}
  virtual ~LazyTensor() = default;
  LazyTensor(const LazyTensor&) = delete;
  LazyTensor& operator=(const LazyTensor&) = delete;

  const TensorInfo& info() const noexcept { return info_; }
  const std::string& name() const noexcept { return info_.name; }
  DType dtype() const noexcept { return info_.dtype; }

  /// Smallest efficient range: callers ask for multiples of it (a head for a permutation); the last range may be
  /// shorter.
  virtual std::uint64_t row_unit() const noexcept { return 1; }

  /// Once per tensor before the first read, thread-safe and idempotent: for what is not row-local. prepared_bytes() is
  /// its declared cost.
  virtual void prepare() const {}
  virtual std::uint64_t prepared_bytes() const noexcept { return 0; }
  /// Drops what prepare() built (thread-safe): called when a writer is done with the tensor. A later read prepares
  /// again.
  virtual void release() const {}

  /// The file the rows come from, for messages; empty if there is none, the weight's where adapters are added.
  virtual std::string_view file() const noexcept { return {}; }
  /// Elements clamped so far to the largest value of a narrower type, each as often as it was read.
  virtual std::uint64_t clamped() const noexcept { return 0; }

  /// True if read_raw gives the bytes of info().dtype without arithmetic.
  virtual bool has_raw() const noexcept { return false; }
  /// bytes.size() == range.size() * info().row_bytes(). Requires has_raw().
  virtual void read_raw(RowRange range, std::span<std::byte> bytes) const;

  /// values.size() == range.size() * columns.
  virtual void read_f32(RowRange range, std::span<float> values) const = 0;

  /// True if the value has more precision than f32 (a merge before its rounding, an f64 file): then read_f64 is the
  /// truth and whoever rounds must round from it.
  virtual bool is_wide() const noexcept { return false; }
  /// Default: read_f32, widened. Overridden by wide recipes.
  virtual void read_f64(RowRange range, std::span<double> values) const;

 private:
  TensorInfo info_;
};

/// "row 3, column 17": where an element stands that lies `offset` elements after the start of `first_row`.
std::string element_place(const TensorInfo& info, std::uint64_t first_row, std::uint64_t offset);

/// Shared because recipes over one parent feed several outputs, from several threads.
using TensorPtr = std::shared_ptr<const LazyTensor>;

}  // namespace ropewalk
