#pragma once

#include <cstdint>
#include <span>

#include "lib/lazy_tensor.h"

namespace ropewalk {

/// The bytes of a tensor as they are stored, for recipes that need other pieces of it than whole rows: columns of a
/// packed matrix, a block of codes that begins inside a row.
class StoredBytes {
 public:
  virtual ~StoredBytes() = default;
  /// Fills `bytes` from `offset_bytes` of the tensor; any thread. Requires offset_bytes + bytes.size() <=
  /// info().bytes().
  virtual void read_stored(std::uint64_t offset_bytes, std::span<std::byte> bytes) const = 0;
};

/// nullptr for a recipe over others: only tensors that stand in a file or in memory as they are have stored bytes.
const StoredBytes* stored_bytes(const LazyTensor& tensor) noexcept;

}  // namespace ropewalk
