// Each device operation against its host body, at awkward sizes. Label gpu; skips aloud without a device.
#include "verify/cuda/ops.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "lib/codecs/decode.h"
#include "lib/codecs/q8_0.h"
#include "lib/convert.h"
#include "tests/verify/device_for_test.h"
#include "verify/device_weights.h"
#include "verify/rms_norm.h"
#include "verify/rotary.h"
#include "verify/swiglu.h"

namespace ropewalk::verify {
namespace {

constexpr std::size_t kAwkward[] = {1, 31, 257, 4096};

double ulps(float got, float want) {
  if (std::isnan(got) || std::isnan(want))
    return std::isnan(got) == std::isnan(want) ? 0 : std::numeric_limits<double>::infinity();
  return std::abs(double(got) - double(want)) / std::ldexp(1.0, std::max(std::ilogb(want), -126) - 23);
}

class DeviceOps : public DeviceTest {};

TEST_F(DeviceOps, RmsNorm) {
  for (const std::size_t width : kAwkward)
    for (const std::size_t rows : {1, 31, 257}) {
      const std::vector<float> x = random_floats(rows * width, 1), gain = random_floats(width, 2);
      std::vector<float> want(rows * width);
      rms_norm(x.data(), width, rows, gain.data(), width, 1e-5, want.data(), width);
      const auto dx = upload(x), dg = upload(gain), dy = room<float>(rows * width), dh = room<Bf16>(rows * width);
      rms_norm<float>({dx.as<const float>().data, rows, width, width}, dg.as<const float>(), 1e-5,
                      {dy.as<float>().data, rows, width, width}, stream());
      rms_norm<Bf16>({dx.as<const float>().data, rows, width, width}, dg.as<const float>(), 1e-5,
                     {dh.as<Bf16>().data, rows, width, width}, stream());
      const auto got = download<float>(dy);
      const auto half = download<Bf16>(dh);
      for (std::size_t i = 0; i < got.size(); ++i) {
        ASSERT_TRUE(ulps(got[i], want[i]) <= 1) << rows << " x " << width << " at " << i;
        ASSERT_EQ(half[i].bits, f32_to_bf16(got[i])) << rows << " x " << width << " at " << i;
      }
    }
}

TEST_F(DeviceOps, RotateIsTheHostsBits) {
  constexpr std::size_t kRows = 257, kHeads = 3, kFirst = 131000;
  for (const RotaryPairs layout : {RotaryPairs::half_split, RotaryPairs::interleaved})
    for (const auto& [head_dim, pairs] : {std::pair<std::size_t, std::size_t>{2, 1}, {31, 7}, {128, 64}, {257, 100}}) {
      RopeTable frequencies;
      for (std::size_t i = 0; i < pairs; ++i) frequencies.inv_freq.push_back(std::pow(1e4, -double(i) / double(pairs)));
      frequencies.attention_factor = 1.2;
      const RotaryTable table = rotary_table(frequencies, kFirst + kRows);
      const std::size_t width = kHeads * head_dim;
      std::vector<float> want = random_floats(kRows * width, 3);
      const auto dx = upload(want), cos = upload(table.cos), sin = upload(table.sin);
      const DeviceRotary rotary{pairs, kFirst + kRows, cos.as<const float>(), sin.as<const float>()};
      const DeviceRows<float> rows{dx.as<float>().data, kRows, width, width};
      rotate<float>(rows, head_dim, layout, rotary, kFirst, kRows, rows, stream());
      for (std::size_t row = 0; row < kRows; ++row)
        rotate(want.data() + row * width, kHeads, head_dim, layout, table, kFirst + row);
      ASSERT_EQ(download<float>(dx), want) << head_dim;
    }
}

TEST_F(DeviceOps, Swiglu) {
  for (const std::size_t groups : {1, 17, 257}) {
    const std::size_t width = 16 * groups, rows = 31;
    std::vector<float> gate_up = random_floats(rows * 2 * width, 4, 20), want(rows * width);
    gate_up[0] = -200;
    swiglu(gate_up.data(), 2 * width, rows, groups, want.data(), width);
    const auto dx = upload(gate_up), dy = room<float>(rows * width), dh = room<Bf16>(rows * width);
    swiglu<float, float>({dx.as<const float>().data, rows, 2 * width, 2 * width}, 16,
                         {dy.as<float>().data, rows, width, width}, stream());
    swiglu<float, Bf16>({dx.as<const float>().data, rows, 2 * width, 2 * width}, 16,
                        {dh.as<Bf16>().data, rows, width, width}, stream());
    const auto got = download<float>(dy);
    const auto half = download<Bf16>(dh);
    for (std::size_t i = 0; i < got.size(); ++i) {
      ASSERT_TRUE(ulps(got[i], want[i]) <= 8 || std::abs(want[i]) < 1e-30f)
          << i << ": " << got[i] << " against " << want[i];  // the device's exponential: 2 units
      ASSERT_EQ(half[i].bits, f32_to_bf16(got[i])) << i;
    }
  }
}

TEST_F(DeviceOps, AddAndBias) {
  for (const std::size_t width : kAwkward) {
    constexpr std::size_t kRows = 31;
    const std::vector<float> before = random_floats(kRows * width, 6), y = random_floats(kRows * width, 7);
    const auto dx = upload(before), db = upload(before), dy = upload(y);
    add<float>({dx.as<float>().data, kRows, width, width}, {dy.as<const float>().data, kRows, width, width}, stream());
    add<float>({db.as<float>().data, kRows, width, width}, {dy.as<const float>().data, kRows, width, 0}, stream());
    const auto sum = download<float>(dx), biased = download<float>(db);
    for (std::size_t i = 0; i < sum.size(); ++i) {
      ASSERT_EQ(sum[i], before[i] + y[i]);
      ASSERT_EQ(biased[i], before[i] + y[i % width]);
    }
  }
}

TEST_F(DeviceOps, DequantizeEveryCodeAndGather) {
  std::vector<std::byte> codes(2 * 65536), blocks(34 * 257);
  for (unsigned code = 0; code < 65536; ++code)
    codes[2 * code] = std::byte(code & 255), codes[2 * code + 1] = std::byte(code >> 8);
  encode_q8_0(random_floats(32 * 257, 8), blocks);
  for (const auto& [dtype, bytes, elements] : {std::tuple{DType::f16, codes, std::size_t{65536}},
                                               {DType::bf16, codes, 65536},
                                               {DType::q8_0, blocks, 32 * 257}}) {
    std::vector<float> want(elements);
    decode_f32(dtype, bytes, want);
    const auto from = upload(bytes), to = room<float>(elements), half = room<Fp16>(elements);
    dequantize<float>(dtype, from.as<const std::byte>(), to.as<float>(), stream());
    dequantize<Fp16>(dtype, from.as<const std::byte>(), half.as<Fp16>(), stream());
    const auto got = download<float>(to);
    const auto got_half = download<Fp16>(half);
    for (std::size_t i = 0; i < elements; ++i) {
      ASSERT_TRUE(got[i] == want[i] || (std::isnan(got[i]) && std::isnan(want[i]))) << info(dtype).name << " at " << i;
      ASSERT_TRUE(got_half[i].bits == f32_to_f16(want[i]) || std::isnan(want[i])) << info(dtype).name << " at " << i;
    }
  }
  const std::vector<std::int32_t> ids = {256, 0, 0, 31};
  std::vector<float> want(32 * 257);
  decode_f32(DType::q8_0, blocks, want);
  const auto table = upload(blocks), rows = upload(ids), x = room<float>(4 * 32);
  gather(DType::q8_0, table.as<const std::byte>(), rows.as<const std::int32_t>(), {x.as<float>().data, 4, 32, 32},
         stream());
  const auto got = download<float>(x);
  for (std::size_t i = 0; i < got.size(); ++i) ASSERT_EQ(got[i], want[std::size_t(ids[i / 32]) * 32 + i % 32]);
  EXPECT_THROW(gather(DType::f8_e4m3, table.as<const std::byte>(), rows.as<const std::int32_t>(),
                      {x.as<float>().data, 4, 32, 32}, stream()),
               Error);
}

/// Bytes of whole blocks, random: scales among them that are subnormal, infinite and NaN.
std::vector<std::byte> random_blocks(DType dtype, std::size_t elements, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<std::byte> out(byte_size(dtype, elements).value());
  for (std::byte& byte : out) byte = static_cast<std::byte>(random());
  return out;
}
std::vector<DType> block_types() {
  std::vector<DType> types;
  for (const DTypeInfo& type : kDTypes)
    if (has_block_decoder(type.dtype)) types.push_back(type.dtype);
  return types;
}

// The arithmetic of nvcc against the host compiler's: the same bits, but for a NaN's payload. On and off 16 bytes, and
// of counts that fill the last block of threads and that do not.
TEST_F(DeviceOps, EveryBlockTypeIsTheHostsBits) {
  EXPECT_EQ(block_types().size(), 25u);
  for (const DType dtype : block_types())
    for (const std::size_t count : {std::size_t{256}, std::size_t{2048}, std::size_t{256 * 1001}})
      for (const std::size_t off : {0, 2}) {
        SCOPED_TRACE(std::string(info(dtype).name) + ", " + std::to_string(count) + " from " + std::to_string(off));
        ASSERT_TRUE(device_can_decode(dtype));
        std::vector<std::byte> bytes = random_blocks(dtype, count, 3);
        std::vector<float> want(count);
        decode_f32(dtype, bytes, want);
        bytes.insert(bytes.begin(), off, std::byte{0});
        const auto from = upload(bytes), wide = room<float>(count + off), half = room<Fp16>(count + off),
                   brain = room<Bf16>(count + off), terms = room<Bf16>(3 * count + off);
        const auto stored = from.as<const std::byte>().subspan(off, bytes.size() - off);
        dequantize<float>(dtype, stored, wide.as<float>().subspan(off, count), stream());
        dequantize<Fp16>(dtype, stored, half.as<Fp16>().subspan(off, count), stream());
        dequantize<Bf16>(dtype, stored, brain.as<Bf16>().subspan(off, count), stream());
        dequantize_terms(dtype, stored, {terms.as<Bf16>().data + off, 3, count, count}, stream());
        const auto got = download<float>(wide);
        const auto got_half = download<Fp16>(half);
        const auto got_brain = download<Bf16>(brain), got_terms = download<Bf16>(terms);
        for (std::size_t i = 0; i < count; ++i) {
          if (std::isnan(want[i])) {
            ASSERT_TRUE(std::isnan(got[i + off])) << i;
            continue;
          }
          ASSERT_EQ(std::bit_cast<std::uint32_t>(got[i + off]), std::bit_cast<std::uint32_t>(want[i])) << i;
          ASSERT_EQ(got_half[i + off].bits, f32_to_f16(want[i])) << i;
          ASSERT_EQ(got_brain[i + off].bits, f32_to_bf16(want[i])) << i;
          float rest = want[i];
          for (std::size_t term = 0; term < 3 && std::isfinite(want[i]); ++term)
            ASSERT_EQ(got_terms[term * count + i + off].bits, take_term(rest).bits) << i;
        }
      }
}

// No assertion: scripts/gpu-check keeps what it prints.
TEST_F(DeviceOps, DequantizingIsTimed) {
  constexpr std::size_t kElements = std::size_t{1} << 27;
  const auto to = room<Bf16>(3 * kElements);
  const auto time = [&](const char* name, std::size_t bytes, const auto& decode) {
    double best = 0;
    for (int i = 0; i < 6; ++i) {
      Event begin, end;
      begin.record(stream());
      decode();
      end.record(stream());
      end.wait();
      const double ms = end.milliseconds_since(begin);
      if (i > 0 && (i == 1 || ms < best)) best = ms;
    }
    std::printf("timing: dequantize %s: %.3f ms for 2^27 weights, %.0f G weights/s, %.0f GB/s read and written\n", name,
                best, double(kElements) / best / 1e6, double(bytes) / best / 1e6);
  };
  for (const DType dtype : {DType::q4_k, DType::q6_k, DType::q8_0, DType::iq4_xs, DType::iq2_xxs, DType::mxfp4}) {
    std::vector<std::byte> bytes;  // a megaweight, repeated
    const std::vector<std::byte> some = random_blocks(dtype, std::size_t{1} << 20, 4);
    for (int i = 0; i < 128; ++i) bytes.insert(bytes.end(), some.begin(), some.end());
    const auto from = upload(bytes);
    const std::string name(info(dtype).name);
    time((name + " to bf16").c_str(), bytes.size() + 2 * kElements,
         [&] { dequantize<Bf16>(dtype, from.as<const std::byte>(), to.as<Bf16>().subspan(0, kElements), stream()); });
    if (dtype == DType::q4_k)
      time((name + " to three bf16 terms").c_str(), bytes.size() + 6 * kElements, [&] {
        dequantize_terms(dtype, from.as<const std::byte>(), {to.as<Bf16>().data, 3, kElements, kElements}, stream());
      });
  }
}

TEST_F(DeviceOps, SplitIsExact) {
  const std::vector<float> x = random_floats(100003, 9);
  const auto from = upload(x), to = room<Bf16>(3 * x.size());
  split_bf16<float>(from.as<const float>(), {to.as<Bf16>().data, 3, x.size(), x.size()}, stream());
  const auto terms = download<Bf16>(to);
  for (std::size_t i = 0; i < x.size(); ++i) {
    double sum = 0;
    for (std::size_t term = 0; term < 3; ++term) sum += double(bf16_to_f32(terms[term * x.size() + i].bits));
    ASSERT_EQ(sum, double(x[i])) << i;
  }
}

TEST_F(DeviceOps, HeadStatistics) {
  for (const std::size_t n_vocab : {std::size_t{1}, std::size_t{31}, std::size_t{257}, std::size_t{32003}}) {
    constexpr std::size_t kRows = 31;
    std::vector<float> a = random_floats(kRows * n_vocab, 11, 3), b = random_floats(kRows * n_vocab, 12, 3);
    std::copy_n(a.begin(), n_vocab, b.begin());  // row 0: the same bits
    std::vector<std::int32_t> next(kRows, static_cast<std::int32_t>(n_vocab) - 1);
    next[3] = -1;
    const auto da = upload(a), db = upload(b), dn = upload(next), out = room<HeadRow>(kRows),
               again = room<HeadRow>(kRows), in_tiles = room<HeadRow>(kRows);
    const DeviceRows<const float> rows_a{da.as<const float>().data, kRows, n_vocab, n_vocab},
        rows_b{db.as<const float>().data, kRows, n_vocab, n_vocab};
    head_statistics(rows_a, rows_b, 0, dn.as<const std::int32_t>(), out.as<HeadRow>(), stream());
    head_statistics(rows_a, rows_b, 0, dn.as<const std::int32_t>(), again.as<HeadRow>(), stream());
    for (std::size_t first = 0; first < n_vocab; first += kHeadTile) {
      const auto tile_of = [&](const DeviceRows<const float>& rows) {
        return DeviceRows<const float>{rows.data + first, kRows, std::min(kHeadTile, n_vocab - first), n_vocab};
      };
      head_statistics(tile_of(rows_a), tile_of(rows_b), first, dn.as<const std::int32_t>(), in_tiles.as<HeadRow>(),
                      stream());
    }
    const auto got = download<HeadRow>(out), twice = download<HeadRow>(again), tiles = download<HeadRow>(in_tiles);
    for (std::size_t row = 0; row < kRows; ++row) {
      PairStatistics want;
      std::vector<float> block_a(kVocabBlock), block_b(kVocabBlock);
      for (std::size_t column = 0; column < n_vocab; column += kVocabBlock) {
        const std::size_t width = std::min(kVocabBlock, n_vocab - column);
        std::copy_n(a.data() + row * n_vocab + column, width, block_a.data());
        std::copy_n(b.data() + row * n_vocab + column, width, block_b.data());
        accumulate(block_a.data(), block_b.data(), column, width, want);
      }
      const PairStatistics& mine = got[row].statistics;
      const double tolerance = 64 * (double(n_vocab) + 32) * std::ldexp(1.0, -52);  // as in cuda_rows_test.cpp
      EXPECT_TRUE(std::abs(mine.a.log_sum_exp() - want.a.log_sum_exp()) <= tolerance &&
                  std::abs(mine.b.log_sum_exp() - want.b.log_sum_exp()) <= tolerance)
          << n_vocab << " row " << row;
      EXPECT_TRUE(std::abs(mine.a.entropy() - want.a.entropy()) <= tolerance &&
                  std::abs(mine.kl() - want.kl()) <= tolerance)
          << n_vocab << " row " << row;
      EXPECT_EQ(mine.a.argmax, want.a.argmax);
      EXPECT_EQ(mine.b.argmax, want.b.argmax);
      EXPECT_EQ(got[row].next_a, next[row] < 0 ? 0.0 : double(a[row * n_vocab + std::size_t(next[row])]));
      EXPECT_EQ(mine.difference, twice[row].statistics.difference) << "two runs give the same bits";
      const PairStatistics& tiled = tiles[row].statistics;
      EXPECT_TRUE(std::abs(tiled.a.log_sum_exp() - want.a.log_sum_exp()) <= tolerance &&
                  std::abs(tiled.a.entropy() - want.a.entropy()) <= tolerance &&
                  std::abs(tiled.kl() - want.kl()) <= tolerance)
          << n_vocab << " row " << row << ", tile after tile";
      EXPECT_TRUE(tiled.a.argmax == want.a.argmax && tiled.b.argmax == want.b.argmax);
      EXPECT_TRUE(tiles[row].next_a == got[row].next_a && tiles[row].next_b == got[row].next_b);
    }
    EXPECT_EQ(got[0].statistics.kl(), 0.0) << "exactly";
    EXPECT_EQ(tiles[0].statistics.kl(), 0.0) << "exactly";
  }
}

TEST_F(DeviceOps, ABrokenOperationIsNamed) {
  const auto x = room<float>(64);
  stream().set_layer(7);
  EXPECT_THROW(DeviceBuffer(memory(), "everything", memory().limit() + 1), Error);
  // A launch that the device refuses names itself, and does not break the stream.
  DeviceRows<float> rows{x.as<float>().data, std::size_t{1} << 40, 1, 0};
  EXPECT_THROW(add<float>(rows, {x.as<const float>().data, std::size_t{1} << 40, 1, 0}, stream()), Error);
  stream().synchronize();
  stream().set_layer({});
}

}  // namespace
}  // namespace ropewalk::verify
