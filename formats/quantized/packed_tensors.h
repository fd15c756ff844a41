#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "lib/error.h"
#include "lib/lazy_tensor.h"
#include "lib/stored_bytes.h"

namespace ropewalk::formats {

/// The bytes of one tensor of a quantized checkpoint; keeps it alive.
class PackedBytes {
 public:
  PackedBytes() = default;
  /// Error(unsupported) unless the tensor's bytes stand in a file as they are.
  explicit PackedBytes(TensorPtr tensor);
  const TensorInfo& info() const noexcept { return tensor_->info(); }
  std::string_view file() const noexcept { return tensor_->file(); }
  void read(std::uint64_t offset_bytes, std::span<std::byte> bytes) const { bytes_->read_stored(offset_bytes, bytes); }
  /// `values.size()` elements from number `first` on, widened from the stored type.
  void read_f32(std::uint64_t first, std::span<float> values) const;
  /// The bytes [from, to) of each of `rows` rows of `row_bytes` from row `first` on, one after the other: a tile of
  /// columns. bytes.size() == rows * (to - from). Whole rows are one read.
  struct Slices {
    std::uint64_t first, rows, row_bytes, from, to;
  };
  void read(const Slices& slices, std::span<std::byte> bytes) const;

 private:
  TensorPtr tensor_;
  const StoredBytes* bytes_ = nullptr;
};

/// A checkpoint's tensors while those that belong to one quantized weight are put together: each is taken once.
class PackedTensors {
 public:
  explicit PackedTensors(std::vector<TensorPtr> tensors);

  /// nullptr if there is none of that name, or it was taken.
  TensorPtr find(const std::string& name) const;
  /// Names of those not taken that end in `suffix`, without it, in the file's order.
  std::vector<std::string> ending_in(std::string_view suffix) const;

  /// The tensor, which leaves the checkpoint. Error(bad_input) saying what `for_what` needs if it is missing;
  /// Error(bad_input) if its type is none of `types`.
  TensorPtr take(const std::string& name, std::initializer_list<DType> types, const LazyTensor& for_what);
  /// As above with a shape it must have.
  TensorPtr take(const std::string& name, std::initializer_list<DType> types, const LazyTensor& for_what,
                 const std::vector<std::uint64_t>& shape);
  /// nullptr if it is missing.
  TensorPtr take_if(const std::string& name, std::initializer_list<DType> types, const LazyTensor& for_what,
                    const std::vector<std::uint64_t>& shape);
  /// Out of the checkpoint, unread.
  void drop(const std::string& name);
  /// In place of the tensor called `name`, taken or not.
  void replace(const std::string& name, TensorPtr tensor);

  /// Those that replace() brought, still in the checkpoint: the caller may put others in their place.
  std::vector<TensorPtr*> made();

  /// Bytes of what was taken so far.
  std::uint64_t taken_bytes() const noexcept { return taken_bytes_; }
  /// What is left, in the order it came.
  std::vector<TensorPtr> finish();

 private:
  std::vector<TensorPtr> tensors_;  // nullptr: taken
  std::unordered_map<std::string, std::size_t> index_;
  std::vector<std::size_t> made_;
  std::uint64_t taken_bytes_ = 0;
};

/// The `bits` (at most 32) that begin at number `bit` of a stream of 32-bit words, lowest first, `stride` words apart.
inline std::uint32_t bits_at(const std::uint32_t* words, std::uint64_t stride, std::uint64_t bit, unsigned bits) {
  const std::uint64_t word = bit / 32;
  const auto shift = static_cast<unsigned>(bit % 32);
  std::uint32_t value = words[word * stride] >> shift;
  if (shift + bits > 32) value |= words[(word + 1) * stride] << (32 - shift);
  return value & (0xffffffffu >> (32 - bits));
}

/// Rows that are made at once of a weight that is stored transposed, each row a column there: a power of two, as many as
/// make long reads of the stored rows, and no more than fit in 16 MiB as floats; 64 at least.
std::uint64_t tile_rows(const TensorInfo& weight) noexcept;

/// Most outputs or inputs of a weight, and most of them that a block or a group may claim: sums of two fit anywhere.
inline constexpr std::uint64_t kMostWidth = std::uint64_t{1} << 24;

/// Error(bad_input) unless the tensor has two axes.
void require_matrix(const LazyTensor& tensor);

/// Error(bad_input) about a tensor of a quantized weight, at its file.
[[noreturn]] void fail_packed(const LazyTensor& tensor, const std::string& problem, const std::string& fix = {});

}  // namespace ropewalk::formats
