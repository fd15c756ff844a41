#include "formats/imatrix.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <span>

#include "formats/json.h"
#include "lib/error.h"
#include "lib/sha256.h"
#include "tests/formats/gguf_bytes.h"

namespace ropewalk::formats {
namespace {

const std::string kFolder = std::string(ROPEWALK_GOLDEN_DIR) + "/quant_runs/src/";

// imatrix_means.json: the same by numpy (make/imatrix_means.py).
TEST(Imatrix, BothFormatsAsNumpyReadsThem) {
  const Json files = Json::parse(file_bytes(kFolder + "imatrix_means.json"));
  ASSERT_EQ(files.size(), 6u);
  for (const auto& [name, want] : files.items()) {
    SCOPED_TRACE(name);
    const Imatrix got = read_imatrix(kFolder + name);
    EXPECT_EQ(got.chunks, want["chunks"].get<int>());
    EXPECT_EQ(got.datasets, want["datasets"].get<std::vector<std::string>>());
    ASSERT_EQ(got.entries.size(), want["entries"].size());
    for (const auto& [entry, values] : want["entries"].items()) {
      const ImatrixEntry& mine = got.entries.at(entry);
      ASSERT_EQ(mine.values.size(), values[0].get<std::size_t>()) << entry;
      const std::string hash = sha256(
          std::string_view(reinterpret_cast<const char*>(mine.values.data()), mine.values.size() * sizeof(float)));
      EXPECT_EQ(hash.substr(0, 32), values[1].get<std::string>()) << entry;
      EXPECT_EQ(mine.experts_unseen.size(), values[2].get<std::size_t>()) << entry;
    }
  }
}

std::string refusal(const std::filesystem::path& path) {
  try {
    (void)read_imatrix(path);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_input);
    return error.what();
  }
  return "(no error)";
}

TEST(Imatrix, EveryPrefixOfADatIsRefusedButThoseThatEndAfterAPart) {
  const TestFolder scratch("imatrix");
  const std::string whole = file_bytes(kFolder + "moe8.imatrix.dat");
  const auto try_prefix = [&](std::size_t n) {
    return refusal(scratch.write("x.dat", std::string_view(whole).substr(0, n)));
  };
  EXPECT_EQ(try_prefix(whole.size()), "(no error)");
  const std::size_t dataset = std::strlen("moe8.txt"), entries_end = whole.size() - dataset - 8;
  for (std::size_t n = 0; n < whole.size(); n += n < 64 || n + 64 > entries_end ? 1 : 997) {
    const std::string error = try_prefix(n);
    if (n == entries_end || n == entries_end + 4) EXPECT_EQ(error, "(no error)") << n;  // the oldest files end there
    else EXPECT_NE(error.find("left"), std::string::npos) << n << ": " << error;
  }
}

TEST(Imatrix, FieldsThatLie) {
  const TestFolder scratch("imatrix");
  const std::string whole = file_bytes(kFolder + "moe8.imatrix.dat");
  const auto with = [&](std::size_t at, std::uint32_t value) {
    std::string changed = whole;
    std::memcpy(changed.data() + at, &value, 4);
    return refusal(scratch.write("x.dat", changed));
  };
  std::int32_t length;
  std::memcpy(&length, whole.data() + 4, 4);
  const std::size_t counts = 8 + std::size_t(length);
  EXPECT_NE(with(0, 0).find("claims 0 entries"), std::string::npos);
  EXPECT_NE(with(0, 0x7fffffff).find("entries"), std::string::npos);
  EXPECT_NE(with(4, 0xffffffff).find("is -1 bytes long"), std::string::npos);
  EXPECT_NE(with(4, 0x40000000).find("bytes long, expected at most"), std::string::npos);
  EXPECT_NE(with(counts + 4, 0).find("expected at least 1"), std::string::npos);
  EXPECT_NE(with(counts + 4, 0x7fffffff).find("values"), std::string::npos);
  EXPECT_NE(with(counts, 0xffffffff).find("is -1, expected at least 0"), std::string::npos);
  EXPECT_NE(with(counts + 8, 0xbf800000).find("is below 0"), std::string::npos);
  EXPECT_NE(refusal(scratch.write("x.dat", whole + "x")).find("followed by 1 bytes"), std::string::npos);
  EXPECT_NE(with(counts + 8, 0x7fc00000).find("value 0 of '"), std::string::npos) << "NaN";
  EXPECT_NE(with(counts + 12, 0x7f800000).find("value 1 of '"), std::string::npos) << "infinity";
  EXPECT_NE(refusal(kFolder + "d512.gguf.head").find("d512.gguf.head"), std::string::npos);
  EXPECT_NE(refusal(scratch.path() / "none").find("none"), std::string::npos);
}

/// A GGUF importance matrix of one weight with four sums of 2 and `counts`.
std::string small(std::initializer_list<float> counts, const char* counts_name = "w.weight.counts",
                  std::uint32_t sums_type = 0, const char* last_key = "imatrix.chunk_size") {
  GgufBytes file;
  file.head(2, 3).text("imatrix.datasets").put<std::uint32_t>(9).put<std::uint32_t>(8).put<std::uint64_t>(1).text("a");
  file.key_u32("imatrix.chunk_count", 5).key_u32(last_key, 512);
  file.tensor("w.weight.in_sum2", {4}, sums_type, 0);
  file.tensor(counts_name, {static_cast<std::int64_t>(counts.size())}, 0, 32).pad();
  for (int i = 0; i < 4; ++i) file.put(2.0f);
  file.pad();
  for (const float count : counts) file.put(count);
  return file.pad().bytes();
}

TEST(Imatrix, GgufsThatLie) {
  const TestFolder scratch("imatrix-gguf");
  const auto why = [&](const std::string& bytes) { return refusal(scratch.write("x.gguf", bytes)); };
  EXPECT_EQ(why(small({4})), "(no error)");
  EXPECT_EQ(read_imatrix(scratch.path() / "x.gguf").entries.at("w.weight").values, std::vector<float>(4, 0.5f));
  EXPECT_EQ(why(small({4, 0})), "(no error)");
  EXPECT_EQ(read_imatrix(scratch.path() / "x.gguf").entries.at("w.weight").values,
            (std::vector<float>{0.5f, 0.5f, 1, 1}))
      << "an expert never seen weighs 1";
  EXPECT_NE(why(small({1, 1, 1})).find("4 sums and 3 counts"), std::string::npos);
  EXPECT_NE(why(small({std::nanf("")})).find("count 0 of 'w.weight' is not a count"), std::string::npos);
  EXPECT_NE(why(small({1e30f})).find("is not a count"), std::string::npos);
  EXPECT_NE(why(small({-1})).find("is not a count"), std::string::npos);
  EXPECT_EQ(why(small({0x1p53f})), "(no error)");
  EXPECT_NE(why(small({0x1.000002p53f})).find("is not a count"), std::string::npos) << "the next float";
  EXPECT_NE(why(small({4}, "v.weight.counts")).find("expected both"), std::string::npos);
  EXPECT_NE(why(small({4}, "w.weight.counts", 26)).find("is i32, expected f32"), std::string::npos);
  EXPECT_NE(why(small({4}, "w.weight.counts", 0, "imatrix.chunk_sizes")).find("'imatrix.chunk_size' is missing"),
            std::string::npos);
  const std::string whole = small({4});
  for (std::size_t n = 0; n < whole.size() - 32; ++n)  // the padding of the last tensor may be missing
    EXPECT_NE(why(whole.substr(0, n)), "(no error)") << n;
}

template <class Work>
std::string error_of(const Work& work) {
  try {
    work();
  } catch (const Error& error) {
    return error.what();
  }
  return "(no error)";
}

/// A .dat of one entry 'w' with one value.
std::string small_dat(std::int32_t calls, float value) {
  GgufBytes file;
  file.put<std::int32_t>(1).put<std::int32_t>(1).put('w').put(calls).put<std::int32_t>(1).put(value);
  return file.bytes();
}

TEST(Imatrix, SumsStayInRange) {
  const TestFolder scratch("imatrix-range");
  const auto add = [](ImatrixSums a, ImatrixSums b) {
    return error_of([&] {
      ImatrixCollection total;
      for (ImatrixSums* one : {&a, &b}) {
        ImatrixCollection more;
        more.entries["w"] = *one;
        add_imatrix(total, more, "more.gguf");
      }
    });
  };
  EXPECT_EQ(add({{1e38f}, {kMaxImatrixRows - 1}}, {{1e38f}, {1}}), "(no error)");
  EXPECT_NE(add({{1}, {kMaxImatrixRows}}, {{1}, {1}}).find("more.gguf: 'w' would have more than 2^53 rows"),
            std::string::npos);
  EXPECT_NE(add({{2e38f}, {1}}, {{2e38f}, {1}}).find("a sum that is not finite"), std::string::npos);

  const auto dat = [&](std::int32_t calls, float value, std::int64_t chunk_size) {
    const auto path = scratch.write("x.dat", small_dat(calls, value));
    return error_of([&] { (void)read_imatrix_sums(path, chunk_size); });
  };
  EXPECT_EQ(dat(INT32_MAX, 1, 1 << 20), "(no error)");
  EXPECT_NE(dat(INT32_MAX, 1, 1 << 24).find("calls, too many of 16777216 tokens"), std::string::npos);
  EXPECT_NE(dat(1, 1e38f, 512).find("value 0 of 'w' is not finite"), std::string::npos);

  const auto write = [&](ImatrixSums entry, std::int64_t chunk_size, ImatrixFormat format) {
    ImatrixCollection one;
    one.entries["w"] = std::move(entry);
    const std::string error =
        error_of([&] { write_imatrix(scratch.path() / "out", one, chunk_size, format, {.overwrite = true}); });
    if (error == "(no error)") (void)read_imatrix(scratch.path() / "out");
    return error;
  };
  for (const ImatrixFormat format : {ImatrixFormat::gguf, ImatrixFormat::dat}) {
    EXPECT_EQ(write({{1}, {std::int64_t{INT32_MAX} - 1}}, 1, format), "(no error)");
    EXPECT_NE(write({{1}, {INT32_MAX}}, 1, format).find("would have 2147483647 chunks of 1 token"), std::string::npos);
    EXPECT_NE(write({{INFINITY}, {1}}, 1, format).find("not finite"), std::string::npos);
  }
  const ImatrixSums far{{3e38f, 1}, {1, 1000}};
  EXPECT_EQ(write(far, 1, ImatrixFormat::gguf), "(no error)");
  EXPECT_NE(write(far, 1, ImatrixFormat::dat).find("'w' times its calls is not finite"), std::string::npos);
}

}  // namespace
}  // namespace ropewalk::formats
