#pragma once

#include <algorithm>
#include <cmath>
#include <random>
#include <type_traits>
#include <vector>

#include "lib/convert.h"
#include "verify/cuda/element.h"

// Random products for the device's gemm and what they should give. Used by the tests on the host and on the device.
namespace ropewalk::verify {

template <class Element>
struct GemmProblem {
  std::uint64_t rows, columns, depth, x_stride, w_stride, out_stride;
  std::vector<Element> x, w;
  std::vector<float> before;  // what out holds

  GemmProblem(std::uint64_t m, std::uint64_t n, std::uint64_t k, std::uint64_t gap)
      : rows(m), columns(n), depth(k), x_stride(k + gap), w_stride(k + gap), out_stride(n + gap) {
    std::mt19937 random(3);
    std::normal_distribution<float> normal;
    const auto element = [&] {
      return Element{std::is_same_v<Element, Bf16> ? f32_to_bf16(normal(random)) : f32_to_f16(normal(random))};
    };
    for (std::uint64_t i = 0; i < rows * x_stride; ++i) x.push_back(element());
    for (std::uint64_t i = 0; i < columns * w_stride; ++i) w.push_back(element());
    for (std::uint64_t i = 0; i < rows * out_stride; ++i) before.push_back(normal(random));
  }
  static double value(Element e) {
    return double(std::is_same_v<Element, Bf16> ? bf16_to_f32(e.bits) : f16_to_f32(e.bits));
  }

  /// The worst |out - want| in units of what is allowed: products are exact in f32, depth additions round (or cut:
  /// tensor cores may) once each to 2^-23 of the sum of magnitudes, the result once to Out (half_unit: 2^-24, 2^-8 for
  /// bf16, 2^-11 for f16).
  template <class At>
  double worst(At out, bool accumulate, double half_unit) const {
    double worst = 0;
    for (std::uint64_t row = 0; row < rows; ++row)
      for (std::uint64_t column = 0; column < columns; ++column) {
        double want = accumulate ? double(before[row * out_stride + column]) : 0, magnitudes = std::abs(want);
        for (std::uint64_t k = 0; k < depth; ++k) {
          const double product = value(x[row * x_stride + k]) * value(w[column * w_stride + k]);
          want += product, magnitudes += std::abs(product);
        }
        const double error =
            std::abs(out(row * out_stride + column) - want) /
            (magnitudes * double(depth + 2) * std::ldexp(1.0, -23) + half_unit * std::abs(want) + 1e-30);
        worst = worst >= error || worst != worst ? worst : error;
      }
    return worst;
  }
};

}  // namespace ropewalk::verify
