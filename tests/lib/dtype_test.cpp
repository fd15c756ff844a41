#include "lib/dtype.h"

#include <gtest/gtest.h>

#include <array>

using namespace ropewalk;

TEST(DType, NamesOfTheFieldAreAccepted) {
  EXPECT_EQ(dtype_from_name("float16"), DType::f16);
  EXPECT_EQ(dtype_from_name("F16"), DType::f16);
  EXPECT_EQ(dtype_from_name("bfloat16"), DType::bf16);
  EXPECT_EQ(dtype_from_name("Q8_0"), DType::q8_0);
  EXPECT_EQ(dtype_from_name("q9_9"), std::nullopt);
}

TEST(DType, ShapesThatWrapAreRefused) {
  const std::array<std::uint64_t, 2> huge{std::uint64_t{1} << 32, std::uint64_t{1} << 32};
  EXPECT_EQ(element_count(huge), std::nullopt);
  EXPECT_EQ(byte_size(DType::f64, std::uint64_t{1} << 62), std::nullopt);
  EXPECT_EQ(byte_size(DType::q8_0, 31), std::nullopt);
  EXPECT_EQ(byte_size(DType::q8_0, 64), 68u);
}
