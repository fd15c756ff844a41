#include "verify/aligned_buffer.h"

#include <sys/mman.h>

#include <cstring>

namespace ropewalk::verify {

void AlignedBuffer::grow(std::size_t size) {
  if (size <= size_) return;
  data_.reset();
  size_ = 0;
  // Packed weights are streamed in full: large pages spare a TLB miss every 128 bytes of a panel's row.
  constexpr std::size_t kHugePage = std::size_t{2} << 20;
  const std::size_t bytes = size * sizeof(float);
  const std::size_t alignment = bytes >= kHugePage ? kHugePage : 64;
  const std::size_t rounded = (bytes + alignment - 1) / alignment * alignment;
  auto* fresh = static_cast<float*>(std::aligned_alloc(alignment, rounded));
  if (!fresh) throw std::bad_alloc();
  data_.reset(fresh);
  if (alignment == kHugePage) madvise(fresh, rounded, MADV_HUGEPAGE);  // advice only: a refusal changes nothing but speed
  std::memset(fresh, 0, rounded);
  size_ = size;
}

}  // namespace ropewalk::verify
