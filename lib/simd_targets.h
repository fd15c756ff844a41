#pragma once

// Include before <hwy/highway.h>: which instruction sets our kernels are compiled for, beside the compiler's baseline
// (SCALAR on plain x86-64).
// SSSE3 without SSE4.1 is nothing anybody still runs; leaving it out saves a fifth of the kernels' build time.
#define HWY_DISABLED_TARGETS HWY_SSSE3
