// The device's row operations, run on the host: the same text that nvcc compiles (verify/cuda/*_tiles.h), against the
// host bodies.
#include "verify/cuda/row_tiles.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "lib/convert.h"
#include "tests/verify/host_block.h"
#include "verify/cuda/head_tile.h"
#include "verify/rms_norm.h"
#include "verify/rotary.h"
#include "verify/swiglu.h"

namespace ropewalk::verify {
namespace {

constexpr std::size_t kAwkward[] = {1, 31, 257, 1000};

std::vector<float> random_floats(std::size_t n, unsigned seed, float spread = 1) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, spread);
  std::vector<float> out(n);
  for (float& x : out) x = normal(random);
  return out;
}

double ulps(float got, float want) {
  if (std::isnan(got) || std::isnan(want))
    return std::isnan(got) == std::isnan(want) ? 0 : std::numeric_limits<double>::infinity();
  return std::abs(double(got) - double(want)) / std::ldexp(1.0, std::max(std::ilogb(want), -126) - 23);
}

TEST(CudaRows, RmsNorm) {
  for (const bool backwards : {false, true})
    for (const std::size_t width : kAwkward) {
      constexpr std::size_t kRows = 3;
      const std::size_t stride = width + 5, y_stride = width + 2;
      const std::vector<float> x = random_floats(kRows * stride, 1), gain = random_floats(width, 2);
      std::vector<float> want(kRows * y_stride, 7), got = want;
      std::vector<Bf16> half(kRows * y_stride, Bf16{7});
      rms_norm(x.data(), stride, kRows, gain.data(), width, 1e-5, want.data(), y_stride);
      for_row_blocks(kRows, backwards, [&](const HostBlock& block) {
        rms_norm_block(block, RmsNormArgs<float>{x.data(), stride, gain.data(), width, 1e-5, got.data(), y_stride},
                       *fresh_shared<RmsNormShared>());
        rms_norm_block(block, RmsNormArgs<Bf16>{x.data(), stride, gain.data(), width, 1e-5, half.data(), y_stride},
                       *fresh_shared<RmsNormShared>());
      });
      // The sums differ by roundings of doubles: the one rounding to float can then go the other way, no more.
      for (std::size_t i = 0; i < got.size(); ++i) {
        ASSERT_TRUE(ulps(got[i], want[i]) <= 1) << width << " at " << i;
        ASSERT_EQ(half[i].bits, i % y_stride < width ? f32_to_bf16(got[i]) : 7) << width << " at " << i;
      }
    }
}

template <class T>
void check_rotate(RotaryPairs layout, std::size_t head_dim, std::size_t pairs, bool in_place, bool backwards) {
  constexpr std::size_t kRows = 6, kWindow = 3, kHeads = 5, kFirst = 1000;
  RopeTable frequencies;
  for (std::size_t i = 0; i < pairs; ++i) frequencies.inv_freq.push_back(std::pow(1e4, -double(i) / double(pairs)));
  frequencies.attention_factor = 1.2;
  const RotaryTable table = rotary_table(frequencies, kFirst + kWindow);
  const std::size_t width = kHeads * head_dim, stride = width + 3;
  const std::vector<float> random = random_floats(kRows * stride, 3);
  std::vector<T> x(kRows * stride);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = from_float<T>(random[i]);
  std::vector<T> want = x, y(kRows * stride);
  for (std::size_t row = 0; row < kRows; ++row) {
    std::vector<float> heads(width);
    for (std::size_t c = 0; c < width; ++c) heads[c] = to_float(x[row * stride + c]);
    rotate(heads.data(), kHeads, head_dim, layout, table, kFirst + row % kWindow);
    for (std::size_t c = 0; c < width; ++c) want[row * stride + c] = from_float<T>(heads[c]);
  }
  T* out = in_place ? x.data() : y.data();
  for_row_blocks(kRows, backwards, [&](const HostBlock& block) {
    rotate_block(
        block, RotateArgs<T>{x.data(), stride, out, stride, kHeads, head_dim, pairs, layout == RotaryPairs::interleaved,
                             table.cos.data(), table.sin.data(), kFirst, kWindow});
  });
  for (std::size_t row = 0; row < kRows; ++row)
    ASSERT_EQ(std::memcmp(out + row * stride, want.data() + row * stride, width * sizeof(T)), 0) << "row " << row;
}

TEST(CudaRows, RotateIsTheHostsBits) {
  for (const bool backwards : {false, true})
    for (const bool in_place : {false, true})
      for (const RotaryPairs layout : {RotaryPairs::half_split, RotaryPairs::interleaved})
        for (const auto& [head_dim, pairs] :
             {std::pair<std::size_t, std::size_t>{2, 1}, {31, 7}, {64, 32}, {80, 20}, {128, 64}, {257, 128}}) {
          check_rotate<float>(layout, head_dim, pairs, in_place, backwards);
          check_rotate<Bf16>(layout, head_dim, pairs, in_place, backwards);
          check_rotate<Fp16>(layout, head_dim, pairs, in_place, backwards);
        }
}

TEST(CudaRows, Swiglu) {
  for (const std::size_t groups : {1, 3, 17}) {
    const std::size_t width = 16 * groups, rows = 3;
    std::vector<float> gate_up = random_floats(rows * 2 * width, 4, 20), want(rows * width), got(rows * width);
    gate_up[0] = -200;  // e^200 is past the floats
    gate_up[1] = 200;
    swiglu(gate_up.data(), 2 * width, rows, groups, want.data(), width);
    for_row_blocks(rows, false, [&](const HostBlock& block) {
      swiglu_block(block, SwigluArgs<float, float>{gate_up.data(), 2 * width, width, 16, got.data(), width});
    });
    // Either exponential is at most 1.1 units off, sum, quotient and product round once each.
    for (std::size_t i = 0; i < got.size(); ++i)
      ASSERT_TRUE(ulps(got[i], want[i]) <= 6 || std::abs(want[i]) < 1e-30f)
          << i << ": " << got[i] << " against " << want[i];

    // Gate and up one after the other hold the same numbers in other places.
    std::vector<float> apart(gate_up.size()), again(got.size());
    for (std::size_t row = 0; row < rows; ++row)
      for (std::size_t c = 0; c < width; ++c) {
        apart[row * 2 * width + c] = gate_up[row * 2 * width + c / 16 * 32 + c % 16];
        apart[row * 2 * width + width + c] = gate_up[row * 2 * width + c / 16 * 32 + 16 + c % 16];
      }
    for_row_blocks(rows, true, [&](const HostBlock& block) {
      swiglu_block(block, SwigluArgs<float, float>{apart.data(), 2 * width, width, width, again.data(), width});
    });
    EXPECT_EQ(got, again);
  }
}

TEST(CudaRows, SwigluInPlaceOf16Bits) {
  constexpr std::size_t kWidth = 31;
  const std::vector<float> random = random_floats(2 * kWidth, 5);
  std::vector<Fp16> x(2 * kWidth), y(kWidth);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = from_float<Fp16>(random[i]);
  for_row_blocks(1, false, [&](const HostBlock& block) {
    swiglu_block(block, SwigluArgs<Fp16, Fp16>{x.data(), 0, kWidth, kWidth, y.data(), 0});
  });
  for (std::size_t c = 0; c < kWidth; ++c) {
    const double gate = double(to_float(x[c])), want = gate / (1 + std::exp(-gate)) * double(to_float(x[kWidth + c]));
    // a rounding to f16 and some of floats
    EXPECT_TRUE(std::abs(double(to_float(y[c])) - want) <= std::ldexp(std::abs(want), -10)) << c;
  }
}

TEST(CudaRows, AddRowsAndABias) {
  for (const std::size_t width : kAwkward) {
    constexpr std::size_t kRows = 3;
    const std::vector<float> before = random_floats(kRows * width, 6), y = random_floats(kRows * width, 7);
    std::vector<float> x = before, biased = before;
    for_row_blocks(kRows, false, [&](const HostBlock& block) {
      add_block(block, AddArgs<float>{x.data(), width, y.data(), width, width});
      add_block(block, AddArgs<float>{biased.data(), width, y.data(), 0, width});
    });
    for (std::size_t i = 0; i < x.size(); ++i) {
      ASSERT_EQ(x[i], before[i] + y[i]);
      ASSERT_EQ(biased[i], before[i] + y[i % width]);
    }
  }
}

std::vector<std::vector<Bf16>> split(const std::vector<float>& x, int terms) {
  std::vector<Bf16> flat(x.size() * std::size_t(terms));
  for_row_blocks((x.size() + kFlatElements - 1) / kFlatElements, false, [&](const HostBlock& block) {
    split_block(block, SplitArgs<float>{x.data(), x.size(), terms, flat.data(), x.size()});
  });
  std::vector<std::vector<Bf16>> out;
  for (int term = 0; term < terms; ++term)
    out.emplace_back(flat.begin() + term * std::ptrdiff_t(x.size()),
                     flat.begin() + (term + 1) * std::ptrdiff_t(x.size()));
  return out;
}
double sum_of(const std::vector<std::vector<Bf16>>& terms, std::size_t i) {
  double sum = 0;
  for (const auto& term : terms) sum += double(to_float(term[i]));
  return sum;
}

TEST(CudaRows, SplitIsExact) {
  std::vector<float> x = {0,
                          -0.0f,
                          1,
                          -1,
                          std::numeric_limits<float>::max(),
                          std::numeric_limits<float>::lowest(),
                          std::ldexp(1.0f, -110),
                          std::ldexp(0x1.fffffep0f, -110)};
  std::mt19937 random(10);
  while (x.size() < 10000) {
    const auto value = std::bit_cast<float>(static_cast<std::uint32_t>(random()));
    if (std::isfinite(value) && std::abs(value) >= std::ldexp(1.0f, -110)) x.push_back(value);
  }
  const auto three = split(x, 3);
  for (std::size_t i = 0; i < x.size(); ++i) ASSERT_EQ(sum_of(three, i), double(x[i])) << i;
  const auto two = split(x, 2);  // 16 bits are not enough for these
  EXPECT_FALSE([&] {
    for (std::size_t i = 0; i < x.size(); ++i)
      if (sum_of(two, i) != double(x[i])) return false;
    return true;
  }());
  // Under 2^-110 what is lost lies under the smallest bf16, 2^-133.
  const std::vector<float> tiny = {std::ldexp(0x1.fffffep0f, -112), std::ldexp(0x1.fffffep0f, -126),
                                   std::numeric_limits<float>::denorm_min()};
  const auto of_tiny = split(tiny, 3);
  for (std::size_t i = 0; i < tiny.size(); ++i)
    EXPECT_TRUE(std::abs(sum_of(of_tiny, i) - double(tiny[i])) < std::ldexp(1.0, -133)) << i;

  std::vector<float> halves;  // every finite f16 in two terms, every bf16 in one
  std::vector<float> brains;
  for (unsigned code = 0; code < 65536; ++code) {
    if (std::isfinite(f16_to_f32(static_cast<std::uint16_t>(code))))
      halves.push_back(f16_to_f32(static_cast<std::uint16_t>(code)));
    if (std::isfinite(bf16_to_f32(static_cast<std::uint16_t>(code))))
      brains.push_back(bf16_to_f32(static_cast<std::uint16_t>(code)));
  }
  const auto of_halves = split(halves, 2), of_brains = split(brains, 1);
  for (std::size_t i = 0; i < halves.size(); ++i) ASSERT_EQ(sum_of(of_halves, i), double(halves[i])) << i;
  for (std::size_t i = 0; i < brains.size(); ++i) ASSERT_EQ(sum_of(of_brains, i), double(brains[i])) << i;
}

PairStatistics on_host(std::vector<float> a, std::vector<float> b) {
  PairStatistics row;
  const std::size_t n = a.size();
  a.resize(n + kVocabBlock), b.resize(n + kVocabBlock);
  for (std::size_t column = 0; column < n; column += kVocabBlock)
    accumulate(a.data() + column, b.data() + column, column, std::min(kVocabBlock, n - column), row);
  return row;
}
/// In one piece, or in tiles of `tile` columns.
std::vector<HeadRow> on_device(const std::vector<float>& a, const std::vector<float>* b, std::size_t stride,
                               std::size_t n_vocab, const std::vector<std::int32_t>& next, bool backwards,
                               std::size_t tile = SIZE_MAX) {
  std::vector<HeadRow> out(next.size());
  std::memset(static_cast<void*>(out.data()), 0xff, out.size() * sizeof(HeadRow));  // memory of a device holds anything
  for (std::size_t first = 0; first < n_vocab; first += std::min(tile, n_vocab)) {
    const HeadArgs args{
        a.data() + first, b ? b->data() + first : nullptr, stride, std::min(tile, n_vocab - first), first, next.data(),
        out.data()};
    for_row_blocks(next.size(), backwards, [&](const HostBlock& block) {
      const auto shared = fresh_shared<HeadShared>();
      b ? head_block<true>(block, args, *shared) : head_block<false>(block, args, *shared);
    });
  }
  return out;
}

TEST(CudaHead, Statistics) {
  for (const std::size_t n_vocab : {std::size_t{1}, std::size_t{31}, std::size_t{257}, std::size_t{5003}}) {
    const std::size_t stride = n_vocab + 3;
    std::vector<float> a = random_floats(4 * stride, 11, 3), b = random_floats(4 * stride, 12, 3);
    for (std::size_t i = 0; i < stride; ++i) b[stride + i] = a[stride + i];  // row 1: the same bits
    // row 2: equal maxima, in threads 4 and 20
    if (n_vocab > 20) a[2 * stride + 4] = a[2 * stride + 20] = b[2 * stride + 19] = 50;
    // row 3: the first is in a later thread
    if (n_vocab > 257) a[3 * stride + 256] = a[3 * stride + 3] = 60;
    const std::vector<std::int32_t> next = {0, -1, static_cast<std::int32_t>(n_vocab) - 1, 0};
    for (const std::size_t tile : {SIZE_MAX, std::size_t{100}}) {
      const std::vector<HeadRow> got = on_device(a, &b, stride, n_vocab, next, false, tile),
                                 alone = on_device(a, nullptr, stride, n_vocab, next, true, tile);
      for (std::size_t row = 0; row < 4; ++row) {
        const auto row_of = [&](const std::vector<float>& all) {
          return std::vector<float>(all.begin() + std::ptrdiff_t(row * stride),
                                    all.begin() + std::ptrdiff_t(row * stride + n_vocab));
        };
        const PairStatistics want = on_host(row_of(a), row_of(b));
        const HeadRow& mine = got[row];
        // Doubles in another order: a relative 2^-52 per addition, with at most a dozen roundings of the factors they are
        // moved by; |x| <= 64.
        const double tolerance = 64 * (double(n_vocab) + 32) * std::ldexp(1.0, -52);
        const auto near = [&](double x, double y) { return std::abs(x - y) <= tolerance; };
        EXPECT_TRUE(near(mine.statistics.a.log_sum_exp(), want.a.log_sum_exp()) &&
                    near(mine.statistics.b.log_sum_exp(), want.b.log_sum_exp()))
            << n_vocab << " row " << row;
        EXPECT_TRUE(near(mine.statistics.a.entropy(), want.a.entropy()) && near(mine.statistics.kl(), want.kl()))
            << n_vocab << " row " << row << ": " << mine.statistics.kl() << " " << want.kl();
        EXPECT_EQ(mine.statistics.a.argmax, want.a.argmax) << n_vocab << " row " << row;
        EXPECT_EQ(mine.statistics.b.argmax, want.b.argmax) << n_vocab << " row " << row;
        EXPECT_EQ(mine.next_a, next[row] < 0 ? 0.0 : double(a[row * stride + std::size_t(next[row])]));
        EXPECT_EQ(mine.next_b, next[row] < 0 ? 0.0 : double(b[row * stride + std::size_t(next[row])]));
        EXPECT_EQ(std::memcmp(&mine.statistics.a, &alone[row].statistics.a, sizeof(double) * 3), 0)
            << "one model or two: the same bits";
      }
      EXPECT_EQ(got[1].statistics.kl(), 0.0) << "exactly";
      if (n_vocab > 20) {
        EXPECT_EQ(got[2].statistics.a.argmax, 4);
      }
      if (n_vocab > 257) {
        EXPECT_EQ(got[3].statistics.a.argmax, 3);
      }
    }
  }
}

TEST(CudaHead, NanStaysNan) {
  std::vector<float> a = random_floats(300, 13), b = random_floats(300, 14);
  a[299] = std::numeric_limits<float>::quiet_NaN();
  const std::vector<std::int32_t> next = {0};
  for (const std::size_t tile : {std::size_t{300}, std::size_t{299}, std::size_t{64}}) {
    const HeadRow row = on_device(a, &b, 300, 300, next, false, tile)[0];
    EXPECT_TRUE(std::isnan(row.statistics.a.log_sum_exp())) << tile;
    EXPECT_TRUE(std::isnan(row.statistics.kl())) << tile;
    EXPECT_FALSE(std::isnan(row.statistics.b.log_sum_exp())) << tile;
  }
}

}  // namespace
}  // namespace ropewalk::verify
