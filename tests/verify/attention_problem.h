#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <type_traits>
#include <vector>

#include "lib/convert.h"
#include "verify/cuda/attention_args.h"
#include "verify/cuda/element.h"

// Random attention problems for the device bodies, and the definition of what they compute. Used by the tests on the
// host and on the device.
namespace ropewalk::verify {

struct AttentionShape {
  std::uint32_t head_dim, n_heads = 2, n_kv_heads = 1;
  std::uint64_t rows = 1, first_position = 0, window = 0, windows = 1;
  bool sinks = false;
  std::uint64_t gap = 0;  // elements between rows that belong to nobody
};

inline float rounded_to(float x, float) { return x; }
inline float rounded_to(float x, Bf16) { return bf16_to_f32(f32_to_bf16(x)); }
inline float rounded_to(float x, Fp16) { return f16_to_f32(f32_to_f16(x)); }
inline void store(float x, float& to) { to = x; }
inline void store(float x, Bf16& to) { to.bits = f32_to_bf16(x); }
inline void store(float x, Fp16& to) { to.bits = f32_to_f16(x); }
inline double value_of(float x) { return double(x); }
inline double value_of(Bf16 x) { return double(bf16_to_f32(x.bits)); }
inline double value_of(Fp16 x) { return double(f16_to_f32(x.bits)); }

template <class Element>
struct AttentionProblem {
  AttentionShape shape;
  std::uint64_t positions, q_row, kv_row;
  std::vector<Element> q, k, v;
  std::vector<float> sinks;
  double largest_value = 0, largest_norm = 0;  // max |v|, max over queries and keys of scale |q| |k|

  explicit AttentionProblem(const AttentionShape& s, unsigned seed = 1)
      : shape(s),
        positions(s.first_position + s.rows),
        q_row(std::uint64_t{s.n_heads} * s.head_dim + s.gap),
        kv_row(std::uint64_t{s.n_kv_heads} * s.head_dim + s.gap) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    const auto fill = [&](std::vector<Element>& out, std::uint64_t n) {
      out.resize(n);
      for (Element& x : out) store(normal(random), x);
    };
    fill(q, s.windows * s.rows * q_row);
    fill(k, s.windows * positions * kv_row);
    fill(v, s.windows * positions * kv_row);
    if (s.sinks)
      for (std::uint32_t head = 0; head < s.n_heads; ++head) sinks.push_back(2 * normal(random));
    for (const Element& x : v) largest_value = std::max(largest_value, std::abs(value_of(x)));
    largest_norm = largest_of(q, q_row) * largest_of(k, kv_row) / std::sqrt(double(s.head_dim));
  }

  AttentionArgs<Element> args(Element* out, float* lse) const {
    AttentionArgs<Element> a{};
    a.q = q.data(), a.out = out, a.k = k.data(), a.v = v.data(), a.lse = lse;
    a.sinks = sinks.empty() ? nullptr : sinks.data();
    a.q_row = a.out_row = q_row, a.kv_row = kv_row;
    a.q_window = a.out_window = shape.rows * q_row, a.kv_window = positions * kv_row;
    a.rows = shape.rows, a.first_position = shape.first_position, a.window = shape.window;
    a.n_heads = shape.n_heads, a.n_kv_heads = shape.n_kv_heads, a.head_dim = shape.head_dim;
    a.scale = float(1 / std::sqrt(double(shape.head_dim)));
    return a;
  }
  std::uint64_t lse_size() const { return shape.windows * shape.n_heads * shape.rows; }

  /// The definition, in double: one row of one head.
  std::vector<double> exact(std::uint64_t window, std::uint32_t head, std::uint64_t row, double& lse) const {
    const std::uint64_t position = shape.first_position + row,
                        begin = shape.window != 0 && position + 1 > shape.window ? position + 1 - shape.window : 0;
    const std::uint64_t kv =
        window * positions * kv_row + std::uint64_t{head / (shape.n_heads / shape.n_kv_heads)} * shape.head_dim;
    const Element* mine = q.data() + (window * shape.rows + row) * q_row + std::uint64_t{head} * shape.head_dim;
    std::vector<double> scores, out(shape.head_dim);
    double max = sinks.empty() ? -INFINITY : double(sinks[head]);
    for (std::uint64_t j = begin; j <= position; ++j) {
      double dot = 0;
      for (std::uint32_t c = 0; c < shape.head_dim; ++c) dot += value_of(mine[c]) * value_of(k[kv + j * kv_row + c]);
      scores.push_back(dot * double(float(1 / std::sqrt(double(shape.head_dim)))));
      max = std::max(max, scores.back());
    }
    double sum = sinks.empty() ? 0 : std::exp(double(sinks[head]) - max);
    for (double& score : scores) sum += score = std::exp(score - max);
    for (std::uint64_t j = begin; j <= position; ++j)
      for (std::uint32_t c = 0; c < shape.head_dim; ++c)
        out[c] += scores[j - begin] / sum * value_of(v[kv + j * kv_row + c]);
    lse = max + std::log(sum);
    return out;
  }

  /// What may differ from `exact`. u: what one rounding to the element type costs relatively (bf16 2^-8, f16 2^-11, f32
  /// 2^-24).
  ///   scores: head_dim + 2 roundings of f32, each of at most scale |q| |k|, twice (the maximum has them too); 2^x on
  ///     the device 2^-22
  ///   weights: one rounding to the element type each; f16 weights below 2^-14 are off by up to 2^-25 absolutely
  ///   sums over keys: one f32 rounding per key
  ///   the result: one rounding to the element type
  double tolerance(double want) const {
    const double f32 = std::ldexp(1.0, -24),
                 scores = 2 * (double(shape.head_dim) + 2) * f32 * (largest_norm + 1) + 8 * f32,
                 keys = double(positions) * f32;
    if constexpr (std::is_same_v<Element, float>) return largest_value * (scores + keys) + f32 * std::abs(want);
    const double u = std::ldexp(1.0, std::is_same_v<Element, Bf16> ? -8 : -11),
                 tiny = std::is_same_v<Element, Fp16> ? double(positions) * std::ldexp(1.0, -25) : 0;
    return largest_value * (scores + keys + u + tiny) + (u + f32) * std::abs(want) + std::ldexp(1.0, -24);
  }
  double lse_tolerance(double want) const {
    return std::ldexp(1.0, -24) *
           ((double(shape.head_dim) + 8) * (largest_norm + 1) + double(positions) + 8 * std::abs(want));
  }

 private:
  double largest_of(const std::vector<Element>& rows, std::uint64_t row) const {
    double largest = 0;
    for (std::uint64_t at = 0; at + row <= rows.size(); at += row)
      for (std::uint64_t head = 0; head + shape.head_dim <= row; head += shape.head_dim) {
        double square = 0;
        for (std::uint32_t c = 0; c < shape.head_dim; ++c)
          square += value_of(rows[at + head + c]) * value_of(rows[at + head + c]);
        largest = std::max(largest, square);
      }
    return std::sqrt(largest);
  }
};

/// The worst difference of outputs (and ln-sum-exp) in units of what is allowed; NaN if one is NaN. Gaps between rows
/// must hold `untouched`.
template <class Element>
double worst_error(const AttentionProblem<Element>& problem, const std::vector<Element>& out,
                   const std::vector<float>& lse) {
  double worst = 0;
  const auto note = [&](double error) { worst = worst >= error || worst != worst ? worst : error; };
  const AttentionShape& s = problem.shape;
  for (std::uint64_t window = 0; window < s.windows; ++window)
    for (std::uint32_t head = 0; head < s.n_heads; ++head)
      for (std::uint64_t row = 0; row < s.rows; ++row) {
        double want_lse;
        const std::vector<double> want = problem.exact(window, head, row, want_lse);
        const Element* got = out.data() + (window * s.rows + row) * problem.q_row + std::uint64_t{head} * s.head_dim;
        for (std::uint32_t c = 0; c < s.head_dim; ++c)
          note(std::abs(value_of(got[c]) - want[c]) / problem.tolerance(want[c]));
        if (!lse.empty())
          note(std::abs(double(lse[(window * s.n_heads + head) * s.rows + row]) - want_lse) /
               problem.lse_tolerance(want_lse));
      }
  return worst;
}

}  // namespace ropewalk::verify
