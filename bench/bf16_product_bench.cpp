// Whether bf16 inputs would make the host's matrix product faster: multiply-adds a second of one thread, from the first
// cache, by the product of the forward pass in f32 and by the same tile in AVX-512's dot product of bf16 pairs
// (vdpbf16ps), which adds into f32 likewise.

#include <cstdio>
#include <cstdlib>

#ifdef __x86_64__
#include <immintrin.h>

#include "bench/stopwatch.h"
#include "verify/gemm.h"

namespace {

using namespace ropewalk::verify;

constexpr std::size_t kRows = 12, kDepth = 128;
constexpr int kTimes = 200, kRepeats = 2000;  // short runs: the best of them met nobody else on the machine
constexpr double kWork = double(kRows * kPanel * kDepth) * kTimes;

/// The tile of gemm.cpp, a step of k a pair. a: [kRows, kDepth / 2] pairs, b: [kDepth / 2, 32] pairs, c: [kRows, 32].
__attribute__((target("avx512f,avx512bf16"))) void bf16_tile(const float* a, const float* b, float* c) {
  __m512 left[kRows], right[kRows];
#pragma GCC unroll 12
  for (std::size_t row = 0; row < kRows; ++row) left[row] = right[row] = _mm512_setzero_ps();
  for (std::size_t pair = 0; pair < kDepth / 2; ++pair) {
    const auto b_left = (__m512bh)_mm512_load_ps(b + pair * kPanel),
               b_right = (__m512bh)_mm512_load_ps(b + pair * kPanel + kPanel / 2);
#pragma GCC unroll 12
    for (std::size_t row = 0; row < kRows; ++row) {
      const auto x = (__m512bh)_mm512_set1_ps(a[row * kDepth / 2 + pair]);
      left[row] = _mm512_dpbf16_ps(left[row], x, b_left);
      right[row] = _mm512_dpbf16_ps(right[row], x, b_right);
    }
  }
#pragma GCC unroll 12
  for (std::size_t row = 0; row < kRows; ++row) {
    _mm512_store_ps(c + row * kPanel, left[row]);
    _mm512_store_ps(c + row * kPanel + kPanel / 2, right[row]);
  }
}

}  // namespace

int main() {
  const AlignedBuffer a(kRows * kDepth), b(kDepth * kPanel);
  AlignedBuffer c(kRows * kPanel);
  const double f32 = best_seconds(kRepeats, [&] {
    for (int i = 0; i < kTimes; ++i)
      gemm({.a = a.data(),
            .a_stride = kDepth,
            .rows = kRows,
            .b = b.data(),
            .panel_stride = kDepth * kPanel,
            .panels = 1,
            .depth = kDepth,
            .c = c.data(),
            .c_stride = kPanel});
  });
  std::printf("f32: %.1f G multiply-adds a second, one thread\n", kWork / f32 * 1e-9);
  if (!__builtin_cpu_supports("avx512bf16")) {
    std::puts("bf16: this processor has no vdpbf16ps");
    return EXIT_SUCCESS;
  }
  const double bf16 = best_seconds(kRepeats, [&] {
    for (int i = 0; i < kTimes; ++i) {
      bf16_tile(a.data(), b.data(), c.data());
      asm volatile("" : : : "memory");  // each tile is computed
    }
  });
  std::printf("bf16: %.1f, %.2f times that\n", kWork / bf16 * 1e-9, f32 / bf16);
  return EXIT_SUCCESS;
}
#else
int main() {
  std::puts("vdpbf16ps is of x86-64");
  return EXIT_SUCCESS;
}
#endif
