#include "verify/weight_rounding.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "lib/convert.h"

namespace ropewalk::verify {
namespace {

constexpr std::size_t kValues = 4096;  // at once: they stay in the first cache
constexpr std::size_t kLanes = 16;     // sums side by side, which a compiler makes vectors of

using Values = std::array<float, kValues>;

/// Pairs of zeros past `n` add nothing.
RoundingSums sums_of(const Values& values, const Values& rounded, std::size_t n) {
  std::array<double, kLanes> squares{}, errors{};
  std::array<float, kLanes> largest{};
  for (std::size_t at = 0; at < n; at += kLanes)
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      const float w = values[at + lane], error = std::abs(rounded[at + lane] - w), size = std::abs(w);
      squares[lane] += double(w) * double(w);
      errors[lane] += double(error) * double(error);
      const float relative = size > 0 ? error / size : 0.0f;
      largest[lane] = relative > largest[lane] ? relative : largest[lane];
    }
  RoundingSums out;
  for (std::size_t lane = 0; lane < kLanes; ++lane) out.add({squares[lane], errors[lane], double(largest[lane])});
  return out;
}

}  // namespace

void RoundingSums::add(const RoundingSums& more) {
  squares += more.squares, error_squares += more.error_squares;
  largest = std::max(largest, more.largest);
}

RoundingSums measure_rounding(DType dtype, std::span<const std::byte> bytes, DType to) {
  RoundingSums out;
  if (dtype == to) return out;
  const DTypeInfo& stored = info(dtype);
  const auto block_elements = std::size_t(stored.block_elements), block_bytes = std::size_t(stored.block_bytes),
             step = kValues / block_elements * block_bytes;
  Values values{}, rounded{};
  std::array<std::byte, 2 * kValues> narrow;
  for (std::size_t at = 0; at < bytes.size(); at += step) {
    const auto part = bytes.subspan(at, std::min(step, bytes.size() - at));
    const std::size_t n = part.size() / block_bytes * block_elements;
    const std::span<float> w(values.data(), n), r(rounded.data(), n);
    decode_f32(dtype, part, w);
    encode_f32(to, w, std::span(narrow).first(2 * n));
    decode_f32(to, std::span<const std::byte>(narrow).first(2 * n), r);
    for (float& x : r)
      if (!std::isfinite(x)) x = 0;
    const std::size_t end = std::min(kValues, (n + kLanes - 1) / kLanes * kLanes);
    std::fill(values.begin() + std::ptrdiff_t(n), values.begin() + std::ptrdiff_t(end), 0.0f);
    std::fill(rounded.begin() + std::ptrdiff_t(n), rounded.begin() + std::ptrdiff_t(end), 0.0f);
    out.add(sums_of(values, rounded, n));
  }
  return out;
}

}  // namespace ropewalk::verify
