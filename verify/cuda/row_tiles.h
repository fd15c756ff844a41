#pragma once

#include <cmath>
#include <cstdint>

#include "verify/cuda/block.h"
#include "verify/cuda/element.h"
#include "verify/head_statistics.h"

// Blocks of the operations that go row by row: block x owns row x, its kRowThreads threads stride across the row. Any
// width works. The contracts are in ops.h.
namespace ropewalk::verify {

template <class T>
struct RmsNormArgs {
  const float* x;
  std::uint64_t x_stride;
  const float* gain;
  std::uint64_t width;
  double eps;
  T* y;
  std::uint64_t y_stride;
};
struct RmsNormShared {
  double partial[kRowThreads];
};
template <class Block, class T>
ROPEWALK_DEVICE void rms_norm_block(const Block& block, const RmsNormArgs<T>& args, RmsNormShared& shared) {
  const float* x = args.x + block.x() * args.x_stride;  // x[row, :]
  T* y = args.y + block.x() * args.y_stride;            // y[row, :]
  block.each([&](int thread) {
    double sum = 0;
    for (std::uint64_t c = std::uint64_t(thread); c < args.width; c += kRowThreads) sum += double(x[c]) * double(x[c]);
    shared.partial[thread] = sum;
  });
  tree(block, shared.partial, [](double& into, double from) { into += from; });
  block.lanes([&](int thread) {
    const double scale = 1.0 / std::sqrt(shared.partial[0] / double(args.width) + args.eps);
    for (std::uint64_t c = std::uint64_t(thread); c < args.width; c += kRowThreads)
      y[c] = from_float<T>(float(double(x[c]) * scale * double(args.gain[c])));
  });
}

struct DistanceArgs {
  const float* a;
  std::uint64_t a_stride;
  const float* b;
  std::uint64_t b_stride;
  std::uint64_t width;
  double* out;
};
struct DistanceShared {
  double difference[kRowThreads], norm[kRowThreads];
};
template <class Block>
ROPEWALK_DEVICE void distance_block(const Block& block, const DistanceArgs& args, DistanceShared& shared) {
  const float *a = args.a + block.x() * args.a_stride, *b = args.b + block.x() * args.b_stride;
  block.each([&](int thread) {
    double difference = 0, norm = 0;
    for (std::uint64_t c = std::uint64_t(thread); c < args.width; c += kRowThreads) {
      const double x = a[c], d = x - double(b[c]);
      difference += d * d;
      norm += x * x;
    }
    shared.difference[thread] = difference;
    shared.norm[thread] = norm;
  });
  const auto plus = [](double& into, double from) { into += from; };
  tree(block, shared.difference, plus);
  tree(block, shared.norm, plus);
  block.lanes([&](int thread) {
    if (thread == 0)
      args.out[block.x()] = shared.difference[0] == 0 ? 0.0 : std::sqrt(shared.difference[0] / shared.norm[0]);
  });
}

template <class T>
struct RotateArgs {
  const T* x;
  std::uint64_t x_stride;
  T* y;
  std::uint64_t y_stride;
  std::uint64_t n_heads, head_dim, pairs;
  bool interleaved;
  const float *cos, *sin;                     // [positions, pairs]
  std::uint64_t first_position, window_rows;  // row r has position first_position + r % window_rows
};
template <class Block, class T>
ROPEWALK_DEVICE void rotate_block(const Block& block, const RotateArgs<T>& args) {
  const std::uint64_t position = args.first_position + block.x() % args.window_rows;
  const float *cos = args.cos + position * args.pairs, *sin = args.sin + position * args.pairs;
  const T* x = args.x + block.x() * args.x_stride;
  T* y = args.y + block.x() * args.y_stride;
  const std::uint64_t step = args.interleaved ? 2 : 1, partner = args.interleaved ? 1 : args.pairs;
  const std::uint64_t passing = args.head_dim - 2 * args.pairs;  // channels of a head that do not rotate
  block.lanes([&](int thread) {
    for (std::uint64_t i = std::uint64_t(thread); i < args.n_heads * args.pairs; i += kRowThreads) {
      const std::uint64_t pair = i % args.pairs, at = i / args.pairs * args.head_dim + pair * step;
      const float a = to_float(x[at]), b = to_float(x[at + partner]);
      y[at] = from_float<T>(a * cos[pair] - b * sin[pair]);
      y[at + partner] = from_float<T>(b * cos[pair] + a * sin[pair]);
    }
    if (x == y) return;
    for (std::uint64_t i = std::uint64_t(thread); i < args.n_heads * passing; i += kRowThreads) {
      const std::uint64_t at = i / passing * args.head_dim + 2 * args.pairs + i % passing;
      y[at] = x[at];
    }
  });
}

template <class In, class Out>
struct SwigluArgs {
  const In* gate_up;
  std::uint64_t stride;
  std::uint64_t width, group;  // gate of channel c at c / group * 2 group + c % group, up `group` further
  Out* y;
  std::uint64_t y_stride;
};
template <class Block, class In, class Out>
ROPEWALK_DEVICE void swiglu_block(const Block& block, const SwigluArgs<In, Out>& args) {
  const In* x = args.gate_up + block.x() * args.stride;
  Out* y = args.y + block.x() * args.y_stride;
  block.lanes([&](int thread) {
    for (std::uint64_t c = std::uint64_t(thread); c < args.width; c += kRowThreads) {
      const std::uint64_t at = c / args.group * 2 * args.group + c % args.group;
      const float gate = to_float(x[at]), up = to_float(x[at + args.group]);
      // Below -88, e^-gate leaves the floats and the quotient is -0: right to within 1e-36, as on the host.
      y[c] = from_float<Out>(gate / (1.0f + std::exp(-gate)) * up);
    }
  });
}

template <class T>
struct AddArgs {
  float* x;
  std::uint64_t x_stride;
  const T* y;
  std::uint64_t y_stride;  // 0: one row added to all
  std::uint64_t width;
};
template <class Block, class T>
ROPEWALK_DEVICE void add_block(const Block& block, const AddArgs<T>& args) {
  float* x = args.x + block.x() * args.x_stride;
  const T* y = args.y + block.x() * args.y_stride;
  block.lanes([&](int thread) {
    for (std::uint64_t c = std::uint64_t(thread); c < args.width; c += kRowThreads) x[c] += to_float(y[c]);
  });
}

/// Elements of one block of a flat operation: consecutive, taken kRowThreads at a time.
inline constexpr std::uint64_t kFlatElements = 8 * kRowThreads;

template <class T>
struct SplitArgs {
  const T* x;
  std::uint64_t elements;
  int terms;
  Bf16* y;                 // [terms, elements]
  std::uint64_t y_stride;  // from term to term
};
template <class T, class Block>
ROPEWALK_DEVICE void split_block(const Block& block, const SplitArgs<T>& args) {
  const std::uint64_t first = block.x() * kFlatElements,
                      last = first + kFlatElements < args.elements ? first + kFlatElements : args.elements;
  block.lanes([&](int thread) {
    for (std::uint64_t i = first + std::uint64_t(thread); i < last; i += kRowThreads) {
      float rest = to_float(args.x[i]);
      for (int term = 0; term < args.terms; ++term) args.y[std::uint64_t(term) * args.y_stride + i] = take_term(rest);
    }
  });
}

}  // namespace ropewalk::verify
