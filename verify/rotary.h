#pragma once

#include <cstddef>
#include <vector>

#include "lib/lazy_tensor.h"
#include "lib/rope.h"

namespace ropewalk::verify {

/// cos and sin of every position, times the attention factor: [positions, pairs].
struct RotaryTable {
  std::size_t pairs = 0;  // rotated pairs of a head
  std::vector<float> cos, sin;
};
/// The frequencies are taken as floats, as every engine holds them; angle, cos, sin and the factor in double; one
/// rounding each at the end.
RotaryTable rotary_table(const RopeTable& frequencies, std::size_t positions);

/// Rotates the first 2 * pairs channels of each head of one row, in place; the others pass through. heads: [n_heads,
/// head_dim].
/// half_split: pair i is channels (i, i + pairs); interleaved: (2i, 2i + 1). (a, b) becomes (a cos - b sin, b cos + a
/// sin), each product and sum rounded to float.
void rotate(float* heads, std::size_t n_heads, std::size_t head_dim, RotaryPairs layout, const RotaryTable& table,
            std::size_t position);

}  // namespace ropewalk::verify
