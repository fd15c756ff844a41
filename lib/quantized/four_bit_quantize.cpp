#include "lib/quantized/four_bit_quantize.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <mutex>

#include "lib/forwarding_tensor.h"
#include "lib/quantized/rounding.h"
#include "lib/row_blocks.h"

namespace ropewalk {
namespace {

constexpr float kSmallest = 1e-38f;

/// Levels in rising order, the code of each, and the bounds between neighbours.
struct Ladder {
  std::array<std::uint8_t, 16> code;
  std::array<float, 15> bound;
  explicit Ladder(FourBitType type) {
    const std::span<const float, 16> levels = four_bit_levels(type);
    for (std::size_t i = 0; i < 16; ++i) code[i] = static_cast<std::uint8_t>(i);
    std::stable_sort(code.begin(), code.end(), [&](auto a, auto b) { return levels[a] < levels[b]; });
    for (std::size_t i = 0; i < 15; ++i) bound[i] = (levels[code[i]] + levels[code[i + 1]]) / 2;
  }
};

const Ladder& ladder(FourBitType type) {
  static const Ladder nf4(FourBitType::nf4), fp4(FourBitType::fp4);
  return type == FourBitType::nf4 ? nf4 : fp4;
}

class RoundTrip final : public ForwardingTensor {
 public:
  RoundTrip(TensorPtr parent, FourBitType type, std::uint64_t block, bool nested)
      : ForwardingTensor(parent->info(), parent), type_(type), block_(block), nested_(nested) {}

  void prepare() const override {
    parent().prepare();
    const std::lock_guard lock(mutex_);
    if (!scales_) scales_ = std::make_shared<const Scales>(measure());
  }
  std::uint64_t prepared_bytes() const noexcept override {
    return parent().prepared_bytes() + (info().elements() / block_ + 1) * 2 * sizeof(float);
  }
  void release() const override {
    parent().release();
    const std::lock_guard lock(mutex_);
    scales_.reset();
  }

  void read_f32(RowRange range, std::span<float> values) const override {
    prepare();
    const std::shared_ptr<const Scales> scales = [&] {
      const std::lock_guard lock(mutex_);
      return scales_ ? scales_ : std::make_shared<const Scales>(measure());
    }();
    parent().read_f32(range, values);
    const std::uint64_t elements = info().elements(), whole = elements / block_ * block_;
    const std::span<const float, 16> levels = four_bit_levels(type_);
    std::vector<std::uint8_t> codes(block_);
    const std::uint64_t begin = range.begin * info().columns(), end = begin + values.size();
    for (std::uint64_t first = begin; first < end;) {
      const std::uint64_t block = first / block_, stop = std::min(end, (block + 1) * block_);
      const std::span<float> part = values.subspan(first - begin, stop - first);
      encode_four_bit(type_, part, scales->own[block], first < whole, codes);
      for (std::size_t i = 0; i < part.size(); ++i) part[i] = levels[codes[i]] * scales->stored[block];
      first = stop;
    }
    round_through(dtype(), values);
  }

 private:
  struct Scales {
    std::vector<float> own;     // that codes are found with
    std::vector<float> stored;  // that they are multiplied by
  };

  Scales measure() const {
    Scales scales;
    std::vector<float> block;  // what the last rows left of one
    for_row_blocks(parent(), [&](std::uint64_t, std::span<const float> values) {
      while (!values.empty()) {
        const std::size_t taken = std::min<std::size_t>(block_ - block.size(), values.size());
        block.insert(block.end(), values.begin(), values.begin() + static_cast<std::ptrdiff_t>(taken));
        values = values.subspan(taken);
        if (block.size() < block_) continue;
        scales.own.push_back(four_bit_scale(block, true));
        block.clear();
      }
      return true;
    });
    if (!block.empty()) scales.own.push_back(four_bit_scale(block, false));
    scales.stored = nested_ ? dequantize_scales(quantize_scales(scales.own)) : scales.own;
    return scales;
  }

  FourBitType type_;
  std::uint64_t block_;
  bool nested_;
  mutable std::mutex mutex_;
  mutable std::shared_ptr<const Scales> scales_;
};

}  // namespace

float four_bit_scale(std::span<const float> block, bool whole) {
  float absmax = 0;
  for (const float value : block) absmax = std::max(absmax, std::abs(value));
  return whole ? absmax : std::max(absmax, kSmallest);
}

void encode_four_bit(FourBitType type, std::span<const float> block, float scale, bool whole,
                     std::span<std::uint8_t> codes) {
  const Ladder& steps = ladder(type);
  const float inverse = 1.0f / std::max(scale, kSmallest);
  for (std::size_t i = 0; i < block.size(); ++i) {
    const float value = std::clamp(whole ? block[i] * inverse : block[i] / scale, -1.0f, 1.0f);
    std::size_t step = 0;
    for (const float bound : steps.bound) step += value > bound ? 1 : 0;
    codes[i] = steps.code[step];
  }
}

TensorPtr four_bit_round_trip(TensorPtr parent, FourBitType type, std::uint64_t block_elements,
                              bool double_quantization) {
  return std::make_shared<RoundTrip>(std::move(parent), type, block_elements, double_quantization);
}

}  // namespace ropewalk
