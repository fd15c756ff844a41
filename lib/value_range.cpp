#include "lib/value_range.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "lib/error.h"
#include "lib/number_text.h"

namespace ropewalk {
namespace {

struct Range {
  double largest;  // the largest finite value
  // magnitudes from here on round past it: the midpoint to the next, or just above that where ties go down (E4M3)
  double overflows;
};

Range range_of(DType dtype) {
  switch (dtype) {
    case DType::f16: return {65504, 65520};
    case DType::bf16: return {0x1.fep127, 0x1.ffp127};
    case DType::f8_e4m3: return {448, std::nextafter(464.0, 1e9)};
    case DType::f8_e5m2: return {57344, 61440};
    case DType::f32: return {std::numeric_limits<float>::max(), 0x1.ffffffp127};
    // Of a block's scale, which is an f16.
    case DType::q4_0: return {8 * 65504.0, 8 * 65520.0};
    case DType::q5_0: return {16 * 65504.0, 16 * 65520.0};
    case DType::q8_0: return {127 * 65504.0, 127 * 65520.0};
    case DType::nvfp4: return {6 * 448.0, 6 * 464.0};  // of a scale that is an E4M3 without sign: larger ones stay 448
    case DType::mxfp4:                                 // scales of any size
      return {std::numeric_limits<double>::max(), std::numeric_limits<double>::infinity()};
    default:
      // Others have an f16 scale or minimum that may be as large as an element: what an f16 holds, they do.
      if (is_block_type(dtype)) return {65504, 65520};
      return {std::numeric_limits<double>::max(), std::numeric_limits<double>::infinity()};
  }
}

std::string number(double value) { return number_text(value, 9); }

/// Where a value that `dtype` cannot hold would fit.
std::string wider(DType dtype, double value) {
  const auto fits = [&](DType other) { return other != dtype && std::fabs(value) < range_of(other).overflows; };
  if (!fits(DType::f32)) return "no type written holds it: is an adapter's scale too large, or the checkpoint damaged?";
  return std::string("use ") + (fits(DType::bf16) ? "bf16 or f32" : "f32") + ", or clamp it with --saturate";
}

[[noreturn]] void refuse(const LazyTensor& tensor, std::uint64_t element, DType dtype, double value) {
  const std::uint64_t columns = std::max<std::uint64_t>(tensor.info().columns(), 1);
  const std::string name(info(dtype).name);
  const std::string place = "tensor '" + tensor.name() + "': row " + std::to_string(element / columns) + ", column " +
                            std::to_string(element % columns) + ": ";
  const Error::Where where{.path = std::string(tensor.file())};
  if (std::isfinite(value))
    throw Error(ErrorKind::bad_input, where,
                place + number(value) + " is past the largest " + name + " value, " + number(range_of(dtype).largest),
                wider(dtype, value));
  throw Error(ErrorKind::bad_input, where,
              place + (std::isnan(value) ? "NaN" : "an infinity") + " would spoil a whole block of " + name,
              "repair the checkpoint, or keep its values as they are with f16, bf16 or f32");
}

}  // namespace

bool in_range(DType dtype, double largest) {
  const double bound = range_of(dtype).overflows;
  return largest <
         bound;  // false for NaN, and for an infinity whatever the type: values beside it may be past the range
}

template <class Float>
std::uint64_t enforce_range(const LazyTensor& tensor, std::uint64_t first_row, DType dtype, OutOfRange policy,
                            std::span<Float> values) {
  const Range range = range_of(dtype);
  const bool block = is_block_type(dtype);
  std::uint64_t clamped = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double value = values[i];
    if (std::fabs(value) < range.overflows) continue;
    const bool finite = std::isfinite(value);
    if (!finite && !block) continue;
    if (!finite || policy == OutOfRange::refuse) refuse(tensor, first_row * tensor.info().columns() + i, dtype, value);
    values[i] = static_cast<Float>(std::copysign(range.largest, value));
    ++clamped;
  }
  return clamped;
}

template <class Float>
std::uint64_t count_out_of_range(DType dtype, std::span<const Float> values) {
  const double bound = range_of(dtype).overflows;
  return static_cast<std::uint64_t>(std::count_if(values.begin(), values.end(), [&](Float value) {
    return std::isfinite(value) && std::fabs(double(value)) >= bound;
  }));
}

template std::uint64_t count_out_of_range<float>(DType, std::span<const float>);
template std::uint64_t count_out_of_range<double>(DType, std::span<const double>);
template std::uint64_t enforce_range<float>(const LazyTensor&, std::uint64_t, DType, OutOfRange, std::span<float>);
template std::uint64_t enforce_range<double>(const LazyTensor&, std::uint64_t, DType, OutOfRange, std::span<double>);

}  // namespace ropewalk
