#pragma once

// How kernels are written, so that the same text runs on the device and, in tests, on the host.
//
// A kernel is a function of a block: template <class Block> void name_block(const Block& block, const NameArgs& args,
// NameShared& shared). Control flow in it is the same for all
// threads. What threads do stands in lambdas that are given the thread's number:
//   block.each(f)    f(thread) for every thread, then a barrier
//   block.lanes(f)   f(thread) for every thread, no barrier: nothing another thread wrote may be read afterwards
//   typename Block::template PerThread<T> v(block);   v[thread]: a thread's own variable that outlives a lambda;
//     registers on the device
// Operations that a warp does together (all of its lanes, with functors that say what is a lane's):
//   block.template group_max<N>(x), group_sum<N>(x)       float& x(thread): over N = 2, 4 .. 32 neighbouring lanes, in
//     the same order for each of them
//   block.load_matrices(regs, row), load_matrices_transposed(regs, row)   ldmatrix.x4: four 8 x 8 matrices of 16-bit
//     elements from shared memory
//   block.template mma<Element>(sum, a, b)                 mma.sync.m16n8k16: sum[16 x 8] += a[16 x 16] b[16 x 8], f32
//     sums
// On the device a block is a DeviceBlock (device_block.h). The tests' HostBlock runs lambdas thread by thread and does
// the operations of a warp from the PTX manual's fragment layouts, so a wrong index map gives wrong numbers there too.

#include <cstdint>

#ifdef __CUDACC__
#define ROPEWALK_DEVICE __device__ __forceinline__
#define ROPEWALK_UNROLL _Pragma("unroll")
#define ROPEWALK_NO_UNROLL _Pragma("unroll 1")
#else
#define ROPEWALK_DEVICE inline
#define ROPEWALK_UNROLL
#define ROPEWALK_NO_UNROLL
#endif

namespace ropewalk::verify {

/// Threads of a block that strides across one row. Power of two: the tree sum halves it.
inline constexpr int kRowThreads = 256;

/// values[0] op= values[1] op= ... in a fixed tree; `values` are kRowThreads in shared memory, written before a
/// barrier. Ends with a barrier.
template <class Block, class T, class Join>
ROPEWALK_DEVICE void tree(const Block& block, T* values, Join join) {
  for (int half = kRowThreads / 2; half > 0; half /= 2)
    block.each([&](int thread) {
      if (thread < half) join(values[thread], values[thread + half]);
    });
}

}  // namespace ropewalk::verify
