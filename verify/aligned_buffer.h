#pragma once

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <utility>

namespace ropewalk::verify {

/// Floats on cache-line boundaries, zero at first: weights in panels, activations. Move-only.
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(std::size_t size) { grow(size); }
  AlignedBuffer(AlignedBuffer&& other) noexcept { *this = std::move(other); }
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept {
    block_ = std::move(other.block_);
    data_ = std::exchange(other.data_, nullptr), size_ = std::exchange(other.size_, 0);
    return *this;
  }

  /// At least `size` floats; if it has to move, all are zero again. std::bad_alloc.
  void grow(std::size_t size);

  float* data() noexcept { return data_; }
  const float* data() const noexcept { return data_; }
  std::size_t size() const noexcept { return size_; }

 private:
  struct Free {
    void operator()(void* block) const noexcept { std::free(block); }
  };
  std::unique_ptr<void, Free> block_;
  float* data_ = nullptr;  // the first aligned place in block_
  std::size_t size_ = 0;
};

/// Columns of a panel of packed weights; widths of activations are padded to whole panels.
inline constexpr std::size_t kPanel = 32;
constexpr std::size_t whole_panels(std::size_t width) { return (width + kPanel - 1) / kPanel * kPanel; }
/// Floats from one activation row to the next: whole panels, and 16 more so that rows of a power of two do not fall
/// into the same cache sets.
constexpr std::size_t row_stride(std::size_t width) { return whole_panels(width) + 16; }

}  // namespace ropewalk::verify
