#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "verify/cuda/block.h"
#include "verify/cuda/element.h"

// Included by .cu files alone. See block.h for what a block is.
namespace ropewalk::verify {

class DeviceBlock {
 public:
  /// A thread's own variable: the index is the thread itself.
  template <class T>
  class PerThread {
   public:
    __device__ explicit PerThread(const DeviceBlock&) {}
    __device__ __forceinline__ T& operator[](int) { return value_; }

   private:
    T value_;
  };

  __device__ __forceinline__ std::uint64_t x() const { return blockIdx.x; }
  __device__ __forceinline__ std::uint64_t y() const { return blockIdx.y; }
  __device__ __forceinline__ std::uint64_t z() const { return blockIdx.z; }
  __device__ __forceinline__ std::uint64_t grid_x() const { return gridDim.x; }

  template <class F>
  __device__ __forceinline__ void each(F f) const {
    f(int(threadIdx.x));
    __syncthreads();
  }
  template <class F>
  __device__ __forceinline__ void lanes(F f) const {
    f(int(threadIdx.x));
  }

  template <int kLanes, class F>
  __device__ __forceinline__ void group_max(F x) const {
    float& value = x(int(threadIdx.x));
    ROPEWALK_UNROLL
    for (int step = 1; step < kLanes; step *= 2) value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, step));
  }
  template <int kLanes, class F>
  __device__ __forceinline__ void group_sum(F x) const {
    auto& value = x(int(threadIdx.x));
    ROPEWALK_UNROLL
    for (int step = 1; step < kLanes; step *= 2) value += __shfl_xor_sync(0xffffffffu, value, step);
  }

  template <class Regs, class Row>
  __device__ __forceinline__ void load_matrices(Regs regs, Row row) const {
    std::uint32_t* r = regs(int(threadIdx.x));
    const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(row(int(threadIdx.x))));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
  }
  template <class Regs, class Row>
  __device__ __forceinline__ void load_matrices_transposed(Regs regs, Row row) const {
    std::uint32_t* r = regs(int(threadIdx.x));
    const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(row(int(threadIdx.x))));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
  }

  template <class Element, class Sum, class A, class B>
  __device__ __forceinline__ void mma(Sum sum, A a_of, B b_of) const {
    const int thread = int(threadIdx.x);
    float* c = sum(thread);
    const std::uint32_t *a = a_of(thread), *b = b_of(thread);
    if constexpr (std::is_same_v<Element, Bf16>)
      asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, "
          "%2, %3};"
          : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
          : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
    else
      asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, "
          "%2, %3};"
          : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
          : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }

  /// 16 bytes from global to shared memory, in the background; zeros unless `valid` (then `from` is not read). Both
  /// ends on 16 bytes.
  __device__ __forceinline__ void copy_16(void* to, const void* from, bool valid) const {
    const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(to));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from), "r"(valid ? 16 : 0)
                 : "memory");
  }
  /// Four words to global memory, on 16 bytes. Left to itself, nvcc stores some one by one.
  __device__ __forceinline__ void store_16(void* to, const std::uint32_t* words) const {
    asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(to), "r"(words[0]), "r"(words[1]), "r"(words[2]),
                 "r"(words[3])
                 : "memory");
  }
  /// Waits for this block's copies, all threads'.
  __device__ __forceinline__ void finish_copies() const {
    asm volatile("cp.async.wait_all;" ::: "memory");
    __syncthreads();
  }

  /// 2^x by the device's instruction: two units in the last place.
  __device__ __forceinline__ float exp2(float x) const {
    float out;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(out) : "f"(x));
    return out;
  }
};

}  // namespace ropewalk::verify
