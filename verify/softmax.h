#pragma once

#include <cstddef>

namespace ropewalk::verify {

/// What a row of an online softmax has seen so far (arXiv:1805.02867).
struct SoftmaxRow {
  float max = -1e30f;  // of the scaled scores; finite, so that max - max is 0 while nothing has been seen
  double sum = 0;      // of exp(scaled score - max)
};

/// One tile of keys of one row: scores[i] becomes exp(scale * scores[i] - new maximum), i < width, width a multiple of
/// 16. A score of -infinity is a key
/// the row does not see: it becomes exactly 0. Returns exp(old maximum - new maximum), by which what was summed before
/// (row.sum already is) must be multiplied.
/// The tile's sum is taken in 16 fixed lanes and a fixed tree. scale > 0.
float softmax_tile(float* scores, std::size_t width, float scale, SoftmaxRow& row);

}  // namespace ropewalk::verify
