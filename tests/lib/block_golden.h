#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <span>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "lib/dtype.h"
#include "lib/sha256.h"

/// tests/golden/blocks.tar.zst: what ggml makes of rows and blocks; its README says what is in it.
namespace block_golden {

inline const nlohmann::json& index() {
  static const nlohmann::json json = nlohmann::json::parse(std::ifstream(ROPEWALK_GOLDEN_DIR "/blocks/index.json"));
  return json;
}

/// A tensor's bytes; shape[0] rows.
inline std::span<const std::byte> bytes_of(const std::string& name) {
  static const std::vector<char> all = [] {
    std::ifstream file(ROPEWALK_GOLDEN_DIR "/blocks/blocks.bin", std::ios::binary);
    return std::vector<char>(std::istreambuf_iterator<char>(file), {});
  }();
  const nlohmann::json& tensor = index().at("tensors").at(name);
  std::size_t n = name.find('/') == std::string::npos ? 4 : 1;  // f32 or bytes
  for (const std::size_t dim : tensor.at("shape")) n *= dim;
  return std::as_bytes(std::span(all)).subspan(tensor.at("offset").get<std::size_t>(), n);
}
inline std::vector<float> floats_of(const std::string& name) {
  const std::span<const std::byte> bytes = bytes_of(name);
  std::vector<float> values(bytes.size() / 4);
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}
/// "Q4_K" of "q4_k".
inline std::string upper(std::string name) {
  for (char& c : name) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return name;
}

inline std::vector<std::uint64_t> noise(std::uint64_t seed, std::size_t n) {
  std::vector<std::uint64_t> out(n);
  for (std::size_t i = 0; i < n; ++i) {
    std::uint64_t z = seed + (i + 1) * 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    out[i] = z ^ (z >> 31);
  }
  return out;
}

inline std::string sha(std::span<const std::byte> bytes) {
  ropewalk::Sha256 hash;
  hash.update(bytes);
  return hash.finish();
}
/// Of floats, NaN as 0x7fc00000: which of two NaN an operation keeps is the compiler's choice.
inline std::string sha(std::vector<float> values) {
  for (float& value : values)
    if (std::isnan(value)) value = std::bit_cast<float>(0x7fc00000u);
  return sha(std::as_bytes(std::span(values)));
}

}  // namespace block_golden
