#include "lib/convert.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "lib/encoding_error.h"
#include "lib/error.h"
#include "tests/lib/each_simd_target.h"

using namespace ropewalk;

namespace {

// A small format, described independently of the code under test: its non-negative finite values in code order, built
// with ldexp.
struct Format {
  DType dtype;
  int exponent_bits, mantissa_bits;
  bool infinity;
  std::vector<double> finite = {};  // finite[code]; one more at the end: where the next would be

  Format(DType type, int exponents, int mantissas, bool has_infinity)
      : dtype(type), exponent_bits(exponents), mantissa_bits(mantissas), infinity(has_infinity) {
    const int bias = (1 << (exponents - 1)) - 1, per_binade = 1 << mantissas;
    const int codes = has_infinity ? ((1 << exponents) - 1) * per_binade : (1 << (exponents + mantissas)) - 1;
    for (int code = 0; code <= codes; ++code) {
      const int exponent = code / per_binade, mantissa = code % per_binade;
      finite.push_back(exponent == 0 ? std::ldexp(mantissa, 1 - bias - mantissas)
                                     : std::ldexp(per_binade + mantissa, exponent - bias - mantissas));
    }
  }
  unsigned sign_bit() const { return 1u << (exponent_bits + mantissa_bits); }
  unsigned overflow_code() const { return static_cast<unsigned>(finite.size() - 1); }  // infinity, or the NaN of E4M3

  /// To nearest even by search: midpoints of neighbours are exact doubles.
  unsigned nearest(double value) const {
    const double magnitude = std::fabs(value);
    const unsigned sign = std::signbit(value) ? sign_bit() : 0;
    if (magnitude >= finite.back()) return sign | overflow_code();
    const auto above = std::upper_bound(finite.begin(), finite.end(), magnitude);
    const auto code = static_cast<unsigned>(above - finite.begin() - 1);
    const double middle = (finite[code] + finite[code + 1]) / 2;
    const bool up = magnitude > middle || (magnitude == middle && code % 2 == 1);
    return sign | (code + (up ? 1 : 0));
  }
};

const Format& half() {
  static const Format format(DType::f16, 5, 10, true);
  return format;
}
const Format& bfloat() {
  static const Format format(DType::bf16, 8, 7, true);
  return format;
}
const Format& e4m3() {
  static const Format format(DType::f8_e4m3, 4, 3, false);
  return format;
}
const Format& e5m2() {
  static const Format format(DType::f8_e5m2, 5, 2, true);
  return format;
}

unsigned code_at(const std::vector<std::byte>& bytes, DType dtype, std::size_t i) {
  if (info(dtype).block_bytes == 1) return static_cast<unsigned>(bytes[i]);
  std::uint16_t code;
  std::memcpy(&code, bytes.data() + 2 * i, 2);
  return code;
}

// Where rounding can go wrong: codes, midpoints, the neighbours of both on either side, what overflows, and random bit
// patterns.
template <class Float>
std::vector<Float> awkward(const Format& format) {
  using Limits = std::numeric_limits<Float>;
  std::vector<Float> values = {0, Limits::denorm_min(), Limits::min(), Limits::max(), Limits::infinity()};
  for (std::size_t code = 0; code + 1 < format.finite.size(); ++code)
    for (const double spot : {format.finite[code], (format.finite[code] + format.finite[code + 1]) / 2}) {
      const auto v = static_cast<Float>(spot);
      EXPECT_EQ(static_cast<double>(v), spot) << "the test's points must be exact";
      values.insert(values.end(), {v, std::nextafter(v, Limits::infinity()), std::nextafter(v, Float{0})});
    }
  std::mt19937_64 random(20240607);
  for (int i = 0; i < 100000; ++i) {
    const auto spread = static_cast<int>(random() % 300) - 160;
    values.push_back(static_cast<Float>(std::ldexp(static_cast<double>(random() >> 11), spread - 53)));
  }
  const std::size_t n = values.size();
  for (std::size_t i = 0; i < n; ++i) values.push_back(-values[i]);
  return values;
}

template <class Float>
void check_narrowing(const Format& format) {
  const std::vector<Float> values = awkward<Float>(format);
  std::vector<std::byte> bytes(values.size() * static_cast<std::size_t>(info(format.dtype).block_bytes));
  for_each_simd_target([&] {
    if constexpr (sizeof(Float) == 8) encode_f64(format.dtype, values, bytes);
    else encode_f32(format.dtype, values, bytes);
    for (std::size_t i = 0; i < values.size(); ++i)
      ASSERT_EQ(code_at(bytes, format.dtype, i), format.nearest(values[i])) << std::hexfloat << values[i];
  });
}

TEST(Convert, DoublesNarrowInOneRounding) {
  for (const Format* format : {&half(), &bfloat(), &e4m3(), &e5m2()}) check_narrowing<double>(*format);
}

TEST(Convert, FloatsNarrowToNearestEven) {
  for (const Format* format : {&half(), &bfloat(), &e4m3(), &e5m2()}) check_narrowing<float>(*format);
}

TEST(Convert, TwoRoundingsWouldDiffer) {
  // 1 + 2^-11 + 2^-40: just above a tie of halves; as a float it is the tie, which goes down to even.
  const double value = 1 + 0x1p-11 + 0x1p-40;
  EXPECT_EQ(f32_to_f16(static_cast<float>(value)), 0x3c00);
  EXPECT_EQ(f64_to_f16(value), 0x3c01);
  const double wide = 1 + 0x1p-8 + 0x1p-40;
  EXPECT_EQ(f32_to_bf16(static_cast<float>(wide)), 0x3f80);
  EXPECT_EQ(f64_to_bf16(wide), 0x3f81);
}

TEST(Convert, EveryCodeWidensExactlyAndComesBack) {
  for (const Format* format : {&half(), &bfloat(), &e4m3(), &e5m2()}) {
    const unsigned codes = 2 * format->sign_bit();
    std::vector<std::byte> bytes;
    for (unsigned code = 0; code < codes; ++code)
      for (int b = 0; b < info(format->dtype).block_bytes; ++b) bytes.push_back(static_cast<std::byte>(code >> 8 * b));
    for_each_simd_target([&] {
      std::vector<float> floats(codes);
      std::vector<double> doubles(codes);
      decode_f32(format->dtype, bytes, floats);
      decode_f64(format->dtype, bytes, doubles);
      std::vector<std::byte> from_floats(bytes.size()), from_doubles(bytes.size());
      encode_f32(format->dtype, floats, from_floats);
      encode_f64(format->dtype, doubles, from_doubles);
      for (unsigned code = 0; code < codes; ++code) {
        const unsigned magnitude = code % format->sign_bit();
        const bool negative = code >= format->sign_bit();
        unsigned back = code;
        if (magnitude < format->overflow_code()) {
          const double want = negative ? -format->finite[magnitude] : format->finite[magnitude];
          ASSERT_EQ(doubles[code], want) << code;
          ASSERT_EQ(floats[code], want) << code;
        } else if (format->infinity && magnitude == format->overflow_code()) {
          ASSERT_TRUE(std::isinf(doubles[code]) && std::isinf(floats[code])) << code;
        } else {
          ASSERT_TRUE(std::isnan(doubles[code]) && std::isnan(floats[code])) << code;
          ASSERT_NE(std::bit_cast<std::uint32_t>(floats[code]) & 0x400000u, 0u) << "signalling: " << code;
          if (format->infinity) back |= 1u << (format->mantissa_bits - 1);  // quiet, the rest kept
        }
        ASSERT_EQ(std::signbit(floats[code]), negative) << code;
        ASSERT_EQ(code_at(from_floats, format->dtype, code), back);
        ASSERT_EQ(code_at(from_doubles, format->dtype, code), back);
      }
    });
  }
}

TEST(Convert, NanKeepsSignAndLeadingPayload) {
  // quiet or not, and with the payload only in bits that are cut off
  const std::vector<std::uint32_t> nans = {0x7fc00000, 0xffc00000, 0x7f800001, 0xff800001, 0x7faaaaaa, 0x7fffffff};
  for_each_simd_target([&] {
    std::vector<float> floats;
    std::vector<double> doubles;
    for (int copy = 0; copy < 8; ++copy)  // enough for the widest vector
      for (const std::uint32_t bits : nans) {
        floats.push_back(std::bit_cast<float>(bits));
        const std::uint64_t sign = bits & 0x80000000u;
        doubles.push_back(
            std::bit_cast<double>(sign << 32 | 0x7ff0000000000000u | std::uint64_t{bits & 0x7fffffu} << 29));
      }
    std::vector<std::byte> halves(2 * floats.size()), bfloats(2 * floats.size()), wide_halves(halves),
        wide_bfloats(halves);
    encode_f32(DType::f16, floats, halves);
    encode_f32(DType::bf16, floats, bfloats);
    encode_f64(DType::f16, doubles, wide_halves);
    encode_f64(DType::bf16, doubles, wide_bfloats);
    for (std::size_t i = 0; i < floats.size(); ++i) {
      const std::uint32_t bits = nans[i % nans.size()];
      ASSERT_EQ(code_at(halves, DType::f16, i), (bits >> 16 & 0x8000u) | 0x7e00u | (bits >> 13 & 0x3ffu));
      ASSERT_EQ(code_at(bfloats, DType::bf16, i), (bits >> 16) | 0x40u);
      ASSERT_EQ(code_at(wide_halves, DType::f16, i), code_at(halves, DType::f16, i));
      ASSERT_EQ(code_at(wide_bfloats, DType::bf16, i), code_at(bfloats, DType::bf16, i));
    }
  });
}

TEST(Convert, OneValueEqualsTheVector) {
  std::mt19937_64 random(7);
  for (int i = 0; i < 20000; ++i) {
    const auto value = std::bit_cast<double>(random());
    const auto narrow = std::bit_cast<float>(static_cast<std::uint32_t>(random()));
    if (std::isnan(value) || std::isnan(narrow)) continue;
    ASSERT_EQ(f64_to_f16(value), half().nearest(value));
    ASSERT_EQ(f64_to_bf16(value), bfloat().nearest(value));
    ASSERT_EQ(f32_to_f16(narrow), half().nearest(narrow));
    ASSERT_EQ(f32_to_bf16(narrow), bfloat().nearest(narrow));
  }
  EXPECT_EQ(f16_to_f32(0x3555), 0x1.554p-2f);
  EXPECT_EQ(bf16_to_f32(0x3eaa), 0x1.54p-2f);
}

// Any length and alignment: tails and unaligned starts go through other code than whole vectors.
TEST(Convert, LengthAndAlignmentDoNotMatter) {
  std::vector<double> values(100);
  std::mt19937_64 random(3);
  for (double& v : values) v = std::ldexp(static_cast<double>(random() >> 11), static_cast<int>(random() % 20) - 65);
  for_each_simd_target([&] {
    for (const DType dtype : {DType::f64, DType::f32, DType::f16, DType::bf16, DType::f8_e4m3, DType::f8_e5m2}) {
      const auto width = static_cast<std::size_t>(info(dtype).block_bytes);
      std::vector<std::byte> whole(100 * width);
      encode_f64(dtype, values, whole);
      for (std::size_t n = 0; n < 70; ++n) {
        std::vector<std::byte> part(n * width + 1);
        encode_f64(dtype, std::span(values).subspan(3, n), std::span(part).subspan(1));
        ASSERT_TRUE(std::equal(part.begin() + 1, part.end(), whole.begin() + static_cast<std::ptrdiff_t>(3 * width)));
        std::vector<double> back(n), all(100);
        decode_f64(dtype, std::span(part).subspan(1), back);
        decode_f64(dtype, whole, all);
        ASSERT_TRUE(std::equal(back.begin(), back.end(), all.begin() + 3));
      }
    }
  });
}

TEST(Convert, IntegersWidenByValue) {
  const std::vector<std::int64_t> wide = {0, 1, -1, (std::int64_t{1} << 53) + 1,
                                          std::numeric_limits<std::int64_t>::min()};
  std::vector<double> doubles(wide.size());
  std::vector<float> floats(wide.size());
  decode_f64(DType::i64, std::as_bytes(std::span(wide)), doubles);
  decode_f32(DType::i64, std::as_bytes(std::span(wide)), floats);
  EXPECT_EQ(doubles, (std::vector<double>{0, 1, -1, 0x1p53, -0x1p63}));
  EXPECT_EQ(floats, (std::vector<float>{0, 1, -1, 0x1p53f, -0x1p63f}));

  const std::vector<std::uint8_t> small = {0, 1, 127, 128, 255};
  std::vector<float> values(5);
  decode_f32(DType::u8, std::as_bytes(std::span(small)), values);
  EXPECT_EQ(values, (std::vector<float>{0, 1, 127, 128, 255}));
  decode_f32(DType::i8, std::as_bytes(std::span(small)), values);
  EXPECT_EQ(values, (std::vector<float>{0, 1, 127, -128, -1}));
  decode_f32(DType::boolean, std::as_bytes(std::span(small)), values);
  EXPECT_EQ(values, (std::vector<float>{0, 1, 1, 1, 1}));
}

TEST(Convert, TypesWithoutCodecAreRefusedByName) {
  std::vector<std::byte> bytes(36);
  std::vector<float> values(32);
  EXPECT_FALSE(can_decode(DType::q8_1));
  EXPECT_FALSE(can_encode(DType::i32));
  try {
    decode_f32(DType::q8_1, bytes, values);
    FAIL() << "q8_1 was decoded";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::unsupported);
    EXPECT_STREQ(error.what(), "elements of type q8_1 cannot be read by this version; choose another type");
  }
  std::vector<std::byte> integers(128);
  EXPECT_THROW(encode_f32(DType::i32, values, integers), Error);
  EXPECT_THROW(encode_f64(DType::i32, std::vector<double>(32), integers), Error);
}

// Against one value at a time, at every place and length a vector may cut.
TEST(Convert, LargestMagnitude) {
  for_each_simd_target([] {
    std::mt19937 random(3);
    std::normal_distribution<float> normal(0, 100);
    for (const std::size_t n : {0u, 1u, 7u, 31u, 33u, 130u, 1000u}) {
      std::vector<float> values(n);
      for (float& value : values) value = normal(random);
      for (const DType dtype : {DType::f64, DType::f32, DType::f16, DType::bf16, DType::f8_e5m2, DType::f8_e4m3}) {
        std::vector<std::byte> bytes(*byte_size(dtype, n));
        encode_f32(dtype, values, bytes);
        std::vector<double> stored(n);
        decode_f64(dtype, bytes, stored);
        double want = 0;
        for (const double value : stored) want = std::max(want, std::fabs(value));
        ASSERT_EQ(largest_magnitude(dtype, bytes), want) << info(dtype).name << " " << n;
        if (n == 0) continue;
        const std::size_t at = random() % n;
        std::vector<float> bent = values;
        bent[at] = -std::numeric_limits<float>::infinity();
        encode_f32(dtype, bent, bytes);
        if (dtype != DType::f8_e4m3) {
          ASSERT_EQ(largest_magnitude(dtype, bytes), std::numeric_limits<double>::infinity());
        }
        bent[random() % n] = std::numeric_limits<float>::quiet_NaN();
        encode_f32(dtype, bent, bytes);
        ASSERT_TRUE(std::isnan(largest_magnitude(dtype, bytes)));
        ASSERT_TRUE(std::isnan(largest_magnitude(std::span<const float>(bent))));
        const std::vector<double> wide(values.begin(), values.end());
        ASSERT_EQ(largest_magnitude(std::span<const double>(wide)), largest_magnitude(std::span<const float>(values)));
      }
    }
  });
  std::vector<float> block(64, 0.5f);
  block[40] = -12.7f;
  std::vector<std::byte> bytes(68);
  encode_f32(DType::q8_0, block, bytes);
  EXPECT_GE(largest_magnitude(DType::q8_0, bytes), 12.7 * (1 - 0x1p-11));  // the scale is an f16
  EXPECT_LE(largest_magnitude(DType::q8_0, bytes), 12.7 * (1 + 0x1p-11) * 128 / 127);
  EXPECT_EQ(largest_magnitude(DType::i32, bytes), 0);
}

TEST(Convert, FirstNotFiniteIsFound) {
  for_each_simd_target([] {
    for (const std::size_t n : {0u, 1u, 15u, 50u, 5000u}) {
      std::vector<float> values(n, std::numeric_limits<float>::max());
      EXPECT_EQ(first_not_finite(values), n);
      for (std::size_t at = n; at-- > 0; at = at > 100 ? at - 97 : at) {
        values[at] = at % 2 == 0 ? -std::numeric_limits<float>::infinity() : std::numeric_limits<float>::quiet_NaN();
        ASSERT_EQ(first_not_finite(values), at);
      }
    }
  });
}

// f8_e4m3 has three bits after the point: 1.0625 becomes 1, 17 becomes 16 (ties to even), and what is exact stays.
TEST(EncodingError, ByHand) {
  const std::vector<float> values = {1, 2, 1.0625f, 4, 17, 32}, importances = {100, 1};
  std::vector<std::byte> encoded(values.size());
  encode_f32(DType::f8_e4m3, values, encoded);
  const EncodingError plain = measure_encoding(DType::f8_e4m3, std::span(values), 2, {}, encoded);
  const double reference = 1 + 4 + 1.0625 * 1.0625 + 16 + 289 + 1024;
  EXPECT_EQ(plain.elements, 6u);
  EXPECT_EQ(plain.squares, 0.0625 * 0.0625 + 1);
  EXPECT_EQ(plain.reference, reference);
  EXPECT_EQ(plain.weighted_squares, plain.squares) << "1 without importances";
  EXPECT_EQ(plain.rmse(), std::sqrt(plain.squares / 6));
  EXPECT_EQ(plain.relative(), std::sqrt(plain.squares / reference));
  EXPECT_EQ(plain.worst_row, 2u) << "1 of 36.2, against 0.0625 of 4.1";
  EXPECT_EQ(plain.worst_row_error, std::sqrt(1 / (289.0 + 1024)));
  const EncodingError weighted = measure_encoding(DType::f8_e4m3, std::span(values), 2, importances, encoded);
  EXPECT_EQ(weighted.squares, plain.squares);
  EXPECT_EQ(weighted.weighted_squares, 100 * plain.squares) << "both errors stand in the first column";
  EXPECT_EQ(weighted.weighted_reference, 100 * (1 + 1.0625 * 1.0625 + 289) + 4 + 16 + 1024);
  EXPECT_EQ(measure_encoding(DType::f8_e4m3, std::span<const float>(), 2, {}, {}).rmse(), 0);
}

TEST(EncodingError, WhatIsNotFinite) {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::nanf("");
  const auto of = [](std::vector<float> values, const std::vector<float>& became) {
    std::vector<std::byte> bytes(became.size() * sizeof(float));
    encode_f32(DType::f32, became, bytes);
    return measure_encoding(DType::f32, std::span<const float>(values), 1, {}, bytes);
  };
  EXPECT_EQ(of({inf, -inf, nan}, {inf, -inf, nan}).squares, 0) << "kept";
  EXPECT_EQ(of({inf, -inf, nan}, {inf, -inf, nan}).worst_row_error, 0);
  EXPECT_EQ(of({1, 2}, {1, inf}).squares, inf);
  EXPECT_EQ(of({1, 2}, {1, inf}).worst_row, 1u);
  EXPECT_TRUE(std::isnan(of({1, nan, 2}, {1, 0, 2}).squares));
  const EncodingError lost = of({1, nan, 2, nan, 8}, {1, 0, inf, 0, inf});
  EXPECT_TRUE(std::isnan(lost.worst_row_error)) << "more than any";
  EXPECT_EQ(lost.worst_row, 1u) << "and the first of them";
}

// The same bits however the rows were cut, and in whatever order the blocks came.
TEST(EncodingError, BlocksJoinInTheirOrder) {
  const std::uint64_t columns = 32, rows = 13;
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  std::vector<float> values(rows * columns);
  for (float& value : values) value = normal(random);
  const std::uint64_t row_bytes = byte_size(DType::q4_0, columns).value();
  std::vector<std::byte> encoded(rows * row_bytes);
  encode_f32(DType::q4_0, values, encoded);
  const auto part = [&](std::uint64_t from, std::uint64_t to) {
    return measure_encoding(DType::q4_0, std::span<const float>(values).subspan(from * columns, (to - from) * columns),
                            columns, {}, std::span(encoded).subspan(from * row_bytes, (to - from) * row_bytes));
  };
  std::uint64_t worst = 0;
  for (std::uint64_t row = 0; row + 1 < rows; ++row)
    if (part(row, row + 1).relative() > part(worst, worst + 1).relative()) worst = row;
  std::copy_n(values.begin() + static_cast<std::ptrdiff_t>(worst * columns), columns,
              values.end() - std::ptrdiff_t(columns));  // as bad
  encode_f32(DType::q4_0, values, encoded);
  const EncodingError whole = part(0, rows);
  EXPECT_EQ(whole.worst_row, worst) << "the first of equals";
  EXPECT_GT(whole.worst_row_error, 0);
  EncodingErrors forwards, backwards;
  for (std::uint64_t row = 0; row < rows; ++row) {
    forwards.add(row, part(row, row + 1));
    backwards.add(rows - 1 - row, part(rows - 1 - row, rows - row));
  }
  for (const EncodingErrors* joined : {&forwards, &backwards}) {
    const EncodingError total = joined->total();
    EXPECT_EQ(total.elements, rows * columns);
    EXPECT_EQ(total.squares, whole.squares);
    EXPECT_EQ(total.weighted_reference, whole.weighted_reference);
    EXPECT_EQ(total.worst_row, worst);
    EXPECT_EQ(total.worst_row_error, whole.worst_row_error);
  }
}

}  // namespace
