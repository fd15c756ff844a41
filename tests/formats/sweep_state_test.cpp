#include "formats/sweep_state.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>

#include "lib/error.h"
#include "lib/sha256.h"
#include "tests/formats/hf_test_support.h"

namespace ropewalk::formats {
namespace {

namespace fs = std::filesystem;

/// The layout of the header, byte by byte and independent of the writer; `at` names where fields begin.
struct Bytes {
  std::string bytes;
  template <class T>
  Bytes& put(T value) {
    char raw[sizeof(T)];
    std::memcpy(raw, &value, sizeof(T));
    bytes.append(raw, sizeof(T));
    return *this;
  }
  Bytes& text(const std::string& words) {
    bytes += words;
    return *this;
  }
  std::string whole() const { return bytes + sha256(bytes); }
};
const std::string kFirst(64, 'a'), kSecond(64, 'b');

Bytes small_state() {
  Bytes b;
  b.text("RWSWEEP\x1a").put(std::uint32_t{1}).put(std::uint32_t{0});
  b.put(std::uint64_t{1}).text(kFirst).put(std::uint64_t{2}).put(1.5).put(-2.0);
  b.put(std::uint8_t{1}).text(kSecond).put(std::uint64_t{1}).put(0.25).put(std::uint32_t{3});
  b.put(std::uint64_t{1}).put(std::uint64_t{2}).put(std::uint64_t{2});
  for (const float x : {1.f, 2.f, 3.f, 4.f}) b.put(x);
  return b;
}
// where fields of it begin
constexpr std::size_t kVersion = 8, kFinished = 16, kNumbers = kFinished + 8 + 64, kBegun = kNumbers + 8 + 16,
                      kLayers = kBegun + 1 + 64 + 8 + 8, kModels = kLayers + 4, kRows = kModels + 8;

class SweepStates : public testing::Test {
 protected:
  void spill(const std::string& bytes) const { std::ofstream(path(), std::ios::binary) << bytes; }
  std::string slurp() const {
    std::ifstream in(path(), std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  fs::path path() const { return folder / "state"; }
  /// "" if it is read.
  std::string refusal(const std::string& bytes) const {
    spill(bytes);
    try {
      read_sweep_state(path());
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::bad_input);
      return error.what();
    }
    return "";
  }
  template <class T>
  std::string lying(std::size_t at, T value) const {
    Bytes b = small_state();
    std::memcpy(b.bytes.data() + at, &value, sizeof(T));
    return refusal(b.whole());
  }
  TestFolder folder;
};

TEST_F(SweepStates, ReadsTheLayoutOfItsHeader) {
  spill(small_state().whole());
  EXPECT_TRUE(is_sweep_state(path()));
  const SweepState state = read_sweep_state(path());
  ASSERT_EQ(state.finished.size(), 1u);
  EXPECT_EQ(state.finished[0].key, kFirst);
  EXPECT_EQ(state.finished[0].numbers, (std::vector<double>{1.5, -2.0}));
  ASSERT_TRUE(state.begun);
  EXPECT_EQ(state.begun->sweep.key, kSecond);
  EXPECT_EQ(state.begun->sweep.numbers, (std::vector<double>{0.25}));
  EXPECT_EQ(state.begun->layers, 3);
  std::vector<float> rows(6, -1);
  state.read_hidden(0, {rows.data(), 2, 2, 3});
  EXPECT_EQ(rows, (std::vector<float>{1, 2, -1, 3, 4, -1}));
  EXPECT_THROW(state.read_hidden(0, {rows.data(), 2, 3, 3}), Error);
}

TEST_F(SweepStates, WritesTheLayoutOfItsHeader) {
  const std::vector<SweepNumbers> finished = {{kFirst, {1.5, -2.0}}};
  const SweepNumbers second{kSecond, {0.25}};
  const std::vector<float> rows = {1, 2, 99, 3, 4, 99};
  const std::vector<HiddenRows<const float>> hidden = {{rows.data(), 2, 2, 3}};
  const BegunSweep begun{second, 3, hidden};
  write_sweep_state(path(), finished, &begun, {});
  EXPECT_EQ(slurp(), small_state().whole());
  write_sweep_state(path(), finished, nullptr, {});  // in its place
  EXPECT_EQ(slurp(), Bytes{small_state().bytes.substr(0, kBegun) + '\0'}.whole());
}

TEST_F(SweepStates, EveryPrefixAndEveryFlippedBitIsRefused) {
  const std::string whole = small_state().whole();
  for (std::size_t size = 0; size < whole.size(); ++size) EXPECT_NE(refusal(whole.substr(0, size)), "") << size;
  for (std::size_t bit = 0; bit < 8 * whole.size(); ++bit) {
    std::string bent = whole;
    bent[bit / 8] = static_cast<char>(bent[bit / 8] ^ (1 << bit % 8));
    EXPECT_NE(refusal(bent), "") << bit;
  }
  EXPECT_NE(refusal(whole.substr(0, whole.size() / 2))
                .find("the checksum at its end does not fit: it is cut short or "
                      "damaged; remove it, or give --overwrite"),
            std::string::npos);
  EXPECT_EQ(refusal(whole), "");
}

TEST_F(SweepStates, FieldsThatLieAreRefusedWhateverTheChecksumSays) {
  const auto has = [](const std::string& text, const std::string& part) {
    EXPECT_NE(text.find(part), std::string::npos) << text;
  };
  has(lying(kVersion, std::uint32_t{2}), "version 2 of unfinished sweeps, 1 is read");
  has(lying(kFinished, std::uint64_t{1} << 61), "finished sweeps claims 2305843009213693952 entries");
  has(lying(kNumbers, std::uint64_t{1} << 61), "numbers claims 2305843009213693952 entries");
  has(lying(kBegun, std::uint8_t{2}), "whether one is begun is 2");
  has(lying(kLayers, ~std::uint32_t{0}), "4294967295 layers done");
  has(lying(kModels, std::uint64_t{1} << 60), "models claims");
  has(lying(kRows, std::uint64_t{1} << 62), "rows of 2 floats");
  has(lying(kRows + 8, std::uint64_t{0}), "2 rows of 0 floats");
  has(lying(kRows + 8, ~std::uint64_t{0}), "rows of 18446744073709551615 floats");
  has(lying(kRows, std::uint64_t{1}), "8 bytes are left over");
  has(refusal("not one of ours, and long enough to look at: " + std::string(100, ' ')),
      "this holds no unfinished sweeps");
}

}  // namespace
}  // namespace ropewalk::formats
