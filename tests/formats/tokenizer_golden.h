#pragma once
// The goldens of tests/golden/tokenizer_ids.tar.zst and how they are written down.

#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace ropewalk::formats::golden {

using Ids = std::vector<std::int32_t>;
const std::filesystem::path kGolden = ROPEWALK_GOLDEN_DIR;
const std::filesystem::path kIds = kGolden / "tokenizer_ids";

inline std::string read_bytes(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file) << path;
  return {std::istreambuf_iterator<char>(file), {}};
}

inline nlohmann::json read(const std::filesystem::path& path) { return nlohmann::json::parse(read_bytes(path)); }

inline std::string unhex(const std::string& hex) {
  std::string out;
  for (std::size_t at = 0; at + 1 < hex.size(); at += 2)
    out += static_cast<char>(std::stoi(hex.substr(at, 2), nullptr, 16));
  return out;
}

inline std::vector<std::string> texts() {
  std::vector<std::string> out;
  for (const auto& hex : read(kIds / "texts.json")) out.push_back(unhex(hex));
  return out;
}

/// As sentencepiece_ids.py hashes ids: FNV-1a over little-endian 32-bit words, 16 hex digits.
inline std::string fnv1a64(const Ids& ids) {
  std::uint64_t value = 0xCBF29CE484222325u;
  for (std::int32_t id : ids)
    for (int shift = 0; shift < 32; shift += 8)
      value = (value ^ (static_cast<std::uint32_t>(id) >> shift & 0xFFu)) * 0x100000001B3u;
  char hex[17];
  std::snprintf(hex, sizeof hex, "%016llx", static_cast<unsigned long long>(value));
  return hex;
}

/// One of the repository's own texts, cut as the script cuts it.
inline std::vector<std::string> corpus_chunks(const std::string& file) {
  constexpr std::size_t kChunkBytes = 10'000;
  const std::string text = read_bytes(std::filesystem::path(ROPEWALK_TEST_DATA_DIR) / "../../data/text" / file);
  std::vector<std::string> out;
  for (std::size_t at = 0; at < text.size(); at += kChunkBytes) out.push_back(text.substr(at, kChunkBytes));
  return out;
}

/// For failure messages: bytes as hex if they do not print.
inline std::string shown(const std::string& text) {
  std::string out;
  for (char c : text) {
    char hex[5];
    std::snprintf(hex, sizeof hex, "\\x%02X", static_cast<unsigned char>(c));
    out += c >= ' ' && c < 127 ? std::string(1, c) : std::string(hex);
  }
  return "'" + out + "'";
}

}  // namespace ropewalk::formats::golden
