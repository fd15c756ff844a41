#pragma once

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>

namespace ropewalk::verify {

/// Floats on cache-line boundaries, zero at first: weights in panels, activations. Move-only.
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(std::size_t size) { grow(size); }

  /// At least `size` floats; what was there is lost (and zero again) if it has to move.
  void grow(std::size_t size);

  float* data() noexcept { return data_.get(); }
  const float* data() const noexcept { return data_.get(); }
  std::size_t size() const noexcept { return size_; }

 private:
  struct Free {
    void operator()(float* p) const noexcept { std::free(p); }
  };
  std::unique_ptr<float, Free> data_;
  std::size_t size_ = 0;
};

/// Columns of a panel of packed weights; widths of activations are padded to whole panels.
inline constexpr std::size_t kPanel = 32;
constexpr std::size_t whole_panels(std::size_t width) { return (width + kPanel - 1) / kPanel * kPanel; }
/// Floats from one activation row to the next: whole panels, and 16 more so that rows of a power of two do not fall into the same cache sets.
constexpr std::size_t row_stride(std::size_t width) { return whole_panels(width) + 16; }

}  // namespace ropewalk::verify
