#include "lib/codecs/encoders.h"
#include "lib/codecs/k_blocks.h"

// Each encoder fits every group alone, then the groups' scales, and last takes the levels again at the scales as stored.
namespace ropewalk::codecs {
namespace {

template <class Type>
void encode_block(const float* x, const float* importances, std::byte* block) {
  constexpr int n = Type::kGroup;
  const bool weighted = importances != nullptr;
  const float spread = weighted ? spread_of<Type>(x) : 0;
  std::uint8_t levels[256];
  float scales[256 / n], mins[256 / n], sums[256 / n];
  for (int group = 0; group < 256 / n; ++group) {
    const AffineFit fit = fit_group<Type>(x + n * group, weighted ? importances + n * group : nullptr, spread,
                                          levels + n * group, sums[group]);
    scales[group] = fit.scale;
    mins[group] = fit.min;
  }
  if (!put_scales<Type>({scales, mins, sums}, weighted, block)) return;
  for (int group = 0; group < 256 / n; ++group)
    take_again(x + n * group, stored_scale<Type>(block, group), levels + n * group, n, kLowest<Type>, kHighest<Type>);
  pack_levels<Type>(levels, block);
}

template <class Type>
void encode_row(const float* x, const float* importances, std::int64_t columns, std::byte* out) {
  for (std::int64_t at = 0; at < columns; at += 256, out += Type::kBytes) {
    std::fill_n(out, Type::kBytes, std::byte{0});
    encode_block<Type>(x + at, importances != nullptr ? importances + at : nullptr, out);
  }
}

}  // namespace

void encode_q2_k(const float* x, const float* importances, std::int64_t columns, std::byte* out) {
  encode_row<Q2K>(x, importances, columns, out);
}
void encode_q3_k(const float* x, const float* importances, std::int64_t columns, std::byte* out) {
  encode_row<Q3K>(x, importances, columns, out);
}
void encode_q4_k(const float* x, const float* importances, std::int64_t columns, std::byte* out) {
  encode_row<Q4K>(x, importances, columns, out);
}
void encode_q5_k(const float* x, const float* importances, std::int64_t columns, std::byte* out) {
  encode_row<Q5K>(x, importances, columns, out);
}
void encode_q6_k(const float* x, const float* importances, std::int64_t columns, std::byte* out) {
  encode_row<Q6K>(x, importances, columns, out);
}

}  // namespace ropewalk::codecs
