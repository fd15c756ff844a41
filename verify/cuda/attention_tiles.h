#pragma once

#include <type_traits>

#include "verify/cuda/attention_f32_tile.h"
#include "verify/cuda/attention_tile.h"

// Which tiles there are: what the device launches and what the tests run. Shared memory is at most 96 KiB, which
// compute capability 8.0, 8.6, 8.9 and all later ones have; registers at most 255.
namespace ropewalk::verify {

template <class Element>
using AttentionTile64 = AttentionTile<Element, 64, 2, 64>;
template <class Element>
using AttentionTile128 = AttentionTile<Element, 128, 2, 64>;
template <class Element>
using AttentionTile256 = AttentionTile<Element, 256, 1, 64>;

using AttentionF32Tile64 = AttentionF32Tile<64, 64>;
using AttentionF32Tile128 = AttentionF32Tile<128, 64>;
using AttentionF32Tile256 = AttentionF32Tile<256, 32>;

/// f(tile's type wrapped in std::type_identity) for the narrowest tile that holds the head.
template <class Element, class F>
void with_attention_tile(std::uint32_t head_dim, F f) {
  if constexpr (std::is_same_v<Element, float>) {
    if (head_dim <= 64) f(std::type_identity<AttentionF32Tile64>());
    else if (head_dim <= 128) f(std::type_identity<AttentionF32Tile128>());
    else f(std::type_identity<AttentionF32Tile256>());
  } else {
    if (head_dim <= 64) f(std::type_identity<AttentionTile64<Element>>());
    else if (head_dim <= 128) f(std::type_identity<AttentionTile128<Element>>());
    else f(std::type_identity<AttentionTile256<Element>>());
  }
}

}  // namespace ropewalk::verify
