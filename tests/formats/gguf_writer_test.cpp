// layout_gguf against files of llama.cpp 0.5's converter: what was read from them is laid out again to the same bytes.

#include <gtest/gtest.h>

#include "formats/gguf.h"
#include "gguf_bytes.h"
#include "lib/error.h"
#include "lib/recipes.h"

using namespace ropewalk;
using namespace ropewalk::formats;

namespace {

const std::filesystem::path kGolden = std::filesystem::path(ROPEWALK_GOLDEN_DIR) / "gguf";

GgufPlan plan_of(const GgufFile& file) {
  GgufPlan plan;
  plan.keys = file.keys;
  plan.alignment = file.alignment;
  for (const TensorPtr& tensor : file.tensors) plan.tensors.push_back({tensor->name(), tensor, tensor->dtype()});
  return plan;
}

/// The whole file a shard becomes, in memory.
std::string whole(const GgufPlan& plan, const GgufShard& shard) {
  std::string out = shard.header;
  for (const GgufShard::Place& place : shard.places) {
    EXPECT_EQ(place.offset_bytes, out.size());
    const TensorPtr& tensor = plan.tensors[place.tensor].tensor;
    std::string data(tensor->info().bytes(), '\0');
    tensor->read_raw({0, tensor->info().rows()}, std::as_writable_bytes(std::span(data.data(), data.size())));
    out += data + std::string(place.padding_bytes, '\0');
  }
  EXPECT_EQ(out.size(), shard.file_bytes);
  return out;
}

void expect_shards(const GgufPlan& plan, const GgufSplit& split, const std::filesystem::path& folder,
                   std::size_t count) {
  const std::vector<GgufShard> shards = layout_gguf(plan, split);
  ASSERT_EQ(shards.size(), count);
  for (const GgufShard& shard : shards) {
    const std::filesystem::path golden = folder / ("llama-gqa.f16" + shard.suffix + ".gguf");
    ASSERT_TRUE(std::filesystem::exists(golden)) << golden;
    EXPECT_TRUE(whole(plan, shard) == file_bytes(golden)) << golden;
  }
}

}  // namespace

TEST(GgufWriter, WholeFilesOfTheConverter) {
  int files = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(kGolden)) {
    if (entry.path().extension() != ".gguf" || entry.path().stem().string().find("-of-") != std::string::npos) continue;
    const GgufPlan plan = plan_of(read_gguf(entry.path()));
    const std::vector<GgufShard> shards = layout_gguf(plan);
    ASSERT_EQ(shards.size(), 1u);
    EXPECT_EQ(shards[0].suffix, "");
    EXPECT_TRUE(whole(plan, shards[0]) == file_bytes(entry.path())) << entry.path();
    ++files;
  }
  EXPECT_GE(files, 3);
}

TEST(GgufWriter, SplitsOfTheConverter) {
  const GgufPlan plan = plan_of(read_gguf(kGolden / "llama-gqa" / "llama-gqa.f16.gguf"));
  expect_shards(plan, {.max_bytes = 100000}, kGolden / "llama-gqa" / "split", 3);
  expect_shards(plan, {.max_tensors = 9, .no_tensor_first_split = true}, kGolden / "llama-gqa" / "split-tensors", 4);
}

TEST(GgufWriter, SplitFilesReadBackAreTheWholeFile) {
  const std::filesystem::path single = kGolden / "llama-gqa" / "llama-gqa.f16.gguf";
  for (const char* first : {"split/llama-gqa.f16-00001-of-00003.gguf", "split/llama-gqa.f16-00003-of-00003.gguf",
                            "split-tensors/llama-gqa.f16-00002-of-00004.gguf"}) {
    const GgufPlan plan = plan_of(read_gguf(kGolden / "llama-gqa" / first));  // split.* keys are dropped again
    EXPECT_TRUE(whole(plan, layout_gguf(plan)[0]) == file_bytes(single)) << first;
  }
}

TEST(GgufWriter, WhatTheLoaderWouldRefuseIsNotWritten) {
  const auto plan = [](const std::string& name, std::vector<std::uint64_t> shape, DType dtype) {
    std::uint64_t n = 1;
    for (std::uint64_t d : shape) n *= d;
    GgufPlan out;
    out.tensors.push_back({name, memory_tensor("x", std::move(shape), std::vector<float>(n)), dtype});
    return out;
  };
  EXPECT_NO_THROW(layout_gguf(plan(std::string(63, 'a'), {2, 32}, DType::q8_0)));
  EXPECT_THROW(layout_gguf(plan(std::string(64, 'a'), {2, 32}, DType::q8_0)), Error);
  EXPECT_THROW(layout_gguf(plan("a", {2, 33}, DType::q8_0)), Error);
  EXPECT_THROW(layout_gguf(plan("a", {1, 1, 1, 1, 1}, DType::f32)), Error);
  EXPECT_THROW(layout_gguf(plan("a", {4}, DType::u32)), Error);  // ggml has no such type
  GgufPlan twice = plan("a", {4}, DType::f32);
  twice.tensors.push_back(twice.tensors.front());
  EXPECT_THROW(layout_gguf(twice), Error);
}

TEST(GgufWriter, AnOversizedTensorGetsAShardOfItsOwn) {
  GgufPlan plan;
  for (const char* name : {"a", "b", "c"})
    plan.tensors.push_back({name, memory_tensor(name, {64}, std::vector<float>(64)), DType::f32});
  EXPECT_EQ(layout_gguf(plan, {.max_bytes = 1}).size(), 3u);
  EXPECT_EQ(layout_gguf(plan, {.max_bytes = 512}).size(), 2u);  // 256 + 256 is not past the limit
  EXPECT_EQ(layout_gguf(plan, {.max_bytes = 511}).size(), 3u);
  EXPECT_EQ(layout_gguf(plan, {.max_tensors = 3}).size(), 1u);
}
