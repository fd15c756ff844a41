#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <iostream>
#include <map>
#include <string>
#include <vector>

#include "formats/json.h"
#include "formats/safetensors.h"
#include "formats/source.h"
#include "lib/convert.h"
#include "verify/gates.h"

namespace ropewalk::verify {

inline std::filesystem::path golden_dir() { return ROPEWALK_GOLDEN_DIR; }

inline formats::Source open_golden(const std::string& text) {
  return formats::open_source(formats::parse_source(text), {}, {});
}

/// A tensor of a golden file, all of it in double.
struct GoldenTensor {
  std::vector<std::uint64_t> shape;
  std::vector<double> values;
  std::uint64_t columns() const { return shape.empty() ? 1 : shape.back(); }
};
inline std::map<std::string, GoldenTensor> read_golden(const std::filesystem::path& path) {
  std::map<std::string, GoldenTensor> out;
  for (const TensorPtr& tensor : formats::read_safetensors(path).tensors) {
    std::vector<std::byte> bytes(tensor->info().bytes());
    tensor->read_raw({0, tensor->info().rows()}, bytes);
    GoldenTensor golden{tensor->info().shape, std::vector<double>(tensor->info().elements())};
    decode_f64(tensor->dtype(), bytes, golden.values);
    out.emplace(tensor->name(), std::move(golden));
  }
  return out;
}

/// max |a - b|; NaN if either has one.
template <class A, class B>
double max_difference(const A& a, const B& b, std::size_t n) {
  double largest = 0;
  for (std::size_t i = 0; i < n; ++i) {
    largest = max_or_nan(largest, std::abs(double(a[i]) - double(b[i])));
  }
  return largest;
}

/// Goldens of many tokens are arithmetic that the other presets check in full; under the sanitizers, ten times slower,
/// a representative of each kind shows what they are for.
#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif
/// True where a case is to be left out; says so on standard output, by name.
inline bool left_to_release(bool left_out, const std::string& what) {
  if (!kSanitized || !left_out) return false;
  std::cout << "[ LEFT OUT ] under sanitizers: " << what << std::endl;
  return true;
}

/// Cases of tests/golden/excluded.json, with their reasons.
inline std::map<std::string, std::string> excluded() {
  std::map<std::string, std::string> out;
  const formats::Json all = formats::read_json(std::string(ROPEWALK_TEST_DATA_DIR) + "/excluded.json");
  for (const auto& [name, reason] : all.items()) out[name] = reason.get<std::string>();
  return out;
}

}  // namespace ropewalk::verify
