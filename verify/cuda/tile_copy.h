#pragma once

#include <cstdint>

#include "verify/cuda/block.h"

namespace ropewalk::verify {

/// Where 16-byte chunk `chunk` of a row lies in a tile of rows of kWidth 16-bit elements, a multiple of 64: chunks at
/// one place of 8 neighbouring rows fall into different banks, so that ldmatrix reads them at once.
template <int kWidth>
constexpr int swizzled(int row, int chunk) {
  static_assert(kWidth % 64 == 0);
  return row * kWidth + (chunk ^ (row & 7)) * 8;
}

/// Copies rows x columns elements to a tile of kRows rows of kWidth, zeros around them, kThreads threads together. Ends
/// before they have arrived (block.finish_copies()).
/// vectors: rows start on 16 bytes and `columns` is a multiple of 8.
template <int kRows, int kWidth, int kThreads, class Element, class Block>
ROPEWALK_DEVICE void copy_tile(const Block& block, Element* tile, const Element* from, std::uint64_t stride,
                               std::uint64_t rows, std::uint64_t columns, bool vectors) {
  constexpr int kChunks = kWidth / 8, kStep = kThreads / kChunks;  // rows that all threads together copy at once
  static_assert(sizeof(Element) == 2 && kRows % kStep == 0 && kThreads % kChunks == 0);
  block.lanes([&](int thread) {
    const int chunk = thread % kChunks;
    const Element* source = from + std::uint64_t(thread / kChunks) * stride + 8 * chunk;
    ROPEWALK_NO_UNROLL  // addresses kept for every step would push the sums out of the registers
        for (int row = thread / kChunks; row < kRows; row += kStep, source += kStep * stride) {
      Element* to = tile + swizzled<kWidth>(row, chunk);
      const bool exists = std::uint64_t(row) < rows;
      if (vectors) {
        const bool valid = exists && std::uint64_t(8 * chunk) < columns;
        block.copy_16(to, valid ? source : from, valid);
      } else {
        for (int c = 0; c < 8; ++c) to[c] = exists && std::uint64_t(8 * chunk + c) < columns ? source[c] : Element{0};
      }
    }
  });
}

}  // namespace ropewalk::verify
