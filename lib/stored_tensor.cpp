#include <array>
#include <cassert>
#include <cstring>
#include <utility>

#include "lib/convert.h"
#include "lib/recipes.h"
#include "lib/stored_bytes.h"

namespace ropewalk {
namespace {

// Bytes read and decoded at a time: past the first cache (few system calls), within the second.
constexpr std::uint64_t kChunkBytes = std::uint64_t{256} << 10;

// Integers of 32 bits do not fit a float's 24.
bool wider_than_f32(DType dtype) {
  switch (dtype) {
    case DType::f64:
    case DType::i64:
    case DType::u64:
    case DType::i32:
    case DType::u32: return true;
    default: return false;
  }
}

class FileTensor final : public LazyTensor, public StoredBytes {
 public:
  FileTensor(TensorInfo info, std::shared_ptr<const File> file, std::uint64_t offset_bytes)
      : LazyTensor(std::move(info)), file_(std::move(file)), offset_bytes_(offset_bytes) {}

  bool has_raw() const noexcept override { return true; }
  bool is_wide() const noexcept override { return wider_than_f32(dtype()); }
  std::string_view file() const noexcept override { return file_->path(); }

  void read_stored(std::uint64_t offset_bytes, std::span<std::byte> bytes) const override {
    assert(offset_bytes <= info().bytes() && bytes.size() <= info().bytes() - offset_bytes);
    file_->read(offset_bytes_ + offset_bytes, bytes);
  }
  void read_raw(RowRange range, std::span<std::byte> bytes) const override {
    assert(range.begin <= range.end && range.end <= info().rows() && bytes.size() == range.size() * info().row_bytes());
    file_->read(offset_bytes_ + range.begin * info().row_bytes(), bytes);
  }
  void read_f32(RowRange range, std::span<float> values) const override {
    if (dtype() == DType::f32) return read_raw(range, std::as_writable_bytes(values));
    read_decoded(range, values, decode_f32);
  }
  void read_f64(RowRange range, std::span<double> values) const override {
    if (dtype() == DType::f64) return read_raw(range, std::as_writable_bytes(values));
    read_decoded(range, values, decode_f64);
  }

 private:
  // The range is contiguous in the file, so chunks need not be whole rows, only whole blocks.
  template <class Float>
  void read_decoded(RowRange range, std::span<Float> values,
                    void (*decode)(DType, std::span<const std::byte>, std::span<Float>)) const {
    const DTypeInfo& type = ropewalk::info(dtype());
    const auto block_bytes = static_cast<std::uint64_t>(type.block_bytes),
               block = static_cast<std::uint64_t>(type.block_elements);
    const std::uint64_t bytes = range.size() * info().row_bytes(), step = kChunkBytes / block_bytes * block_bytes;
    assert(values.size() == range.size() * info().columns());
    const auto buffer = std::make_unique_for_overwrite<std::byte[]>(std::min(bytes, step));
    for (std::uint64_t done = 0; done < bytes; done += step) {
      const std::span chunk(buffer.get(), std::min(bytes - done, step));
      file_->read(offset_bytes_ + range.begin * info().row_bytes() + done, chunk);
      decode(dtype(), chunk, values.subspan(done / block_bytes * block, chunk.size() / block_bytes * block));
    }
  }

  std::shared_ptr<const File> file_;
  std::uint64_t offset_bytes_;
};

/// T: the values' own type, or std::byte for any.
template <class T>
class MemoryTensor final : public LazyTensor, public StoredBytes {
 public:
  MemoryTensor(TensorInfo info, std::vector<T> values) : LazyTensor(std::move(info)), values_(std::move(values)) {
    assert(values_.size() * sizeof(T) == this->info().bytes());
  }

  bool has_raw() const noexcept override { return true; }
  bool is_wide() const noexcept override { return wider_than_f32(dtype()); }

  void read_stored(std::uint64_t offset_bytes, std::span<std::byte> bytes) const override {
    const std::span<const std::byte> all = std::as_bytes(std::span(values_));
    assert(offset_bytes <= all.size() && bytes.size() <= all.size() - offset_bytes);
    if (!bytes.empty()) std::memcpy(bytes.data(), all.data() + offset_bytes, bytes.size());
  }
  void read_raw(RowRange range, std::span<std::byte> bytes) const override {
    const std::span<const std::byte> rows = stored(range);
    if (!rows.empty()) std::memcpy(bytes.data(), rows.data(), rows.size());
  }
  void read_f32(RowRange range, std::span<float> values) const override { decode_f32(dtype(), stored(range), values); }
  void read_f64(RowRange range, std::span<double> values) const override { decode_f64(dtype(), stored(range), values); }

 private:
  std::span<const std::byte> stored(RowRange range) const {
    assert(range.begin <= range.end && range.end <= info().rows());
    return std::as_bytes(std::span(values_))
        .subspan(range.begin * info().row_bytes(), range.size() * info().row_bytes());
  }

  std::vector<T> values_;
};

}  // namespace

const StoredBytes* stored_bytes(const LazyTensor& tensor) noexcept { return dynamic_cast<const StoredBytes*>(&tensor); }

TensorPtr file_tensor(TensorInfo info, std::shared_ptr<const File> file, std::uint64_t offset_bytes) {
  return std::make_shared<FileTensor>(std::move(info), std::move(file), offset_bytes);
}

TensorPtr memory_tensor(TensorInfo info, std::vector<std::byte> bytes) {
  return std::make_shared<MemoryTensor<std::byte>>(std::move(info), std::move(bytes));
}

TensorPtr memory_tensor(std::string name, std::vector<std::uint64_t> shape, std::vector<float> values) {
  TensorInfo info{std::move(name), std::move(shape), DType::f32};
  return std::make_shared<MemoryTensor<float>>(std::move(info), std::move(values));
}

}  // namespace ropewalk
