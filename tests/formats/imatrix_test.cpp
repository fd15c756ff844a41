#include "formats/imatrix.h"

#include <gtest/gtest.h>

#include <cstring>
#include <fstream>

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
      EXPECT_EQ(mine.experts_unseen, values[2].get<std::size_t>()) << entry;
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
  EXPECT_NE(with(counts + 8, 0x7fc00000).find("value 0 of '"), std::string::npos) << "NaN";
  EXPECT_NE(with(counts + 12, 0x7f800000).find("value 1 of '"), std::string::npos) << "infinity";
  EXPECT_NE(refusal(kFolder + "d512.gguf.head").find("d512.gguf.head"), std::string::npos);
  EXPECT_NE(refusal(scratch.path() / "none").find("none"), std::string::npos);
}

}  // namespace
}  // namespace ropewalk::formats
