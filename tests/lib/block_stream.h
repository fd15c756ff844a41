#pragma once

#include "tests/lib/block_golden.h"

/// The rows whose blocks' hashes, made by ggml, are "stream" and "stream_weighted" of the golden's types.
namespace block_golden {

inline constexpr std::size_t kColumns = 1024, kRows = 192;

// rows() of make_blocks.py: eight kinds in turn.
inline const std::vector<float>& stream() {
  static const std::vector<float> values = [] {
    const std::vector<std::uint64_t> u = noise(7, kRows * kColumns), v = noise(8, kRows * kColumns);
    std::vector<float> x(kRows * kColumns);
    for (std::size_t r = 0; r < kRows; ++r)
      for (std::size_t c = 0; c < kColumns; ++c) {
        const std::uint64_t word = u[r * kColumns + c];
        const int low = static_cast<int>(v[r * kColumns + c] & 15);
        const int s =
            static_cast<int>((word & 0xffff) + (word >> 16 & 0xffff) + (word >> 32 & 0xffff) + (word >> 48)) - 131070;
        const double f = std::ldexp(s, -15), e = std::ldexp(1.0, static_cast<int>(r / 8 % 24) - 16);
        const double kinds[] = {f * e,
                                std::fabs(f) * e,
                                -std::fabs(f) * e,
                                low < 2 ? f : 0,
                                1 + std::ldexp(f, -6),
                                std::ldexp(f, low - 8),
                                static_cast<double>(s >> 14) * e,
                                std::ldexp(f, -130)};
        x[r * kColumns + c] = static_cast<float>(kinds[r % 8]);
      }
    return x;
  }();
  return values;
}
inline std::vector<float> importances(std::uint64_t seed = 9) {
  std::vector<float> out;
  for (const std::uint64_t u : noise(seed, kColumns))
    out.push_back(u >> 60 == 0 ? 0.0f : static_cast<float>(std::ldexp(static_cast<double>(u & 0xffff), -12)));
  return out;
}

/// Contraction to FMA changes blocks of every other type with importances or without, of IQ2_XXS none of the stream's: one
/// with those of another seed. The hash is ggml 0.25.3's.
inline constexpr std::uint64_t kIq2XxsSeed = 14;
inline constexpr const char* kIq2XxsHash = "a6fedef8cf6df6079330353539ee7692f90fc1e570496e637cfd36e414508ef1";

}  // namespace block_golden
