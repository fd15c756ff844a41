#include "lib/recipes.h"

#include <gtest/gtest.h>

#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <random>

#include "lib/convert.h"
#include "lib/error.h"
#include "tests/lib/any_partition.h"

using namespace ropewalk;

namespace {

std::vector<float> random_values(std::size_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 0.02f);
  std::vector<float> values(n);
  for (float& v : values) v = normal(random);
  return values;
}

TensorPtr random_tensor(std::vector<std::uint64_t> shape, DType dtype, RotaryPairs pairs = RotaryPairs::none) {
  TensorInfo info{"model.layers.0.self_attn.q_proj.weight", std::move(shape), dtype, pairs};
  std::vector<std::byte> bytes(info.bytes());
  encode_f32(dtype, random_values(info.elements(), 5), bytes);
  return memory_tensor(std::move(info), std::move(bytes));
}

std::string message_of(const auto& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(Recipes, StoredTensorsReadTheirRows) {
  const std::filesystem::path path =
      std::filesystem::temp_directory_path() / ("ropewalk_recipes_test_" + std::to_string(getpid()));
  for (const DType dtype : {DType::f64, DType::f32, DType::f16, DType::bf16, DType::f8_e4m3, DType::q8_0}) {
    const TensorPtr memory = random_tensor({40, 4096}, dtype);  // more than one chunk of the file reader
    const std::vector<std::byte> bytes = read_all<std::byte>(*memory);
    {
      std::ofstream out(path, std::ios::binary);
      out << "header: ";
      out.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    }
    const TensorPtr file = file_tensor(memory->info(), File::open(path), 8);
    EXPECT_EQ(read_all<std::byte>(*file), bytes);
    EXPECT_EQ(read_all<float>(*file), read_all<float>(*memory));
    EXPECT_EQ(read_all<double>(*file), read_all<double>(*memory));
    EXPECT_EQ(file->is_wide(), dtype == DType::f64);
    expect_any_partition_agrees(*file);
    expect_any_partition_agrees(*memory);
  }
  std::filesystem::remove(path);
}

TEST(Recipes, FileCutShortIsAnErrorWhenRowsAreRead) {
  const std::filesystem::path path =
      std::filesystem::temp_directory_path() / ("ropewalk_recipes_cut_" + std::to_string(getpid()));
  std::ofstream(path, std::ios::binary) << std::string(100, 'x');
  const TensorPtr tensor = file_tensor({"w", {4, 16}, DType::f16}, File::open(path), 0);
  std::vector<float> rows(48);
  EXPECT_NO_THROW(tensor->read_f32({0, 3}, rows));
  EXPECT_THROW(tensor->read_f32({1, 4}, rows), Error);
  std::filesystem::remove(path);
}

TEST(Recipes, RenamedChangesOnlyTheName) {
  const TensorPtr tensor = random_tensor({6, 32}, DType::bf16);
  const TensorPtr other = renamed(tensor, "blk.0.attn_q.weight");
  EXPECT_EQ(other->name(), "blk.0.attn_q.weight");
  EXPECT_EQ(read_all<std::byte>(*other), read_all<std::byte>(*tensor));
  EXPECT_EQ(other->dtype(), DType::bf16);
  expect_any_partition_agrees(*other);
  EXPECT_EQ(renamed(tensor, tensor->name()), tensor);
}

TEST(Cast, RoundsOnceAndReadsBackWhatItWrites) {
  const TensorPtr tensor = random_tensor({50, 4096}, DType::f32);
  for (const DType dtype : {DType::f64, DType::f16, DType::bf16, DType::f8_e5m2, DType::q8_0}) {
    const TensorPtr narrow = cast(tensor, dtype);
    std::vector<std::byte> want(narrow->info().bytes());
    encode_f32(dtype, read_all<float>(*tensor), want);
    EXPECT_EQ(read_all<std::byte>(*narrow), want);
    std::vector<float> seen(tensor->info().elements());
    decode_f32(dtype, want, seen);
    EXPECT_EQ(read_all<float>(*narrow), seen);
    EXPECT_EQ(narrow->is_wide(), dtype == DType::f64);
    expect_any_partition_agrees(*narrow);
  }
  EXPECT_EQ(cast(tensor, DType::f32), tensor);
}

TEST(Cast, RoundsFromDoubleWhereTheParentIsWide) {
  const std::vector<double> values = {1 + 0x1p-11 + 0x1p-40, -(1 + 0x1p-8 + 0x1p-40)};
  const std::span<const std::byte> bytes = std::as_bytes(std::span(values));
  const TensorPtr wide = memory_tensor({"w", {2}, DType::f64}, {bytes.begin(), bytes.end()});
  EXPECT_EQ(read_all<float>(*cast(wide, DType::f16))[0], f16_to_f32(0x3c01));
  EXPECT_EQ(read_all<float>(*cast(wide, DType::bf16))[1], bf16_to_f32(0xbf81));
}

TEST(Cast, OverflowNamesTheElement) {
  std::vector<float> values(5 * 300, 1.0f);
  values[3 * 300 + 17] = -70000;
  const TensorPtr tensor = memory_tensor("model.norm.weight", {5, 300}, values);
  const TensorPtr narrow = cast(tensor, DType::f16);
  EXPECT_EQ(message_of([&] { read_all<std::byte>(*narrow); }),
            "tensor 'model.norm.weight': row 3, column 17: -70000 is past the largest f16 value, 65504; use bf16 or "
            "f32, or clamp it with --saturate");
  std::vector<std::byte> rows(4 * 600);
  EXPECT_NO_THROW(narrow->read_raw({0, 3}, std::span(rows).first(3 * 600)));
  EXPECT_THROW(narrow->read_raw({3, 4}, std::span(rows).first(600)), Error);
  const TensorPtr clamped = cast(tensor, DType::f16, true);
  EXPECT_EQ(read_all<float>(*clamped)[3 * 300 + 17], -65504);
  EXPECT_EQ(clamped->clamped(), 1u);
  EXPECT_EQ(read_all<float>(*cast(tensor, DType::bf16))[3 * 300 + 17], -70144);
}

// The last value that fits and the first that does not, for every narrow type: the midpoint above the largest finite
// value.
TEST(Cast, OverflowBeginsWhereRoundingReachesInfinity) {
  struct Edge {
    DType dtype;
    float fits, overflows, largest;
  };
  const float inf = std::numeric_limits<float>::infinity();
  const float bf16_edge = 0x1.ffp127f;
  for (const Edge& edge : {Edge{DType::f16, std::nextafter(65520.0f, 0.0f), 65520, 65504},
                           Edge{DType::bf16, std::nextafter(bf16_edge, 0.0f), bf16_edge, 0x1.fep127f},
                           Edge{DType::f8_e4m3, 464, std::nextafter(464.0f, inf), 448},
                           Edge{DType::f8_e5m2, std::nextafter(61440.0f, 0.0f), 61440, 57344}}) {
    EXPECT_EQ(read_all<float>(*cast(memory_tensor("w", {1}, {edge.fits}), edge.dtype))[0], edge.largest);
    EXPECT_THROW(read_all<float>(*cast(memory_tensor("w", {1}, {-edge.overflows}), edge.dtype)), Error);
    EXPECT_EQ(read_all<float>(*cast(memory_tensor("w", {1}, {-edge.overflows}), edge.dtype, true))[0], -edge.largest);
  }
  const std::vector<double> wide = {0x1.ffffffp127};
  const std::span<const std::byte> bytes = std::as_bytes(std::span(wide));
  EXPECT_THROW(read_all<float>(*cast(memory_tensor({"w", {1}, DType::f64}, {bytes.begin(), bytes.end()}), DType::f32)),
               Error);
}

TEST(Cast, NanAndInfinityOfTheSourceArePassedOn) {
  const float inf = std::numeric_limits<float>::infinity();
  for (const bool saturate : {false, true}) {
    const std::vector<float> seen =
        read_all<float>(*cast(memory_tensor("w", {3}, {inf, -inf, std::nanf("")}), DType::f16, saturate));
    EXPECT_EQ(seen[0], inf);
    EXPECT_EQ(seen[1], -inf);
    EXPECT_TRUE(std::isnan(seen[2]));
  }
}

// A block's scale would carry them to 32 elements.
TEST(Cast, NanAndInfinityAreRefusedInBlocks) {
  for (const float value : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
    std::vector<float> values(2 * 64, 1.0f);
    values[64 + 40] = value;
    for (const bool saturate : {false, true})
      EXPECT_EQ(message_of([&] {
                  read_all<std::byte>(*cast(memory_tensor("w", {2, 64}, values), DType::q8_0, saturate));
                }),
                std::string("tensor 'w': row 1, column 40: ") + (std::isnan(value) ? "NaN" : "an infinity") +
                    " would spoil a whole block of q8_0; repair the checkpoint, or keep its values as they are with "
                    "f16, bf16 or f32");
  }
}

TEST(Recipes, FileAndRowOrderAreKnownThroughTheLayers) {
  const std::filesystem::path path =
      std::filesystem::temp_directory_path() / ("ropewalk_recipes_order_" + std::to_string(getpid()));
  std::ofstream(path) << std::string(16 * 8 * 4, 'x');
  const TensorPtr weight = file_tensor({"q", {16, 8}, DType::f32, RotaryPairs::half_split}, File::open(path), 0);
  const TensorPtr merged = cast(with_low_rank_delta(weight, {{memory_tensor("a", {1, 8}, std::vector<float>(8)),
                                                              memory_tensor("b", {16, 1}, std::vector<float>(16)), 1}}),
                                DType::f16);
  EXPECT_EQ(renamed(merged, "other")->file(), path.string());
  EXPECT_EQ(memory_tensor("m", {1}, {1.0f})->file(), "");
  const TensorPtr ordered = with_rotary_pairs(merged, RotaryPairs::interleaved, 2, 8, 6);
  const auto order = row_order(*ordered);
  ASSERT_TRUE(order);
  EXPECT_EQ(order->parent, merged);
  EXPECT_EQ(order->source, (std::vector<std::uint32_t>{0, 3, 1, 4, 2, 5, 6, 7}));  // 6 of 8 channels rotate
  EXPECT_FALSE(row_order(*merged));
  std::filesystem::remove(path);
}

TEST(Cast, WhatCannotBeEncodedIsRefusedAtOnce) {
  const TensorPtr tensor = memory_tensor("w", {2, 30}, std::vector<float>(60));
  EXPECT_EQ(
      message_of([&] { cast(tensor, DType::q8_0); }),
      "tensor 'w': rows of 30 elements are not whole blocks of 32, which q8_0 needs; keep this tensor in f32 or f16");
  EXPECT_EQ(message_of([&] { cast(tensor, DType::q8_k); }),
            "tensor 'w': type q8_k cannot be written by this version; choose another type");
}

// The order as llama.cpp 0.5 makes it: reshape (heads, 2, half, ...), swap the middle axes.
std::vector<float> permuted(const std::vector<float>& rows, std::size_t n_heads, std::size_t head_dim,
                            std::size_t rotary, std::size_t width) {
  std::vector<float> out = rows;
  for (std::size_t head = 0; head < n_heads; ++head)
    for (std::size_t part = 0; part < 2; ++part)
      for (std::size_t pair = 0; pair < rotary / 2; ++pair)
        for (std::size_t c = 0; c < width; ++c)
          out[(head * head_dim + pair * 2 + part) * width + c] =
              rows[(head * head_dim + part * rotary / 2 + pair) * width + c];
  return out;
}

TEST(RotaryPairs, WeightsAndBiasesAreReorderedAndBack) {
  for (const std::uint64_t rotary : {16u, 10u, 2u}) {
    for (const std::vector<std::uint64_t>& shape :
         {std::vector<std::uint64_t>{48, 32}, std::vector<std::uint64_t>{48}}) {
      for (const DType dtype : {DType::f32, DType::f16, DType::f64, DType::q8_0}) {
        if (is_block_type(dtype) && shape.size() == 1) continue;
        const TensorPtr stored = random_tensor(shape, dtype, RotaryPairs::half_split);
        const TensorPtr interleaved = with_rotary_pairs(stored, RotaryPairs::interleaved, 3, 16, rotary);
        EXPECT_EQ(interleaved->info().pairs, RotaryPairs::interleaved);
        EXPECT_EQ(read_all<float>(*interleaved),
                  permuted(read_all<float>(*stored), 3, 16, rotary, shape.size() == 1 ? 1 : 32));
        EXPECT_EQ(read_all<double>(*interleaved)[16], read_all<float>(*interleaved)[16]);
        const TensorPtr back = with_rotary_pairs(interleaved, RotaryPairs::half_split, 3, 16, rotary);
        EXPECT_EQ(read_all<std::byte>(*back), read_all<std::byte>(*stored));
        if (rotary > 2) {
          EXPECT_NE(read_all<std::byte>(*interleaved), read_all<std::byte>(*stored));
        }
        expect_any_partition_agrees(*interleaved);
        expect_any_partition_agrees(*back);
      }
    }
  }
}

TEST(RotaryPairs, WhatDoesNotFitIsRefused) {
  const TensorPtr stored = random_tensor({48, 32}, DType::f16, RotaryPairs::half_split);
  EXPECT_EQ(with_rotary_pairs(stored, RotaryPairs::half_split, 3, 16, 16), stored);
  EXPECT_THROW(with_rotary_pairs(stored, RotaryPairs::interleaved, 4, 16, 16), Error);
  EXPECT_THROW(with_rotary_pairs(stored, RotaryPairs::interleaved, std::uint64_t{1} << 60, 48, 16), Error);
  EXPECT_THROW(with_rotary_pairs(stored, RotaryPairs::interleaved, 3, 16, 15), Error);
  EXPECT_THROW(with_rotary_pairs(stored, RotaryPairs::interleaved, 3, 16, 18), Error);
  EXPECT_THROW(with_rotary_pairs(random_tensor({48, 32}, DType::f16), RotaryPairs::interleaved, 3, 16, 16), Error);
}

}  // namespace
