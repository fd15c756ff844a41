#include "lib/codecs/q8_0.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "tests/lib/each_simd_target.h"

using namespace ropewalk;

namespace {

const nlohmann::json& golden() {
  static const nlohmann::json json = nlohmann::json::parse(std::ifstream(ROPEWALK_TEST_DATA_DIR "/q8_0/blocks.json"));
  return json;
}

std::vector<std::byte> from_hex(const std::string& text) {
  std::vector<std::byte> bytes;
  for (std::size_t i = 0; i < text.size(); i += 2)
    bytes.push_back(static_cast<std::byte>(std::stoi(text.substr(i, 2), nullptr, 16)));
  return bytes;
}

std::string to_hex(std::span<const std::byte> bytes) {
  std::string text;
  for (const std::byte b : bytes) {
    text += "0123456789abcdef"[static_cast<int>(b) >> 4];
    text += "0123456789abcdef"[static_cast<int>(b) & 15];
  }
  return text;
}

std::vector<float> floats_from_hex(const std::string& text) {
  const std::vector<std::byte> bytes = from_hex(text);
  std::vector<float> values(bytes.size() / 4);
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

std::uint64_t fnv1a(std::span<const std::byte> bytes) {
  std::uint64_t value = 0xcbf29ce484222325u;
  for (const std::byte b : bytes) value = (value ^ static_cast<std::uint64_t>(b)) * 0x100000001b3u;
  return value;
}

TEST(BlockQ8_0, EncodesAsGgml) {
  for_each_simd_target([] {
    std::size_t seen = 0;
    for (const auto& block : golden()["blocks"]) {
      SCOPED_TRACE(block["name"]);
      // among ordinary blocks, and alone: neighbours share a batch
      for (const std::size_t before : {0u, 1u, 20u}) {
        std::vector<float> values(32 * before, 1.5f);
        const std::vector<float> x = floats_from_hex(block["x"]);
        values.insert(values.end(), x.begin(), x.end());
        std::vector<std::byte> bytes(34 * (before + 1));
        encode_q8_0(values, bytes);
        EXPECT_EQ(to_hex(std::span(bytes).last(34)), block["ggml"]);
      }
      ++seen;
    }
    EXPECT_GE(seen, 40u);
  });
}

// convert_hf_to_gguf.py uses gguf-py, llama-quantize ggml: they part only where a block holds NaN.
TEST(BlockQ8_0, GgufPyAgreesUnlessThereIsNan) {
  std::size_t differ = 0;
  for (const auto& block : golden()["blocks"]) {
    bool nan = false;
    for (const float v : floats_from_hex(block["x"])) nan |= std::isnan(v);
    if (!nan) {
      EXPECT_EQ(block["ggml"], block["gguf"]) << block["name"];
    }
    differ += block["ggml"] != block["gguf"];
  }
  EXPECT_EQ(differ, 3u);
  EXPECT_EQ(golden()["stream"]["ggml_fnv1a"], golden()["stream"]["gguf_fnv1a"]);
}

TEST(BlockQ8_0, DecodesAsGgml) {
  for_each_simd_target([] {
    for (const auto& block : golden()["blocks"]) {
      std::vector<float> values(32);
      decode_q8_0(from_hex(block["ggml"]), values);
      const std::vector<float> want = floats_from_hex(block["decoded"]);
      for (std::size_t i = 0; i < 32; ++i) {
        if (std::isnan(want[i])) EXPECT_TRUE(std::isnan(values[i])) << block["name"];
        else
          EXPECT_EQ(std::bit_cast<std::uint32_t>(values[i]), std::bit_cast<std::uint32_t>(want[i]))
              << block["name"] << " " << i;
      }
    }
  });
}

TEST(BlockQ8_0, LongStreamAsGgml) {
  const auto n_blocks = golden()["stream"]["n_blocks"].get<std::size_t>();
  std::vector<float> values;
  std::uint64_t state = 88172645463325252u;
  for (std::size_t block = 0; block < n_blocks; ++block)
    for (int i = 0; i < 32; ++i) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      values.push_back(
          static_cast<float>(std::ldexp(static_cast<double>(static_cast<std::int64_t>(state >> 40) - (1 << 23)),
                                        static_cast<int>(block % 50) - 23 - 35)));
    }
  for_each_simd_target([&] {
    std::vector<std::byte> bytes(n_blocks * 34);
    encode_q8_0(values, bytes);
    EXPECT_EQ(std::to_string(fnv1a(bytes)), golden()["stream"]["ggml_fnv1a"]);
    std::vector<float> decoded(values.size());
    decode_q8_0(bytes, decoded);
    EXPECT_EQ(std::to_string(fnv1a(std::as_bytes(std::span(decoded)))), golden()["stream"]["decoded_fnv1a"]);
  });
}

}  // namespace
