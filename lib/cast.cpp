#include <algorithm>
#include <cmath>
#include <limits>
#include <sstream>
#include <utility>

#include "lib/convert.h"
#include "lib/convert_simd.h"
#include "lib/error.h"
#include "lib/forwarding_tensor.h"
#include "lib/recipes.h"

namespace ropewalk {
namespace {

// Elements per step: the temporary (256 KiB as doubles) stays in the second cache between the parent that fills it and the encoder.
constexpr std::uint64_t kChunk = std::uint64_t{32} << 10;

struct Range {
  double largest;    // the largest finite value
  double overflows;  // magnitudes from here on round past it: the midpoint to the next, or just above that where ties go down (E4M3)
};

Range range_of(DType dtype) {
  switch (dtype) {
    case DType::f16: return {65504, 65520};
    case DType::bf16: return {0x1.fep127, 0x1.ffp127};
    case DType::f8_e4m3: return {448, std::nextafter(464.0, 1e9)};
    case DType::f8_e5m2: return {57344, 61440};
    case DType::q8_0: return {127 * 65504.0, 127 * 65520.0};  // of a block's scale, which is an f16
    case DType::f32: return {std::numeric_limits<float>::max(), 0x1.ffffffp127};
    default: return {std::numeric_limits<double>::max(), std::numeric_limits<double>::infinity()};
  }
}

class Cast final : public ForwardingTensor {
 public:
  Cast(TensorInfo info, TensorPtr parent, bool saturate)
      : ForwardingTensor(std::move(info), std::move(parent)), range_(range_of(dtype())), saturate_(saturate) {}

  bool has_raw() const noexcept override { return true; }
  bool is_wide() const noexcept override { return dtype() == DType::f64; }

  void read_raw(RowRange range, std::span<std::byte> bytes) const override {
    if (parent().is_wide()) return encode<double>(range, bytes);
    encode<float>(range, bytes);
  }
  void read_f32(RowRange range, std::span<float> values) const override { decode(range, values, decode_f32); }
  void read_f64(RowRange range, std::span<double> values) const override { decode(range, values, decode_f64); }

 private:
  template <class Float>
  void encode(RowRange range, std::span<std::byte> bytes) const {
    const std::uint64_t columns = info().columns(), row_bytes = info().row_bytes();
    std::unique_ptr<Float[]> buffer;
    std::uint64_t capacity = 0;
    for_each_chunk(*this, range, kChunk, [&](RowRange chunk) {
      const std::uint64_t n = chunk.size() * columns;
      if (n > capacity) buffer = std::make_unique_for_overwrite<Float[]>(capacity = n);
      const std::span values(buffer.get(), n);
      const std::span out = bytes.subspan((chunk.begin - range.begin) * row_bytes, chunk.size() * row_bytes);
      if constexpr (sizeof(Float) == 8) {
        parent().read_f64(chunk, values);
        guard<double>(chunk, values);
        encode_f64(dtype(), values, out);
      } else {
        parent().read_f32(chunk, values);
        guard<float>(chunk, values);
        encode_f32(dtype(), values, out);
      }
    });
  }

  // The values a consumer of the cast sees are the rounded ones.
  template <class Float>
  void decode(RowRange range, std::span<Float> values, void (*decode_all)(DType, std::span<const std::byte>, std::span<Float>)) const {
    const std::uint64_t columns = info().columns(), row_bytes = info().row_bytes();
    std::unique_ptr<std::byte[]> buffer;
    std::uint64_t capacity = 0;
    for_each_chunk(*this, range, kChunk, [&](RowRange chunk) {
      const std::uint64_t n = chunk.size() * row_bytes;
      if (n > capacity) buffer = std::make_unique_for_overwrite<std::byte[]>(capacity = n);
      const std::span bytes(buffer.get(), n);
      read_raw(chunk, bytes);
      decode_all(dtype(), bytes, values.subspan((chunk.begin - range.begin) * columns, chunk.size() * columns));
    });
  }

  // Finite values that would leave the type's range are an error or clamped; infinities and NaN are the source's own.
  template <class Float>
  void guard(RowRange rows, std::span<Float> values) const {
    // as Float, rounded up: a float bound of an exact double test
    Float bound = static_cast<Float>(range_.overflows);
    if (static_cast<double>(bound) < range_.overflows) bound = std::nextafter(bound, std::numeric_limits<Float>::infinity());
    if (!simd::any_at_least(values.data(), values.size(), bound)) return;
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (!std::isfinite(values[i]) || !(std::fabs(values[i]) >= bound)) continue;
      if (!saturate_) refuse(rows.begin + i / info().columns(), i % info().columns(), static_cast<double>(values[i]));
      values[i] = std::copysign(static_cast<Float>(range_.largest), values[i]);
    }
  }

  [[noreturn]] void refuse(std::uint64_t row, std::uint64_t column, double value) const {
    std::ostringstream problem;
    problem.precision(9);
    problem << "tensor '" << name() << "': row " << row << ", column " << column << ": " << value << " is past the largest "
            << ropewalk::info(dtype()).name << " value, " << range_.largest;
    throw Error(ErrorKind::bad_input, {}, problem.str(), "use bf16 or f32, or clamp by saturation");
  }

  Range range_;
  bool saturate_;
};

}  // namespace

TensorPtr cast(TensorPtr parent, DType dtype, bool saturate) {
  if (parent->dtype() == dtype && parent->has_raw()) return parent;
  if (!can_encode(dtype))
    throw Error(ErrorKind::unsupported, {},
                "tensor '" + parent->name() + "': type " + std::string(info(dtype).name) + " cannot be written by this version",
                "use f32, f16, bf16 or q8_0");
  if (!can_decode(parent->dtype()))
    throw Error(ErrorKind::unsupported, {},
                "tensor '" + parent->name() + "': type " + std::string(info(parent->dtype()).name) + " cannot be read by this version",
                "start from an f32, f16, bf16 or q8_0 file");
  if (!byte_size(dtype, parent->info().columns()))
    throw Error(ErrorKind::unsupported, {},
                "tensor '" + parent->name() + "': rows of " + std::to_string(parent->info().columns()) + " elements are not whole blocks of " +
                    std::to_string(info(dtype).block_elements) + ", which " + std::string(info(dtype).name) + " needs",
                "keep this tensor in f32 or f16");
  TensorInfo info = parent->info();
  info.dtype = dtype;
  return std::make_shared<Cast>(std::move(info), std::move(parent), saturate);
}

}  // namespace ropewalk
