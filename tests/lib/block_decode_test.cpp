#include "lib/codecs/decode.h"

#include <gtest/gtest.h>

#include <limits>

#include "lib/codecs/block_types.h"
#include "lib/convert.h"
#include "tests/lib/block_golden.h"

using namespace ropewalk;

namespace {

std::vector<DType> all_types() {
  std::vector<DType> types;
  for (const auto& [name, unused] : block_golden::index()["types"].items()) types.push_back(*dtype_from_name(name));
  return types;
}

std::vector<float> decoded(DType dtype, std::span<const std::byte> bytes) {
  const DTypeInfo& type = info(dtype);
  std::vector<float> values(bytes.size() / std::size_t(type.block_bytes) * std::size_t(type.block_elements));
  decode_blocks(dtype, bytes, values);
  return values;
}

// Long enough for hundreds of blocks of each type; one block in 16 has an infinite or NaN scale.
std::span<const std::byte> random_blocks(DType dtype) {
  static const std::vector<std::uint64_t> words = block_golden::noise(1, (1 << 18) / 8);
  const std::size_t block = std::size_t(info(dtype).block_bytes);
  return std::as_bytes(std::span(words)).first((1 << 18) / block * block);
}

TEST(BlockDecode, EveryTypeOfTheGoldenAndNoOther) {
  EXPECT_EQ(all_types().size(), 25u);
  for (const DTypeInfo& type : kDTypes) {
    const bool listed = block_golden::index()["types"].contains(std::string(type.name));
    EXPECT_EQ(has_block_decoder(type.dtype), listed) << type.name;
    codecs::with_block_type(type.dtype, [&]<class Type>(Type) {
      EXPECT_EQ(Type::kElements, type.block_elements) << type.name;
      EXPECT_EQ(Type::kBytes, type.block_bytes) << type.name;
    });
  }
}

TEST(BlockDecode, BlocksOfGgmlAsGgml) {
  std::size_t seen = 0;
  for (const DType dtype : all_types())
    for (const auto& [kind, want] : block_golden::index()["types"][std::string(info(dtype).name)]["decoded"].items()) {
      const std::string name = block_golden::upper(std::string(info(dtype).name)) + "/" + kind;
      EXPECT_EQ(block_golden::sha(decoded(dtype, block_golden::bytes_of(name))), want) << name;
      ++seen;
    }
  EXPECT_EQ(seen + 5, block_golden::index()["tensors"].size());  // x, xl and three importances
}

TEST(BlockDecode, RandomBytesAsGgml) {
  for (const DType dtype : all_types())
    EXPECT_EQ(block_golden::sha(decoded(dtype, random_blocks(dtype))),
              block_golden::index()["types"][std::string(info(dtype).name)]["decoded_random"])
        << info(dtype).name;
}

// The form that a device body has: an element a thread, at any address.
TEST(BlockDecode, ElementByElement) {
  for (const DType dtype : all_types()) {
    const std::span<const std::byte> blocks = random_blocks(dtype).first(std::size_t(info(dtype).block_bytes) * 40);
    std::vector<std::byte> shifted(blocks.size() + 1);
    std::copy(blocks.begin(), blocks.end(), shifted.begin() + 1);
    const std::vector<float> want = decoded(dtype, blocks);
    EXPECT_EQ(block_golden::sha(decoded(dtype, std::span(shifted).subspan(1))), block_golden::sha(want));
    codecs::with_block_type(dtype, [&]<class Type>(Type) {
      std::vector<float> values(want.size());
      for (std::size_t i = 0; i < values.size(); ++i) values[i] = codecs::element<Type>(shifted.data() + 1, i);
      EXPECT_EQ(block_golden::sha(values), block_golden::sha(want)) << info(dtype).name;
    });
  }
}

TEST(BlockDecode, MagnitudesAreBoundedByTheScales) {
  for (const DType dtype : all_types()) {
    const std::size_t size = std::size_t(info(dtype).block_bytes);
    const std::span<const std::byte> blocks = random_blocks(dtype);
    std::size_t tight = 0, finite = 0;
    for (std::size_t at = 0; at + size <= blocks.size(); at += size) {
      const std::vector<float> values = decoded(dtype, blocks.subspan(at, size));
      const double bound = largest_magnitude(dtype, blocks.subspan(at, size));
      double most = 0;
      bool all_finite = true;
      for (const float value : values) {
        all_finite &= std::isfinite(value);
        most = std::max(most, std::fabs(double(value)));
      }
      if (!all_finite) {
        ASSERT_FALSE(bound <= std::numeric_limits<float>::max()) << info(dtype).name;
        continue;
      }
      ++finite;
      tight += std::isfinite(bound) && bound <= 2.5 * most ? 1 : 0;
      ASSERT_FALSE(bound < most) << info(dtype).name;
    }
    EXPECT_GT(tight, finite / 2) << info(dtype).name;  // of random codes, the larger half is met in most blocks
  }
}

// Through the conversions that everything else uses, in chunks of its own.
TEST(BlockDecode, WideIsTheSame) {
  for (const DType dtype : all_types()) {
    ASSERT_TRUE(can_decode(dtype));
    const std::span<const std::byte> blocks = random_blocks(dtype);
    const std::vector<float> want = decoded(dtype, blocks);
    std::vector<float> narrow(want.size());
    std::vector<double> wide(want.size());
    decode_f32(dtype, blocks, narrow);
    decode_f64(dtype, blocks, wide);
    EXPECT_EQ(block_golden::sha(narrow), block_golden::sha(want));
    EXPECT_EQ(block_golden::sha(std::vector<float>(wide.begin(), wide.end())), block_golden::sha(want));
  }
}

}  // namespace
