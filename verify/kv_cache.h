#pragma once

#include <cstddef>

#include "verify/aligned_buffer.h"

namespace ropewalk::verify {

/// Keys and values of one layer and one window, as attention wants them.
///   keys:   [n_kv_heads, panels, head_dim, 32]   panel p holds the channels of positions 32 p .. 32 p + 31 as columns
///   values: [n_kv_heads, capacity, head_dim rounded up to 32]
/// Places of positions not written yet hold zeros or what an earlier layer left: attention reads them only where it
/// then discards the score.
class KvCache {
 public:
  /// Room for `positions`; contents are lost if it has to grow.
  void reserve(std::size_t n_kv_heads, std::size_t head_dim, std::size_t positions);
  /// Puts the rotated key and the value of one kv head at `position`. key, value: [head_dim].
  void store(std::size_t kv_head, std::size_t position, const float* key, const float* value);

  const float* keys(std::size_t kv_head) const noexcept { return keys_.data() + kv_head * capacity_ * head_dim_; }
  const float* values(std::size_t kv_head) const noexcept {
    return values_.data() + kv_head * capacity_ * value_stride();
  }
  std::size_t head_dim() const noexcept { return head_dim_; }
  std::size_t value_stride() const noexcept { return whole_panels(head_dim_); }

 private:
  std::size_t head_dim_ = 0, capacity_ = 0;  // capacity: whole panels of positions
  AlignedBuffer keys_, values_;
};

}  // namespace ropewalk::verify
