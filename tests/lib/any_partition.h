#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <utility>
#include <vector>

#include "lib/lazy_tensor.h"

/// All rows of `tensor` by one call, as T (std::byte: raw).
template <class T>
std::vector<T> read_rows(const ropewalk::LazyTensor& tensor, ropewalk::RowRange range) {
  const std::size_t per_row = sizeof(T) == 1 ? tensor.info().row_bytes() : tensor.info().columns();
  std::vector<T> out(range.size() * per_row);
  if constexpr (sizeof(T) == 1) tensor.read_raw(range, out);
  else if constexpr (sizeof(T) == 4) tensor.read_f32(range, out);
  else tensor.read_f64(range, out);
  return out;
}
template <class T>
std::vector<T> read_all(const ropewalk::LazyTensor& tensor) {
  return read_rows<T>(tensor, {0, tensor.info().rows()});
}

template <class T>
void expect_partitions_agree(const ropewalk::LazyTensor& tensor) {
  const std::uint64_t rows = tensor.info().rows();
  const std::vector<T> whole = read_all<T>(tensor);
  std::mt19937 random(11);
  for (const std::uint64_t largest : {std::uint64_t{1}, std::uint64_t{3}, std::uint64_t{8}, rows}) {
    std::vector<ropewalk::RowRange> parts;
    for (std::uint64_t row = 0; row < rows;) {
      const std::uint64_t end = std::min<std::uint64_t>(rows, row + 1 + random() % largest);
      parts.push_back({row, end});
      row = end;
    }
    std::shuffle(parts.begin(), parts.end(), random);
    const std::size_t per_row = whole.size() / rows;
    for (const ropewalk::RowRange part : parts) {
      const std::vector<T> got = read_rows<T>(tensor, part);
      ASSERT_EQ(std::memcmp(got.data(), whole.data() + part.begin * per_row, got.size() * sizeof(T)), 0)
          << tensor.name() << ": rows " << part.begin << " to " << part.end;
    }
  }
  EXPECT_TRUE(read_rows<T>(tensor, {rows, rows}).empty());
}

/// The contract of LazyTensor: any partition into ranges, in any order, gives the same bytes, in every form the tensor
/// offers.
inline void expect_any_partition_agrees(const ropewalk::LazyTensor& tensor) {
  tensor.prepare();
  expect_partitions_agree<float>(tensor);
  expect_partitions_agree<double>(tensor);
  if (tensor.has_raw()) expect_partitions_agree<std::byte>(tensor);
  tensor.release();
  expect_partitions_agree<float>(tensor);  // prepares again by itself
}
