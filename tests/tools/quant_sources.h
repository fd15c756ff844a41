#pragma once

#include <cmath>
#include <cstring>

#include "lib/convert.h"
#include "lib/sha256.h"
#include "tests/tools/command.h"

namespace ropewalk::tools::test {

/// The generated models of tests/golden/quant_runs: the file's head as stored, then every tensor by the recipe of that
/// folder's README (an integer hash and one float product). Each file is checked against its sha256.
class QuantSources {
 public:
  explicit QuantSources(const std::string& model) : folder_(fs::path(ROPEWALK_GOLDEN_DIR) / "quant_runs/src") {
    recipe_ = Json::parse(slurp(folder_ / (model + ".json")));
    for (const Json& tensor : recipe_["tensors"]) values_.push_back(values_of(tensor));
  }

  /// Writes every GGUF of the model into `folder`, and its importance matrices.
  void write(const fs::path& folder) const {
    std::size_t next = 0;  // of a split: its tensors follow one another
    for (const auto& [name, file] : recipe_["files"].items()) {
      if (name.find(".imatrix.") != std::string::npos) {
        if (fs::exists(folder_ / name)) fs::copy_file(folder_ / name, folder / name);
        continue;
      }
      const bool split = name.find(".split-") != std::string::npos;
      std::string bytes = slurp(folder_ / (name + ".head"));
      while (next < values_.size() && (!split || bytes.size() < file["size"].get<std::size_t>())) {
        append(bytes, values_[next], dtype_of(name, recipe_["tensors"][next]));
        ++next;
      }
      if (next == values_.size()) next = 0;
      EXPECT_EQ(sha256(bytes), file["sha256"].get<std::string>()) << name;
      std::ofstream(folder / name, std::ios::binary) << bytes;
    }
  }

 private:
  static std::uint64_t mixed(std::uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return z ^ (z >> 31);
  }
  static DType dtype_of(const std::string& file, const Json& tensor) {
    if (tensor["shape"].size() < 2) return DType::f32;
    return file.find(".f16.") != std::string::npos    ? DType::f16
           : file.find(".bf16.") != std::string::npos ? DType::bf16
                                                      : DType::f32;
  }
  std::vector<float> values_of(const Json& tensor) const {
    std::uint64_t seed = 0xCBF29CE484222325;
    for (const unsigned char c : std::to_string(recipe_["seed"].get<int>()) + "/" + tensor["name"].get<std::string>())
      seed = (seed ^ c) * 0x100000001B3;
    std::size_t n = 1;
    for (const Json& axis : tensor["shape"]) n *= axis.get<std::size_t>();
    const auto scale = static_cast<float>(tensor["sigma"].get<double>() / 37836.6);
    const bool around_one = tensor["kind"] == "n";
    std::vector<float> values(n);
    for (std::size_t i = 0; i < n; ++i) {
      const std::uint64_t z = seed + (i + 1) * 0x9E3779B97F4A7C15, u = mixed(z);
      const std::int64_t sum =
          std::int64_t((u & 65535) + ((u >> 16) & 65535) + ((u >> 32) & 65535) + (u >> 48)) - 131070;
      float x = static_cast<float>(sum) * scale;
      if ((mixed(z ^ 0xD1B54A32D192ED03) & 2047) == 0) x *= 16;
      values[i] = around_one ? x + 1 : x;
    }
    return values;
  }
  static void append(std::string& bytes, const std::vector<float>& values, DType dtype) {
    std::vector<std::byte> encoded(*byte_size(dtype, values.size()));
    encode_f32(dtype, values, encoded);
    bytes.append(reinterpret_cast<const char*>(encoded.data()), encoded.size());
    bytes.resize((bytes.size() + 31) / 32 * 32, '\0');
  }

  fs::path folder_;
  Json recipe_;
  std::vector<std::vector<float>> values_;
};

}  // namespace ropewalk::tools::test
