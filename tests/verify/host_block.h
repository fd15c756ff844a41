#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <type_traits>
#include <unordered_map>
#include <vector>

#include "verify/cuda/block.h"
#include "verify/cuda/element.h"

// Runs the functions of a block (verify/cuda/block.h) on the host. What a warp does together is done here from the
// fragment layouts in the PTX manual (PTX ISA 9.0, "Matrix fragments for mma.m16n8k16 with floating point type",
// "ldmatrix"), not from what the kernels assume.
namespace ropewalk::verify {

class HostBlock {
 public:
  struct Place {
    std::uint64_t x = 0, y = 0, z = 0, grid_x = 1;
  };
  /// `backwards`: threads run in the opposite order, which shows a lambda in which one reads what another writes.
  HostBlock(int threads, Place place, bool backwards) : threads_(threads), place_(place), backwards_(backwards) {}

  template <class T>
  class PerThread {
   public:
    explicit PerThread(const HostBlock& block) : values_(static_cast<std::size_t>(block.threads_)) {
      // registers hold anything at first: NaN shows
      std::memset(static_cast<void*>(values_.data()), 0xff, values_.size() * sizeof(T));
    }
    T& operator[](int thread) { return values_.at(static_cast<std::size_t>(thread)); }

   private:
    std::vector<T> values_;
  };

  std::uint64_t x() const { return place_.x; }
  std::uint64_t y() const { return place_.y; }
  std::uint64_t z() const { return place_.z; }
  std::uint64_t grid_x() const { return place_.grid_x; }

  template <class F>
  void lanes(F f) const {
    for (int i = 0; i < threads_; ++i) f(backwards_ ? threads_ - 1 - i : i);
  }
  template <class F>
  void each(F f) const {
    lanes(f);
    ++barriers_;
  }

  // The order of a butterfly of __shfl_xor_sync.
  template <int kLanes, class F>
  void group_max(F x) const {
    butterfly<kLanes>(x, [](auto a, auto b) { return std::fmax(a, b); });
  }
  template <int kLanes, class F>
  void group_sum(F x) const {
    butterfly<kLanes>(x, [](auto a, auto b) { return a + b; });
  }

  template <class Regs, class Row>
  void load_matrices(Regs regs, Row row) const {
    load<false>(regs, row);
  }
  template <class Regs, class Row>
  void load_matrices_transposed(Regs regs, Row row) const {
    load<true>(regs, row);
  }

  template <class Element, class Sum, class A, class B>
  void mma(Sum sum, A a_of, B b_of) const {
    for (int warp = 0; warp < threads_; warp += 32) {
      float a[16][16], b[16][8];
      for (int lane = 0; lane < 32; ++lane) {
        const int group = lane / 4, in_group = lane % 4;
        for (int i = 0; i < 8; ++i) {  // a0 .. a7
          const int row = i < 2 || (i >= 4 && i < 6) ? group : group + 8,
                    column = in_group * 2 + (i & 1) + (i >= 4 ? 8 : 0);
          a[row][column] = element<Element>(a_of(warp + lane)[i / 2], i % 2);
        }
        for (int i = 0; i < 4; ++i)  // b0 .. b3
          b[in_group * 2 + (i & 1) + (i >= 2 ? 8 : 0)][group] = element<Element>(b_of(warp + lane)[i / 2], i % 2);
      }
      for (int lane = 0; lane < 32; ++lane)
        for (int i = 0; i < 4; ++i) {  // c0 .. c3
          const int row = lane / 4 + (i >= 2 ? 8 : 0), column = lane % 4 * 2 + (i & 1);
          float& c = sum(warp + lane)[i];
          double exact = double(c);
          for (int k = 0; k < 16; ++k) exact += double(a[row][k]) * double(b[k][column]);
          c = float(exact);
        }
    }
  }

  // Copies run until finish_copies. One that lands where something was read since the last barrier is a race, and so is
  // reading what may not have landed: both are told, though here it all happens in order.
  void copy_16(void* to, const void* from, bool valid) const {
    Use& use = used_[to];
    if (use.read_after == barriers_)
      throw std::logic_error("copy_16 over what another warp may still be reading: a barrier is missing");
    use.landed_after = waits_ + 1;
    if ((reinterpret_cast<std::uintptr_t>(to) | reinterpret_cast<std::uintptr_t>(from)) % 16 != 0)
      throw std::logic_error("copy_16 off its alignment");
    if (valid) std::memcpy(to, from, 16);
    else std::memset(to, 0, 16);
  }
  void store_16(void* to, const std::uint32_t* words) const {
    if (reinterpret_cast<std::uintptr_t>(to) % 16 != 0) throw std::logic_error("store_16 off its alignment");
    std::memcpy(to, words, 16);
  }
  void finish_copies() const { ++waits_, ++barriers_; }
  float exp2(float x) const { return std::exp2(x); }

 private:
  template <class Element>
  static float element(std::uint32_t reg, int half) {
    return to_float(Element{static_cast<std::uint16_t>(reg >> (16 * half))});
  }

  template <int kLanes, class F, class Join>
  void butterfly(F x, Join join) const {
    for (int step = 1; step < kLanes; step *= 2) {
      std::vector<std::remove_reference_t<decltype(x(0))>> before;
      for (int thread = 0; thread < threads_; ++thread) before.push_back(x(thread));
      for (int thread = 0; thread < threads_; ++thread)
        x(thread) = join(before[static_cast<std::size_t>(thread)], before[static_cast<std::size_t>(thread ^ step)]);
    }
  }

  template <bool kTransposed, class Regs, class Row>
  void load(Regs regs, Row row) const {
    for (int warp = 0; warp < threads_; warp += 32) {
      std::uint16_t matrix[4][8][8];
      for (int lane = 0; lane < 32; ++lane) {
        const void* from = row(warp + lane);  // lane l gives row l % 8 of matrix l / 8
        if (reinterpret_cast<std::uintptr_t>(from) % 16 != 0)
          throw std::logic_error("a row of ldmatrix off its alignment");
        Use& use = used_[from];
        if (use.landed_after > waits_) throw std::logic_error("ldmatrix of what has not been waited for");
        use.read_after = barriers_;
        std::memcpy(matrix[lane / 8][lane % 8], from, 16);
      }
      for (int lane = 0; lane < 32; ++lane)
        for (int m = 0; m < 4; ++m) {
          const int r = lane / 4, c = lane % 4 * 2;
          const std::uint16_t low = kTransposed ? matrix[m][c][r] : matrix[m][r][c],
                              high = kTransposed ? matrix[m][c + 1][r] : matrix[m][r][c + 1];
          regs(warp + lane)[m] = std::uint32_t{low} | std::uint32_t{high} << 16;
        }
    }
  }

  struct Use {                       // of 16 bytes of shared memory
    std::uint64_t landed_after = 0;  // finish_copies by which a copy to it is there
    std::uint64_t read_after = 0;    // barriers before it was last read
  };

  int threads_;
  Place place_;
  bool backwards_;
  mutable std::uint64_t barriers_ = 1, waits_ = 0;
  mutable std::unordered_map<const void*, Use> used_;
};

/// A block's shared memory: holds anything at first (NaN where it is floats).
template <class Shared>
std::unique_ptr<Shared> fresh_shared() {
  auto shared = std::make_unique<Shared>();
  std::memset(static_cast<void*>(shared.get()), 0xff, sizeof(Shared));
  return shared;
}

/// Every block of a grid of `blocks` row blocks, backwards if asked: f(block).
template <class F>
void for_row_blocks(std::uint64_t blocks, bool backwards, F f) {
  for (std::uint64_t i = 0; i < blocks; ++i)
    f(HostBlock(kRowThreads, {.x = backwards ? blocks - 1 - i : i, .grid_x = blocks}, backwards));
}

}  // namespace ropewalk::verify
