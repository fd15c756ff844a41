#pragma once

#include <cstddef>

#include "verify/aligned_buffer.h"

namespace ropewalk::verify {

/// What happens to the chain's value.
enum class Into {
  store,  // c = chain from 0
  add,    // c = c + (chain from 0): a residual
  chain,  // the chain starts from c: a longer sum in several calls, bit for bit one chain
};

/// What is read next, to be called to the second cache meanwhile (every other line of it where a tile's share is
/// two lines a step). null: each panel's successor.
struct Ahead {
  const float* data = nullptr;
  std::size_t floats = 0;
};

/// C[row, column] from A [rows, depth] (row-major) and B in panels of 32 columns.
/// Every output is ONE chain of fused multiply-adds over k = 0 .. depth-1, then + bias: its bits do not depend on how
/// many rows or panels are computed together, on threads, or on the width of the SIMD registers. The sum over k is
/// never split.
struct Gemm {
  const float* a;
  std::size_t a_stride;  // floats from row to row
  std::size_t rows;
  const float* b;  // panel p, row k: b + p * panel_stride + k * b_stride, 32 floats, 64-byte aligned
  std::size_t b_stride = kPanel;
  std::size_t panel_stride;  // depth * 32 for packed weights
  std::size_t panels;
  std::size_t depth;
  float* c;  // row r, panel p: c + r * c_stride + 32 p
  std::size_t c_stride;
  const float* bias = nullptr;  // [32 * panels] or null
  Into into = Into::store;
  Ahead ahead = {};
};
void gemm(const Gemm& g);

/// The definition, written for the reader. Same bits.
void gemm_reference(const Gemm& g);

}  // namespace ropewalk::verify
