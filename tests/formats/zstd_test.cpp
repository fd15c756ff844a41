#include "formats/zstd.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cstring>
#include <string_view>

#include "lib/error.h"

namespace ropewalk::formats {
namespace {

std::vector<std::byte> bytes_of(std::string_view text) {
  std::vector<std::byte> out(text.size());
  if (!text.empty()) std::memcpy(out.data(), text.data(), text.size());
  return out;
}
std::string text_of(const std::vector<std::byte>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// printf 'ropewalk ropewalk ropewalk ropewalk\n' | zstd -c, release 1.5.4
const std::vector<std::byte> kFrame = bytes_of(std::string_view(
    "\x28\xb5\x2f\xfd\x04\x58\x85\x00\x00\x50\x72\x6f\x70\x65\x77\x61\x6c\x6b\x20\x0a\x01\x00\xb4\xcb\x11\x64\x6d\xc7"
    "\x24",
    29));
constexpr const char* kText = "ropewalk ropewalk ropewalk ropewalk\n";

std::string refusal(std::span<const std::byte> file, std::uint64_t max_bytes = 1000) {
  try {
    zstd_decompressed(file, max_bytes, "a.zst");
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_input);
    return error.what();
  }
  return "";
}

TEST(Zstd, ReadsWhatTheToolWrote) {
  EXPECT_EQ(text_of(zstd_decompressed(kFrame, 36, "a.zst")), kText);
  auto two = kFrame;
  two.insert(two.end(), kFrame.begin(), kFrame.end());
  EXPECT_EQ(text_of(zstd_decompressed(two, 72, "a.zst")), std::string(kText) + kText);
}

TEST(Zstd, ThereAndBack) {
  for (const std::size_t n : {0, 1, 1000, 300'000}) {
    std::string text(n, 'a');
    for (std::size_t i = 0; i < n; ++i) text[i] = static_cast<char>(i * i % 251);
    EXPECT_EQ(text_of(zstd_decompressed(zstd_compressed(bytes_of(text)), n, "a.zst")), text);
  }
}

TEST(Zstd, EveryPrefixAndEveryFlipIsRefused) {
  for (std::size_t n = 0; n < kFrame.size(); ++n) {
    const std::vector<std::byte> prefix(kFrame.begin(), kFrame.begin() + static_cast<std::ptrdiff_t>(n));
    EXPECT_NE(refusal(prefix), "") << n;
  }
  // some bits of a frame mean nothing (a reserved one of its header, padding of its codes): then the text is the same
  for (std::size_t at = 0; at < kFrame.size(); ++at)
    for (int bit = 0; bit < 8; ++bit) {
      auto bent = kFrame;
      bent[at] ^= std::byte{1} << bit;
      if (refusal(bent).empty()) {
        EXPECT_EQ(text_of(zstd_decompressed(bent, 1000, "a.zst")), kText) << at << ":" << bit;
      }
    }
  auto longer = kFrame;
  longer.push_back(std::byte{'x'});
  EXPECT_NE(refusal(longer), "");
}

TEST(Zstd, HoldsNoMoreThanAllowed) {
  EXPECT_EQ(refusal(kFrame, 35), "a.zst: holds more than 35 bytes once decompressed; give a smaller file");
  const auto bomb = zstd_compressed(std::vector<std::byte>(std::size_t{64} << 20));
  EXPECT_LT(bomb.size(), 10'000u);
  EXPECT_NE(refusal(bomb, 1 << 20).find("more than 1048576 bytes"), std::string::npos);
  rusage before{}, after{};
  getrusage(RUSAGE_SELF, &before);
  const auto large = zstd_compressed(std::vector<std::byte>(std::size_t{1} << 20));
  std::vector<std::byte> frames;  // 512 of them: 512 MiB
  for (int i = 0; i < 512; ++i) frames.insert(frames.end(), large.begin(), large.end());
  EXPECT_NE(refusal(frames, (std::uint64_t{512} << 20) - 1), "");
  getrusage(RUSAGE_SELF, &after);
  EXPECT_LT(after.ru_maxrss - before.ru_maxrss, 64 << 10) << "what is refused is not kept";
}

}  // namespace
}  // namespace ropewalk::formats
