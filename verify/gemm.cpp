#include "verify/gemm.h"

#include <algorithm>
#include <cmath>

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

// kRows rows by two registers' width of a panel. a: A[row 0, 0]; b: B[0, first column]; c: C[row 0, first column].
template <std::size_t kRows>
HWY_INLINE void tile(const Gemm& g, const float* HWY_RESTRICT a, const float* HWY_RESTRICT b, const float* bias,
                     float* HWY_RESTRICT c) {
  const F32 d;
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
void tile_of(std::size_t rows, const Gemm& g, const float* a, const float* b, const float* bias, float* c) {
  if (rows == kRows) return tile<kRows>(g, a, b, bias, c);
  if constexpr (kRows > 1) tile_of<kRows - 1>(rows, g, a, b, bias, c);
}

// Panel by panel, so that a panel stays in the cache while all rows pass by.
void run(const Gemm& g) {
  for (std::size_t panel = 0; panel < g.panels; ++panel) {
    const float* b = g.b + panel * g.panel_stride;
    for (std::size_t row = 0; row < g.rows; row += kTileRows) {
      const std::size_t rows = std::min(kTileRows, g.rows - row);
      for (std::size_t column = 0; column < kPanel; column += 2 * kLanes32)
        tile_of<kTileRows>(rows, g, g.a + row * g.a_stride, b + column,
                           g.bias ? g.bias + panel * kPanel + column : nullptr,
                           g.c + row * g.c_stride + panel * kPanel + column);
    }
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
