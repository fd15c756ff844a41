#include "verify/aligned_buffer.h"

#include <sys/mman.h>

#include <limits>
#include <new>

namespace ropewalk::verify {

void AlignedBuffer::grow(std::size_t size) {
  if (size <= size_) return;
  *this = {};
  // Packed weights are streamed in full: large pages spare a TLB miss every few rows of a panel.
  constexpr std::size_t kHugePage = std::size_t{2} << 20;
  if (size > (std::numeric_limits<std::size_t>::max() - kHugePage) / sizeof(float)) throw std::bad_alloc();
  const std::size_t bytes = size * sizeof(float), alignment = bytes >= kHugePage ? kHugePage : 64;
  void* block =
      std::calloc(bytes + alignment, 1);  // large blocks come from the kernel as zeros: no page is touched twice
  if (!block) throw std::bad_alloc();
  block_.reset(block);
  void* place = block;
  std::size_t space = bytes + alignment;
  data_ = static_cast<float*>(std::align(alignment, bytes, place, space));
  if (alignment == kHugePage) madvise(data_, bytes, MADV_HUGEPAGE);  // advice only: a refusal changes nothing but speed
  size_ = size;
}

}  // namespace ropewalk::verify
