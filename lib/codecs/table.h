#pragma once

/// Declares an array of constants that a type's description looks things up in. nvcc wants it among the device's data:
/// where one is declared otherwise it compiles a trap into the kernel, without a word (CUDA 13.0). What reads it is
/// compiled for the host too, where nothing in a .cu calls it: that warning is off.
#ifdef __CUDACC__
#pragma nv_diag_suppress 20091
#define ROPEWALK_TABLE static __device__ constexpr
#else
#define ROPEWALK_TABLE inline constexpr
#endif
