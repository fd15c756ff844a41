#pragma once

// Include before <hwy/highway.h>: which instruction sets our kernels are compiled for, beside the compiler's baseline
// (SCALAR on plain x86-64).
#ifdef __aarch64__
// NEON alone: arrays of vectors, which the kernels have, cannot be of SVE's, whose size no compiler knows.
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)
#else
// SSSE3 without SSE4.1 is nothing anybody still runs; leaving it out saves a fifth of the kernels' build time.
#define HWY_DISABLED_TARGETS HWY_SSSE3
#endif
