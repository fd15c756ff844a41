// The device's decoders, run on the host: the text that nvcc compiles (verify/cuda/decode_tile.h) on ggml's own blocks,
// on random bytes and at the edges of what a launch is given.
#include "verify/cuda/decode_tile.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <set>
#include <vector>

#include "lib/convert.h"
#include "tests/lib/block_golden.h"
#include "tests/verify/run_decode.h"
#include "verify/device_weights.h"

namespace ropewalk::verify {
namespace {

std::vector<DType> block_types() {
  std::vector<DType> types;
  for (const auto& [name, unused] : block_golden::index()["types"].items()) types.push_back(*dtype_from_name(name));
  return types;
}
std::vector<DType> all_types() {
  std::vector<DType> types = block_types();
  types.insert(types.end(), {DType::f32, DType::bf16, DType::f16});
  return types;
}
std::size_t elements_of(DType dtype, std::span<const std::byte> bytes) {
  return bytes.size() / std::size_t(info(dtype).block_bytes) * std::size_t(info(dtype).block_elements);
}

/// `bytes` at an address that is `off` past a multiple of 16.
class Placed {
 public:
  Placed(std::span<const std::byte> bytes, std::size_t off) : room_(bytes.size() + 32) {
    const auto at = reinterpret_cast<std::uintptr_t>(room_.data());
    first_ = room_.data() + (16 - at % 16) % 16 + off;
    std::ranges::copy(bytes, first_);
  }
  const std::byte* data() const { return first_; }

 private:
  std::vector<std::byte> room_;
  std::byte* first_;
};

std::vector<float> decoded(DType dtype, std::span<const std::byte> bytes, std::size_t off, bool backwards = false) {
  const Placed placed(bytes, off);
  std::vector<float> values(elements_of(dtype, bytes));
  run_decode(dtype, {.bytes = placed.data(), .elements = values.size(), .as = DecodedAs::f32, .y = values.data()}, 1,
             backwards);
  return values;
}

// What ggml makes of them, by its own hand: rows it quantized itself (edges among them), and noise, of which one block
// in 16 has an infinite or NaN scale and one in 32 a subnormal one.
TEST(CudaDecode, BlocksOfGgmlAsGgml) {
  static const std::vector<std::uint64_t> words = block_golden::noise(1, (1 << 18) / 8);
  std::size_t seen = 0;
  for (const DType dtype : block_types()) {
    const std::string name(info(dtype).name);
    const auto& golden = block_golden::index()["types"][name];
    for (const auto& [kind, want] : golden["decoded"].items()) {
      const std::span<const std::byte> blocks = block_golden::bytes_of(block_golden::upper(name) + "/" + kind);
      EXPECT_EQ(block_golden::sha(decoded(dtype, blocks, 0)), want) << name << " " << kind;
      EXPECT_EQ(block_golden::sha(decoded(dtype, blocks, 1, true)), want) << name << " " << kind;
      ++seen;
    }
    const std::size_t block = std::size_t(info(dtype).block_bytes);
    const auto random = std::as_bytes(std::span(words)).first((1 << 18) / block * block);
    EXPECT_EQ(block_golden::sha(decoded(dtype, random, 0)), golden["decoded_random"]) << name;
  }
  EXPECT_EQ(seen + 5, block_golden::index()["tensors"].size());
}

/// Blocks whose values are all finite, random but for every eighth, which has the smallest or largest scales.
std::vector<std::byte> finite_blocks(DType dtype, std::size_t count) {
  const auto block = std::size_t(info(dtype).block_bytes), elements = std::size_t(info(dtype).block_elements);
  const std::vector<std::uint64_t> words = block_golden::noise(7, 4 * count * block / 8 + 8);
  const std::span<const std::byte> random = std::as_bytes(std::span(words));
  std::vector<std::byte> out;
  std::vector<float> values(elements);
  for (std::size_t at = 0; out.size() < count * block && at + block <= random.size(); at += block) {
    std::vector<std::byte> one(random.begin() + std::ptrdiff_t(at), random.begin() + std::ptrdiff_t(at + block));
    decode_f32(dtype, one, values);
    if (std::ranges::all_of(values, [](float x) { return std::isfinite(x); }))
      out.insert(out.end(), one.begin(), one.end());
  }
  EXPECT_EQ(out.size(), count * block) << info(dtype).name;
  return out;
}

template <class T>
DecodedAs as_of() {
  return std::is_same_v<T, float> ? DecodedAs::f32 : std::is_same_v<T, Bf16> ? DecodedAs::bf16 : DecodedAs::f16;
}
std::uint16_t rounded(float x, Bf16) { return f32_to_bf16(x); }
std::uint16_t rounded(float x, Fp16) { return f32_to_f16(x); }

// One rounding, into places on and off 16 bytes, of counts that fill the last block of threads and that do not; nothing
// beside them is touched.
TEST(CudaDecode, SixteenBitsAreTheHostsRounding) {
  for (const DType dtype : all_types()) {
    const bool plain = is_plain(dtype);
    const std::size_t block = std::size_t(info(dtype).block_elements);
    for (const std::size_t blocks : {std::size_t{1}, kDecodeElements / block, kDecodeElements / block + 1,
                                     plain ? std::size_t{4099} : 2 * kDecodeElements / block + 3}) {
      const std::vector<std::byte> bytes = finite_blocks(dtype, blocks);
      std::vector<float> want(elements_of(dtype, bytes));
      decode_f32(dtype, bytes, want);
      const auto check = [&]<class T>(T, std::size_t off) {
        std::vector<T> got(want.size() + 16, T{7});
        const Placed placed(bytes, off % 2 ? 2 : 0);
        run_decode(dtype, {.bytes = placed.data(), .elements = want.size(), .as = as_of<T>(), .y = got.data() + off}, 1,
                   off % 2 != 0);
        for (std::size_t i = 0; i < got.size(); ++i)
          ASSERT_EQ(got[i].bits, i < off || i >= off + want.size() ? 7 : rounded(want[i - off], T{}))
              << info(dtype).name << " " << blocks << " at " << i;
      };
      for (const std::size_t off : {0, 1, 8}) check(Bf16{}, off), check(Fp16{}, off);
    }
  }
}

double sum_of_terms(const std::vector<Bf16>& terms, std::size_t stride, std::size_t count, std::size_t i) {
  double sum = 0;
  for (std::size_t term = 0; term < count; ++term) sum += double(to_float(terms[term * stride + i]));
  return sum;
}

// As many terms as a type is said to need are exact, one fewer are not; and they are those of split_bf16.
TEST(CudaDecode, TermsAddUpToTheWeight) {
  for (const DType dtype : all_types()) {
    std::vector<std::byte> bytes =
        finite_blocks(dtype, std::max<std::size_t>(64, 8192 / std::size_t(info(dtype).block_elements)));
    std::vector<float> want(elements_of(dtype, bytes));
    decode_f32(dtype, bytes, want);
    const auto needed = std::size_t(exact_bf16_terms(dtype));
    for (const std::size_t stride : {want.size(), want.size() + 3}) {  // the second term off 16 bytes
      std::vector<Bf16> terms(3 * stride, Bf16{7});
      run_decode(dtype, {.bytes = bytes.data(),
                         .elements = want.size(),
                         .as = DecodedAs::terms,
                         .y = terms.data(),
                         .terms = int(needed),
                         .term_stride = stride});
      bool fewer = needed > 1;
      for (std::size_t i = 0; i < want.size(); ++i) {
        // what lies under the smallest bf16 is lost
        const double lost = std::abs(want[i]) < std::ldexp(1.0f, -110) && needed == 3 ? std::ldexp(1.0, -133) : 0;
        ASSERT_TRUE(std::abs(sum_of_terms(terms, stride, needed, i) - double(want[i])) <= lost)
            << info(dtype).name << " at " << i << ": " << want[i];
        float rest = want[i];
        for (std::size_t term = 0; term < needed; ++term)
          ASSERT_EQ(terms[term * stride + i].bits, take_term(rest).bits);
        fewer = fewer && sum_of_terms(terms, stride, needed - 1, i) == double(want[i]);
      }
      EXPECT_FALSE(fewer) << info(dtype).name << " needs fewer terms";
      for (std::size_t i = needed * stride; i < terms.size(); ++i) ASSERT_EQ(terms[i].bits, 7);
    }
  }
}

TEST(CudaDecode, ExactTermsOfEveryScale) {
  // All bits of a value that has them: the largest odd level times every f16.
  for (const DType dtype : {DType::q4_0, DType::q5_0, DType::q1_0, DType::q2_0, DType::tq1_0, DType::tq2_0}) {
    const auto size = std::size_t(info(dtype).block_bytes), n = std::size_t(info(dtype).block_elements);
    const std::size_t scale = dtype == DType::tq1_0 ? 52 : dtype == DType::tq2_0 ? 64 : 0;
    std::vector<float> want(n);
    for (unsigned code = 0; code < 0x7c00; ++code) {
      std::vector<std::byte> block(size);
      for (std::size_t i = 0; i < size; ++i) block[i] = static_cast<std::byte>(i * 37 + code);
      block[scale] = static_cast<std::byte>(code & 255), block[scale + 1] = static_cast<std::byte>(code >> 8);
      decode_f32(dtype, block, want);
      for (float rest : want) {
        for (int term = 0; term < exact_bf16_terms(dtype); ++term) take_term(rest);
        ASSERT_EQ(rest, 0) << info(dtype).name << " " << code;
      }
    }
  }
}

// The last elements that one launch can reach, by a buffer that ends there.
TEST(CudaDecode, OffsetsPast32Bits) {
  for (const DType dtype : {DType::q4_k, DType::q8_0, DType::mxfp4, DType::iq1_s, DType::f32}) {
    const auto block = std::uint64_t(info(dtype).block_elements), size = std::uint64_t(info(dtype).block_bytes);
    const std::vector<std::byte> bytes = finite_blocks(dtype, 2 * kDecodeElements / block + 1);
    std::vector<float> want(elements_of(dtype, bytes));
    decode_f32(dtype, bytes, want);
    for (const std::uint64_t tile : {(std::uint64_t{1} << 32) / kDecodeElements, std::uint64_t{2147483645}}) {
      const std::uint64_t first = tile * kDecodeElements, from = first / block * size;
      std::vector<float> got(want.size());
      const Placed placed(bytes, 0);
      const auto before = [](const void* at, std::uint64_t by) { return reinterpret_cast<std::uintptr_t>(at) - by; };
      DecodeArgs args{.bytes = reinterpret_cast<const std::byte*>(before(placed.data(), from)),
                      .elements = first + want.size(),
                      .as = DecodedAs::f32,
                      .y = reinterpret_cast<void*>(before(got.data(), first * sizeof(float)))};
      ASSERT_EQ(decode_tiles(args.elements), tile + 3);
      for (std::uint64_t x = tile; x < tile + 3; ++x) {
        const HostBlock place(kRowThreads, {.x = x, .grid_x = tile + 3}, false);
        if (is_plain(dtype)) decode_plain_block(place, dtype, args);
        else
          codecs::with_block_type(
              dtype, [&]<class Type>(Type) { decode_block<Type>(place, args, *fresh_shared<DecodeShared<Type>>()); });
      }
      EXPECT_EQ(got, want) << info(dtype).name << " " << tile;
    }
  }
}

// Rows of a table by their ids: in any type, wider than a block of threads takes, and narrower.
TEST(CudaDecode, Gather) {
  constexpr std::size_t kTable = 7;
  const std::vector<std::int32_t> ids = {6, 0, 0, 3, 1};
  for (const DType dtype : all_types())
    for (const std::size_t width : {std::size_t{256}, std::size_t{2048 + 256}}) {
      const std::vector<std::byte> table =
          finite_blocks(dtype, kTable * width / std::size_t(info(dtype).block_elements));
      std::vector<float> want(kTable * width), x(ids.size() * (width + 1), 7);
      decode_f32(dtype, table, want);
      run_decode(dtype,
                 {.bytes = table.data(),
                  .elements = width,
                  .as = DecodedAs::f32,
                  .y = x.data(),
                  .ids = ids.data(),
                  .row_bytes = *byte_size(dtype, width),
                  .row_stride = width + 1},
                 ids.size());
      for (std::size_t row = 0; row < ids.size(); ++row) {
        for (std::size_t c = 0; c < width; ++c)
          ASSERT_EQ(x[row * (width + 1) + c], want[std::size_t(ids[row]) * width + c]) << info(dtype).name;
        EXPECT_EQ(x[row * (width + 1) + width], 7);
      }
    }
}

// Every code of the 16-bit types, one byte off any alignment.
TEST(CudaDecode, EveryCodeOf16Bits) {
  std::vector<std::byte> codes(2 * 65536);
  for (unsigned code = 0; code < 65536; ++code)
    codes[2 * code] = std::byte(code & 255), codes[2 * code + 1] = std::byte(code >> 8);
  for (const DType dtype : {DType::f16, DType::bf16}) {
    std::vector<float> want(65536);
    decode_f32(dtype, codes, want);
    const std::vector<float> got = decoded(dtype, codes, 1);
    for (std::size_t i = 0; i < want.size(); ++i)
      ASSERT_TRUE(std::memcmp(&got[i], &want[i], sizeof(float)) == 0 || (std::isnan(got[i]) && std::isnan(want[i])))
          << info(dtype).name << " at " << i;
    std::vector<Bf16> narrow(65536);
    run_decode(dtype, {.bytes = codes.data(), .elements = 65536, .as = DecodedAs::bf16, .y = narrow.data()});
    for (std::size_t i = 0; i < want.size(); ++i) ASSERT_EQ(narrow[i].bits, f32_to_bf16(want[i])) << i;
  }
}

}  // namespace
}  // namespace ropewalk::verify
