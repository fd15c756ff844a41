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

  /// Bytes of what was taken so far.
  std::uint64_t taken_bytes() const noexcept { return taken_bytes_; }
  /// What is left, in the order it came.
  std::vector<TensorPtr> finish();

 private:
  std::vector<TensorPtr> tensors_;  // nullptr: taken
  std::unordered_map<std::string, std::size_t> index_;
  std::uint64_t taken_bytes_ = 0;
};

/// Error(bad_input) about a tensor of a quantized weight, at its file.
[[noreturn]] void fail_packed(const LazyTensor& tensor, const std::string& problem, const std::string& fix = {});

}  // namespace ropewalk::formats
