// Header bytes of GGUF: every prefix, every lying field with its reason, limits, splits.

#include <gtest/gtest.h>

#include "formats/gguf.h"
#include "gguf_bytes.h"
#include "lib/error.h"

using namespace ropewalk;
using namespace ropewalk::formats;

namespace fs = std::filesystem;

namespace {

constexpr std::uint32_t kF32 = 0, kQ8 = 8;

/// All value types, two tensors; the last ends on a multiple of the alignment, so the file has no padding that could be
/// missing.
std::string small_file() {
  GgufBytes out;
  out.head(2, 14);
  out.text("u8").put<std::uint32_t>(0).put<std::uint8_t>(200);
  out.text("i8").put<std::uint32_t>(1).put<std::int8_t>(-100);
  out.text("u16").put<std::uint32_t>(2).put<std::uint16_t>(60000);
  out.text("i16").put<std::uint32_t>(3).put<std::int16_t>(-30000);
  out.text("u32").put<std::uint32_t>(4).put<std::uint32_t>(4000000000u);
  out.text("i32").put<std::uint32_t>(5).put<std::int32_t>(-2000000000);
  out.text("f32").put<std::uint32_t>(6).put<float>(0.1f);
  out.text("bool").put<std::uint32_t>(7).put<std::uint8_t>(1);
  out.text("string").put<std::uint32_t>(8).text("words");
  out.text("strings").put<std::uint32_t>(9).put<std::uint32_t>(8).put<std::uint64_t>(2).text("a").text("");
  out.text("floats")
      .put<std::uint32_t>(9)
      .put<std::uint32_t>(6)
      .put<std::uint64_t>(3)
      .put<float>(1)
      .put<float>(2)
      .put<float>(3);
  out.text("u64").put<std::uint32_t>(10).put<std::uint64_t>(std::uint64_t{1} << 63);
  out.text("i64").put<std::uint32_t>(11).put<std::int64_t>(std::int64_t{-1} << 62);
  out.text("f64").put<std::uint32_t>(12).put<double>(0.1);
  out.tensor("first", {3, 2}, kF32, 0);
  out.tensor("second", {32, 16}, kQ8, 32);
  out.pad();
  for (float value : {1.f, 2.f, 3.f, 4.f, 5.f, 6.f}) out.put(value);
  out.pad();
  return out.zeros(16 * 34).bytes();
}

class GgufReader : public ::testing::Test {
 protected:
  GgufReader() : folder_("ropewalk-gguf-reader") {}
  GgufFile read(std::string_view bytes) { return read_gguf(folder_.write("test.gguf", bytes)); }
  /// what() of the Error that reading gives; fails the test if there is none.
  std::string refusal(std::string_view bytes, ErrorKind kind = ErrorKind::bad_input) {
    try {
      read(bytes);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), kind) << error.what();
      EXPECT_EQ(error.where().path, (folder_.path() / "test.gguf").string());
      return error.what();
    }
    ADD_FAILURE() << "accepted";
    return {};
  }
  TestFolder folder_;
};

#define EXPECT_REFUSED(bytes, words)                              \
  do {                                                            \
    const std::string message = refusal(bytes);                   \
    EXPECT_NE(message.find(words), std::string::npos) << message; \
  } while (false)

/// A header with one key and what follows its name.
std::string with_key(const GgufBytes& after_name, std::string_view name = "k") {
  return GgufBytes().head(0, 1).text(name).raw(after_name.bytes()).zeros(64).bytes();
}
std::string with_tensor(std::string_view name, std::initializer_list<std::int64_t> shape, std::uint32_t type,
                        std::uint64_t offset = 0) {
  return GgufBytes().head(1, 0).tensor(name, shape, type, offset).pad().zeros(4096).bytes();
}

}  // namespace

TEST_F(GgufReader, ReadsEveryValueType) {
  const GgufFile file = read(small_file());
  EXPECT_EQ(file.version, 3u);
  EXPECT_EQ(file.alignment, 32u);
  ASSERT_EQ(file.keys.size(), 14u);
  EXPECT_EQ(file.integer("u8"), 200u);
  EXPECT_EQ(std::get<std::int64_t>(file.find("i8")->value), -100);
  EXPECT_EQ(file.integer("u16"), 60000u);
  EXPECT_EQ(std::get<std::int64_t>(file.find("i16")->value), -30000);
  EXPECT_EQ(file.integer("u32"), 4000000000u);
  EXPECT_EQ(std::get<std::int64_t>(file.find("i32")->value), -2000000000);
  EXPECT_EQ(file.number("f32"), double{0.1f});
  EXPECT_EQ(file.boolean("bool"), true);
  EXPECT_EQ(file.string("string"), "words");
  EXPECT_EQ(file.array("strings")->strings, (std::vector<std::string>{"a", ""}));
  EXPECT_EQ(f32_elements(*file.array("floats")), (std::vector<float>{1, 2, 3}));
  EXPECT_EQ(file.integer("u64"), std::uint64_t{1} << 63);
  EXPECT_EQ(file.number("f64"), 0.1);
  EXPECT_EQ(file.integer("absent"), std::nullopt);
  EXPECT_THROW(file.integer("string"), Error);
  EXPECT_THROW(file.integer("i8"), Error);  // negative
  EXPECT_THROW(file.string("u8"), Error);

  ASSERT_EQ(file.tensors.size(), 2u);
  EXPECT_EQ(file.tensors[0]->info().shape, (std::vector<std::uint64_t>{2, 3}));
  std::vector<float> values(6);
  file.tensors[0]->read_f32({0, 2}, values);
  EXPECT_EQ(values, (std::vector<float>{1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(file.tensors[1]->dtype(), DType::q8_0);
  EXPECT_TRUE(file.warnings.empty());
}

TEST_F(GgufReader, RefusesEveryPrefix) {
  const std::string whole = small_file();
  ASSERT_NO_THROW(read(whole));
  for (std::size_t n = 0; n < whole.size(); ++n)
    EXPECT_THROW(read(std::string_view(whole).substr(0, n)), Error) << n << " of " << whole.size() << " bytes";
  EXPECT_REFUSED(std::string_view(whole).substr(0, whole.size() - 1),
                 "'second' needs 544 bytes, 543 are left; the file is cut short");
}

TEST_F(GgufReader, LastPaddingMayBeMissingAndMoreMayFollow) {  // as llama.cpp
  const std::string body = GgufBytes().head(1, 0).tensor("t", {3}, kF32, 0).pad().zeros(12).bytes();
  EXPECT_TRUE(read(body).warnings.empty());
  EXPECT_THROW(read(body.substr(0, body.size() - 1)), Error);
  const GgufFile longer = read(body + std::string(40, 'x'));
  ASSERT_EQ(longer.warnings.size(), 1u);
  EXPECT_NE(longer.warnings[0].find("20 bytes after the last tensor are ignored"), std::string::npos)
      << longer.warnings[0];
}

TEST_F(GgufReader, Preamble) {
  EXPECT_REFUSED("GGUX" + small_file().substr(4), "starts with 'GGUX', expected 'GGUF'");
  EXPECT_EQ(read(GgufBytes().head(0, 0, 2).zeros(8).bytes()).version, 2u);
  EXPECT_NE(refusal(GgufBytes().head(0, 0, 0x03000000).bytes(), ErrorKind::unsupported).find("big-endian"),
            std::string::npos);
  for (std::uint32_t version : {0u, 1u, 4u, 7u})
    EXPECT_NE(refusal(GgufBytes().head(0, 0, version).bytes(), ErrorKind::unsupported)
                  .find("GGUF version " + std::to_string(version) + ", expected 2 or 3"),
              std::string::npos);
  EXPECT_REFUSED(GgufBytes().head(0, ~std::uint64_t{0}).zeros(100).bytes(), "the key count is 18446744073709551615");
  EXPECT_REFUSED(GgufBytes().head(std::uint64_t{1} << 40, 0).zeros(100).bytes(), "the tensor count is 1099511627776");
}

TEST_F(GgufReader, LyingKeys) {
  EXPECT_REFUSED(with_key(GgufBytes().put<std::uint32_t>(13)), "value type 13, expected 0 to 12");
  EXPECT_REFUSED(with_key(GgufBytes().put<std::uint32_t>(7).put<std::uint8_t>(2)), "bool of value 2");
  EXPECT_REFUSED(with_key(GgufBytes().put<std::uint32_t>(8).put<std::uint64_t>(~std::uint64_t{0})),
                 "of key 'k' needs 18446744073709551615 bytes");
  EXPECT_REFUSED(with_key(GgufBytes().put<std::uint32_t>(9).put<std::uint32_t>(9).put<std::uint64_t>(1)),
                 "array of arrays");
  EXPECT_REFUSED(with_key(GgufBytes().put<std::uint32_t>(9).put<std::uint32_t>(99).put<std::uint64_t>(1)),
                 "value type 99");
  // A length whose product with the element size wraps to 0 in 64 bits.
  EXPECT_REFUSED(
      with_key(GgufBytes().put<std::uint32_t>(9).put<std::uint32_t>(12).put<std::uint64_t>(std::uint64_t{1} << 61)),
      "the length of key 'k' is 2305843009213693952");
  EXPECT_REFUSED(with_key(GgufBytes().put<std::uint32_t>(9).put<std::uint32_t>(8).put<std::uint64_t>(1000)),
                 "the length of key 'k' is 1000, which needs at least 8 bytes each");
  EXPECT_REFUSED(
      with_key(GgufBytes().put<std::uint32_t>(9).put<std::uint32_t>(7).put<std::uint64_t>(1).put<std::uint8_t>(3)),
      "bool of value 3");
  EXPECT_REFUSED(with_key(GgufBytes().put<std::uint32_t>(0).put<std::uint8_t>(0), ""), "has no name");
  EXPECT_REFUSED(with_key(GgufBytes().put<std::uint32_t>(0).put<std::uint8_t>(0), "a\nb"), "not printable UTF-8");
  EXPECT_REFUSED(with_key(GgufBytes().put<std::uint32_t>(0).put<std::uint8_t>(0), "\xff"), "not printable UTF-8");
  EXPECT_REFUSED(GgufBytes().head(0, 2).key_u32("same", 1).key_u32("same", 2).bytes(), "key 'same' stands twice");
}

// Sparse files of the size that the claim needs: refused for the claim, before memory is taken for it.
TEST_F(GgufReader, ClaimsAreCapped) {
  const auto claim = [&](const GgufBytes& bytes, std::uint64_t file_bytes) {
    const fs::path path = folder_.write("test.gguf", bytes.bytes());
    fs::resize_file(path, file_bytes);
    try {
      read_gguf(path);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  const auto array = [](std::uint32_t type, std::uint64_t n) {
    GgufBytes out;
    out.head(0, 1).text("k").put<std::uint32_t>(9).put<std::uint32_t>(type).put(n);
    return out;
  };
  EXPECT_NE(
      claim(array(8, (1 << 22) + 1), 1 << 26).find("the length of key 'k' is 4194305, at most 4194304 are accepted"),
      std::string::npos);
  EXPECT_NE(
      claim(array(6, (1 << 24) + 1), 1 << 27).find("the length of key 'k' is 16777217, at most 16777216 are accepted"),
      std::string::npos);
  EXPECT_NE(
      claim(GgufBytes().head(0, (1 << 16) + 1), 1 << 24).find("the key count is 65537, at most 65536 are accepted"),
      std::string::npos);
  EXPECT_NE(claim(GgufBytes().head((1 << 18) + 1, 0), 1 << 24)
                .find("the tensor count is 262145, at most 262144 are accepted"),
            std::string::npos);
  // The strings of all arrays count together.
  GgufBytes two;
  two.head(0, 2).text("a").put<std::uint32_t>(9).put<std::uint32_t>(8).put<std::uint64_t>(1 << 20).zeros(8 << 20);
  two.text("b").put<std::uint32_t>(9).put<std::uint32_t>(8).put<std::uint64_t>((1 << 22) - (1 << 20) + 1);
  EXPECT_NE(claim(two, 1 << 26).find("the length of key 'b' is 3145729, at most 3145728 are accepted"),
            std::string::npos);
}

TEST_F(GgufReader, Alignment) {
  EXPECT_EQ(read(GgufBytes().head(0, 1).key_u32("general.alignment", 64).bytes()).alignment, 64u);
  for (std::uint32_t wrong : {0u, 24u, 1u << 31})
    EXPECT_REFUSED(GgufBytes().head(0, 1).key_u32("general.alignment", wrong).bytes(),
                   "general.alignment is " + std::to_string(wrong));
  EXPECT_REFUSED(GgufBytes().head(0, 1).text("general.alignment").put<std::uint32_t>(10).put<std::uint64_t>(32).bytes(),
                 "general.alignment has type u64, expected u32");
  const std::string wide = GgufBytes()
                               .head(2, 1)
                               .key_u32("general.alignment", 256)
                               .tensor("a", {4}, kF32, 0)
                               .tensor("b", {4}, kF32, 256)
                               .pad(256)
                               .zeros(256 + 16)
                               .bytes();
  EXPECT_EQ(read(wide).tensors.size(), 2u);
}

TEST_F(GgufReader, LyingTensors) {
  EXPECT_REFUSED(with_tensor("five", {1, 1, 1, 1, 1}, kF32), "'five' has 5 dimensions, at most 4");
  EXPECT_REFUSED(with_tensor("negative", {-1}, kF32), "dimension of -1");
  EXPECT_REFUSED(with_tensor("wraps", {std::int64_t{1} << 32, std::int64_t{1} << 32}, kF32), "does not fit in 64 bits");
  EXPECT_REFUSED(with_tensor("wraps", {std::int64_t{1} << 62}, kF32), "does not fit in 64 bits");
  EXPECT_REFUSED(with_tensor("odd", {33, 32}, kQ8), "rows of 33 elements, expected whole q8_0 blocks of 32");
  EXPECT_REFUSED(with_tensor(std::string(64, 'n'), {1}, kF32), "has 64 bytes, at most 63");
  EXPECT_NO_THROW(read(with_tensor(std::string(63, 'n'), {1}, kF32)));
  EXPECT_REFUSED(with_tensor("", {1}, kF32), "is empty or not printable UTF-8");
  EXPECT_REFUSED(with_tensor("late", {1}, kF32, 32), "'late' has offset 32, expected 0");
  EXPECT_REFUSED(with_tensor("long", {2000}, kF32), "'long' needs 8000 bytes, 4096 are left; the file is cut short");
  for (std::uint32_t retired : {4u, 5u, 31u, 33u, 36u, 38u, 999u})
    EXPECT_NE(
        refusal(with_tensor("t", {32}, retired), ErrorKind::unsupported).find("ggml type " + std::to_string(retired)),
        std::string::npos);
  const auto two = [](std::string_view second, std::uint64_t offset) {
    return GgufBytes().head(2, 0).tensor("a", {4}, kF32, 0).tensor(second, {4}, kF32, offset).pad().zeros(4096).bytes();
  };
  EXPECT_NO_THROW(read(two("b", 32)));
  EXPECT_REFUSED(two("a", 32), "tensor 'a' stands twice");
  EXPECT_REFUSED(two("b", 16), "'b' has offset 16, expected 32");  // not padded
  EXPECT_REFUSED(two("b", 64), "'b' has offset 64, expected 32");  // a gap
  EXPECT_REFUSED(two("b", 0), "'b' has offset 0, expected 32");    // shared data
}

// The byte named is the one at which the bad field begins, as a hex editor shows it.
TEST_F(GgufReader, PlacesAreWhereTheBadFieldBegins) {
  const auto place = [&](std::string bytes, std::size_t at, std::initializer_list<int> put, const char* words,
                         ErrorKind kind = ErrorKind::bad_input) {
    for (int byte : put) bytes[at++] = static_cast<char>(byte);
    try {
      read(bytes);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), kind) << error.what();
      EXPECT_NE(std::string_view(error.what()).find(words), std::string_view::npos) << error.what();
      return error.where().offset.value_or(~std::uint64_t{0});
    }
    ADD_FAILURE() << "accepted: " << words;
    return ~std::uint64_t{0};
  };
  const std::string whole = small_file();
  EXPECT_EQ(place(whole, 0, {'g'}, "starts with 'gGUF'"), 0u);
  EXPECT_EQ(place(whole, 4, {7}, "GGUF version 7", ErrorKind::unsupported), 4u);
  EXPECT_EQ(place(whole, 14, {1}, "the tensor count"), 8u);
  EXPECT_EQ(place(whole, 22, {1}, "the key count"), 16u);
  // name "u8" at 24, its type at 34, its value at 38; name "i8" at 39
  EXPECT_EQ(place(whole, 30, {1}, "the name of key number 0 needs"), 24u);
  EXPECT_EQ(place(whole, 32, {1}, "not printable"), 24u);
  EXPECT_EQ(place(whole, 34, {77}, "value type 77"), 34u);
  EXPECT_EQ(place(whole, 47, {'u'}, "key 'u8' stands twice"), 39u);
  const std::size_t boolean = whole.find("bool") + 4;
  EXPECT_EQ(place(whole, boolean + 4, {2}, "bool of value 2"), boolean + 4);
  const std::size_t strings = whole.find("strings") + 7;
  EXPECT_EQ(place(whole, strings + 4, {9}, "array of arrays"), strings + 4);
  EXPECT_EQ(place(whole, strings + 14, {1}, "the length of key 'strings'"), strings + 8);
  EXPECT_EQ(place(whole, strings + 16 + 6, {1}, "a string of key 'strings' needs"), strings + 16);
  const std::string flags =
      with_key(GgufBytes().put<std::uint32_t>(9).put<std::uint32_t>(7).put<std::uint64_t>(3).put<std::uint16_t>(1));
  EXPECT_EQ(place(flags, 33 + 16 + 2, {9}, "bool of value 9"), 33u + 16 + 2) << "the element, not the array";
  const std::string aligned = GgufBytes().head(0, 2).key_u32("general.alignment", 24).key_u32("k", 1).bytes();
  EXPECT_EQ(place(aligned, 24 + 8 + 17 + 4, {24}, "general.alignment is 24"), 24u + 8 + 17 + 4);
  EXPECT_EQ(place(aligned, 24 + 8 + 17, {6}, "general.alignment has type f32"), 24u + 8 + 17);
  // "first": name, then 4 dimensions at +5, extents at +9, type at +25, offset at +29
  const std::size_t first = whole.find("first") + 5, second = whole.find("second") + 6;
  EXPECT_EQ(place(whole, first, {5}, "has 5 dimensions"), first);
  EXPECT_EQ(place(whole, first + 4 + 8 + 7, {0x80}, "a dimension of -"), first + 4 + 8);
  EXPECT_EQ(place(whole, first + 4 + 7, {0x40}, "does not fit in 64 bits"), first);
  EXPECT_EQ(place(whole, first + 20, {99}, "ggml type 99", ErrorKind::unsupported), first + 20);
  EXPECT_EQ(place(whole, second + 24, {16}, "tensor 'second' has offset 16"), second + 24);
  EXPECT_EQ(place(whole, second + 24, {64}, "tensor 'second' has offset 64"), second + 24);
}

// A tensor whose type was altered is blamed itself, not the one that follows it.
TEST_F(GgufReader, ATensorThatLiesAboutItsSizeIsBlamedItself) {
  const auto three = [](std::uint32_t type, std::uint64_t offset) {
    return GgufBytes()
        .head(3, 0)
        .tensor("attn_q", {32, 2}, type, 0)
        .tensor("attn_v", {32, 2}, kF32, offset)
        .tensor("ffn", {32, 2}, kF32, 512)
        .pad()
        .zeros(768)
        .bytes();
  };
  EXPECT_NO_THROW(read(three(kF32, 256)));
  const std::string blamed = refusal(three(kQ8, 256));
  EXPECT_NE(blamed.find(": byte " + std::to_string(three(kQ8, 256).find("attn_q") + 6 + 20) +
                        ": tensor 'attn_q' takes 68 bytes by its type and shape, and the next, 'attn_v', begins 256 "
                        "bytes after it; "),
            std::string::npos)
      << blamed;
  EXPECT_REFUSED(three(kF32, 288), "tensor 'attn_v' has offset 288, expected 256");  // 'ffn' then does not fit it
}

TEST_F(GgufReader, OneByteIsOneByte) {
  EXPECT_REFUSED(GgufBytes().head(0, 1).text("abcde").put<std::uint32_t>(7).bytes(),
                 "the value of key 'abcde' needs 1 byte, 0 are left");
  EXPECT_REFUSED(GgufBytes().head(0, 1).text("k").put<std::uint32_t>(2).put<std::uint8_t>(0).zeros(0).bytes(),
                 "needs 2 bytes, 1 is left");
}

TEST_F(GgufReader, ScalarsAndEmptyTensors) {
  const GgufFile file = read(
      GgufBytes().head(2, 0).tensor("scalar", {}, kF32, 0).tensor("empty", {0, 5}, kF32, 32).pad().zeros(32).bytes());
  EXPECT_EQ(file.tensors[0]->info().elements(), 1u);
  EXPECT_EQ(file.tensors[1]->info().bytes(), 0u);
}

TEST_F(GgufReader, ManyShortStringsAreReadInLinearTime) {
  constexpr std::uint64_t kMany = 300000;
  GgufBytes out;
  out.head(0, 1).text("tokens").put<std::uint32_t>(9).put<std::uint32_t>(8).put<std::uint64_t>(kMany);
  for (std::uint64_t i = 0; i < kMany; ++i) out.text(std::to_string(i));
  const GgufFile file = read(out.bytes());
  ASSERT_EQ(file.array("tokens")->strings.size(), kMany);
  EXPECT_EQ(file.array("tokens")->strings[299999], "299999");
}

namespace {

std::string shard(int no, int count, int total, std::string_view tensor) {
  GgufBytes out;
  out.head(1, no == 0 ? 4 : 3);
  if (no == 0) out.key_u32("llama.block_count", 7);
  out.text("split.no").put<std::uint32_t>(2).put<std::uint16_t>(static_cast<std::uint16_t>(no));
  out.text("split.count").put<std::uint32_t>(2).put<std::uint16_t>(static_cast<std::uint16_t>(count));
  out.text("split.tensors.count").put<std::uint32_t>(5).put<std::int32_t>(total);
  return out.tensor(tensor, {8}, kF32, 0).pad().zeros(32).bytes();
}

class GgufSplits : public GgufReader {
 protected:
  std::filesystem::path name(int number, int count = 3) const {
    char text[64];
    std::snprintf(text, sizeof text, "m-%05d-of-%05d.gguf", number, count);
    return folder_.path() / text;
  }
  void write_all(int total = 3) {
    for (int i = 0; i < 3; ++i) folder_.write(name(i + 1).filename(), shard(i, 3, total, "t" + std::to_string(i)));
  }
  std::string why(const std::filesystem::path& path) {
    try {
      read_gguf(path);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::bad_input);
      return error.what();
    }
    ADD_FAILURE() << "accepted";
    return {};
  }
};

}  // namespace

TEST_F(GgufSplits, AnyShardOpensAll) {
  write_all();
  for (int number = 1; number <= 3; ++number) {
    const GgufFile file = read_gguf(name(number));
    ASSERT_EQ(file.tensors.size(), 3u);
    EXPECT_EQ(file.tensors[2]->name(), "t2");
    EXPECT_EQ(file.shard_of, (std::vector<int>{0, 1, 2}));
    EXPECT_EQ(file.integer("llama.block_count"), 7u);
    EXPECT_EQ(file.files.size(), 3u);
  }
}

TEST_F(GgufSplits, WhatDoesNotBelongTogetherIsRefused) {
  write_all();
  std::filesystem::remove(name(2));
  EXPECT_NE(why(name(1)).find("m-00002-of-00003.gguf: shard 2 of 3 is missing"), std::string::npos);
  EXPECT_NE(why(name(3)).find("shard 2 of 3 is missing"), std::string::npos);

  folder_.write(name(2).filename(), shard(2, 3, 3, "t1"));
  EXPECT_NE(why(name(1)).find("split.no is 2, expected 1"), std::string::npos);
  folder_.write(name(2).filename(), shard(1, 4, 3, "t1"));
  EXPECT_NE(why(name(1)).find("split.count is 4, expected 3"), std::string::npos);
  folder_.write(name(2).filename(), shard(1, 3, 3, "t0"));
  EXPECT_NE(why(name(1)).find("'t0' stands in an earlier shard too"), std::string::npos);
  write_all(4);
  EXPECT_NE(why(name(1)).find("split.tensors.count is 4, the shards hold 3 tensors"), std::string::npos);
  folder_.write("renamed.gguf", shard(0, 3, 3, "t0"));
  EXPECT_NE(why(folder_.path() / "renamed.gguf").find("its name does not end in"), std::string::npos);
}
