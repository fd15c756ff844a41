#pragma once
// Which SIMD targets verify's vector bodies are compiled for: AVX-512, AVX2 and the baseline (scalar with GCC 12; NEON
// on Arm). Those between bring no speed that is missed (without FMA the judge goes lane by lane) and would double the
// time to build. Include before hwy/foreach_target.h.
#include "lib/simd_targets.h"

#ifndef __aarch64__
#undef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL)
#endif
