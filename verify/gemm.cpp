#include "verify/gemm.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "verify/gemm.cpp"
#include "verify/simd_targets.h"
#include "hwy/foreach_target.h"  // includes this file once per target
#include "hwy/highway.h"
#include "verify/simd_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ropewalk::verify::HWY_NAMESPACE {

// Accumulators live in registers: 12 x 2 of the 32 that AVX-512 and NEON have, 6 x 2 of AVX2's 16.
constexpr std::size_t kTileRows = HWY_TARGET <= HWY_AVX3 || HWY_ARCH_ARM_A64 ? 12 : 6;

// Some rows by two registers' width of a panel.
struct Tile {
  const float* a;     // A[row 0, 0]
  const float* b;     // B[0, first column]
  const float* bias;  // of the first column; or null
  float* c;           // C[row 0, first column]
  // Bytes to call to the second cache meanwhile, `step` of them with each k: a number, since it may lie past the end.
  std::uintptr_t ahead;
  std::size_t step;
};

template <std::size_t kRows>
HWY_INLINE void compute(const Gemm& g, const Tile& tile) {
  const F32 d;
  const float *HWY_RESTRICT a = tile.a, *HWY_RESTRICT b = tile.b, *bias = tile.bias;
  float* HWY_RESTRICT c = tile.c;
  std::uintptr_t ahead = tile.ahead;
  using V = hn::Vec<F32>;
  V left[kRows], right[kRows];
  const bool resume = g.into == Into::chain;
#pragma GCC unroll 12
  for (std::size_t row = 0; row < kRows; ++row) {
    left[row] = resume ? hn::LoadU(d, c + row * g.c_stride) : hn::Zero(d);
    right[row] = resume ? hn::LoadU(d, c + row * g.c_stride + kLanes32) : hn::Zero(d);
  }
  for (std::size_t k = 0; k < g.depth; ++k) {
    const V b_left = hn::Load(d, b), b_right = hn::Load(d, b + kLanes32);
    __builtin_prefetch(reinterpret_cast<const void*>(ahead), 0, 2);
    ahead += tile.step;
#pragma GCC unroll 12
    for (std::size_t row = 0; row < kRows; ++row) {
      const V x = hn::Set(d, a[row * g.a_stride + k]);
      left[row] = fused(d, x, b_left, left[row]);
      right[row] = fused(d, x, b_right, right[row]);
    }
    b += g.b_stride;
  }
#pragma GCC unroll 12
  for (std::size_t row = 0; row < kRows; ++row) {
    float* out = c + row * g.c_stride;
    if (bias) {
      left[row] = hn::Add(left[row], hn::LoadU(d, bias));
      right[row] = hn::Add(right[row], hn::LoadU(d, bias + kLanes32));
    }
    if (g.into == Into::add) {
      left[row] = hn::Add(hn::LoadU(d, out), left[row]);
      right[row] = hn::Add(hn::LoadU(d, out + kLanes32), right[row]);
    }
    hn::StoreU(left[row], d, out);
    hn::StoreU(right[row], d, out + kLanes32);
  }
}

template <std::size_t kRows>
void compute_rows(std::size_t rows, const Gemm& g, const Tile& tile) {
  if (rows == kRows) return compute<kRows>(g, tile);
  if constexpr (kRows > 1) compute_rows<kRows - 1>(rows, g, tile);
}

// Panel by panel, so that a panel stays in the cache while all rows pass by. The processor fetches ahead no further than
// its page of 4 kB, so a panel's first rows would wait for memory page after page: each tile calls its share of the next
// panel instead, or of what the caller will read.
void run(const Gemm& g) {
  const bool given = g.ahead.data != nullptr;
  const std::size_t tiles = (g.rows + kTileRows - 1) / kTileRows;
  const std::size_t bytes = sizeof(float) * (given ? g.ahead.floats : g.panels * g.depth * kPanel);
  const std::size_t step = bytes / std::max<std::size_t>(1, g.panels * tiles * g.depth);
  auto ahead = reinterpret_cast<std::uintptr_t>(g.ahead.data);
  for (std::size_t panel = 0; panel < g.panels; ++panel) {
    const float* b = g.b + panel * g.panel_stride;
    if (!given) ahead = reinterpret_cast<std::uintptr_t>(b) + sizeof(float) * g.panel_stride;
    for (std::size_t row = 0; row < g.rows; row += kTileRows, ahead += step * g.depth)
      for (std::size_t column = 0; column < kPanel; column += 2 * kLanes32)
        compute_rows<kTileRows>(std::min(kTileRows, g.rows - row), g,
                                {.a = g.a + row * g.a_stride,
                                 .b = b + column,
                                 .bias = g.bias ? g.bias + panel * kPanel + column : nullptr,
                                 .c = g.c + row * g.c_stride + panel * kPanel + column,
                                 .ahead = ahead,
                                 .step = step});
  }
}

}  // namespace ropewalk::verify::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ropewalk::verify {

HWY_EXPORT(run);
void gemm(const Gemm& g) { HWY_DYNAMIC_DISPATCH(run)(g); }

void gemm_reference(const Gemm& g) {
  for (std::size_t row = 0; row < g.rows; ++row)
    for (std::size_t column = 0; column < g.panels * kPanel; ++column) {
      const float* b = g.b + column / kPanel * g.panel_stride + column % kPanel;
      float& c = g.c[row * g.c_stride + column];
      float chain = g.into == Into::chain ? c : 0.0f;
      for (std::size_t k = 0; k < g.depth; ++k) chain = std::fma(g.a[row * g.a_stride + k], b[k * g.b_stride], chain);
      if (g.bias) chain += g.bias[column];
      c = g.into == Into::add ? c + chain : chain;
    }
}

}  // namespace ropewalk::verify
#endif
