#pragma once
// The goldens of tests/golden/tokenizer_ids.tar.zst and how they are written down.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <sstream>
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

/// A name of a test.
inline std::string test_name(std::string name) {
  std::replace_if(
      name.begin(), name.end(), [](char c) { return c == '-' || c == '.'; }, '_');
  return name;
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

/// llama.cpp's own cases: FILE.inp and FILE.out.
struct EngineCase {
  std::string text;
  Ids ids;
};
inline std::vector<EngineCase> engine_cases(const std::string& file) {
  const std::string input = read_bytes(file + ".inp"), separator = "\n__ggml_vocab_test__\n";
  std::istringstream output(read_bytes(file + ".out"));
  std::vector<EngineCase> cases;
  // the text after the last separator has no line
  for (std::size_t at = 0, end = 0; (end = input.find(separator, at)) != std::string::npos;
       at = end + separator.size()) {
    EngineCase& one = cases.emplace_back(EngineCase{input.substr(at, end - at), {}});
    std::string line;
    EXPECT_TRUE(std::getline(output, line)) << file;
    std::istringstream words(line);
    for (std::int32_t id; words >> id;) one.ids.push_back(id);
  }
  return cases;
}

inline std::string base64(const std::string& bytes) {
  static constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (std::size_t at = 0; at < bytes.size(); at += 3) {
    std::uint32_t bits = 0;
    for (std::size_t i = 0; i < 3; ++i)
      bits = bits << 8 | (at + i < bytes.size() ? static_cast<unsigned char>(bytes[at + i]) : 0);
    for (std::size_t i = 0; i < 4; ++i) out += at + i > bytes.size() ? '=' : kDigits[bits >> (18 - 6 * i) & 63];
  }
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
