#pragma once

// What the tests of Hugging Face folders share: folders of their own, safetensors files built byte by byte (not by the
// writer under test), expected errors.

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "formats/json.h"
#include "lib/convert.h"
#include "lib/error.h"
#include "lib/lazy_tensor.h"

namespace ropewalk::formats {

namespace fs = std::filesystem;

/// A folder of the running test's own, removed at its end.
class TestFolder {
 public:
  TestFolder() {
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    path_ = fs::temp_directory_path() /
            ("ropewalk-" + std::string(test->test_suite_name()) + "-" + test->name() + "-" + std::to_string(getpid()));
    fs::remove_all(path_);
    fs::create_directories(path_);
  }
  ~TestFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  const fs::path& path() const { return path_; }
  fs::path operator/(const std::string& name) const { return path_ / name; }

 private:
  fs::path path_;
};

inline std::string read_bytes(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}
inline void write_bytes(const fs::path& path, const std::string& bytes) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << bytes;
}

struct RawTensor {
  std::string name, dtype;  // dtype as in the file: "F32"
  std::vector<std::uint64_t> shape;
  std::string bytes;
};
inline std::string f32_bytes(const std::vector<float>& values) {
  std::string bytes(values.size() * 4, '\0');
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}
inline RawTensor f32_tensor(std::string name, std::vector<std::uint64_t> shape, float first = 0.25f) {
  std::uint64_t n = 1;
  for (const auto d : shape) n *= d;
  std::vector<float> values(n);
  for (std::uint64_t i = 0; i < n; ++i) values[i] = first + float(i % 17) / 64;
  return {std::move(name), "F32", std::move(shape), f32_bytes(values)};
}
inline std::string safetensors_bytes(const std::vector<RawTensor>& tensors) {
  Json header = Json::object();
  std::string data;
  for (const RawTensor& tensor : tensors) {
    header[tensor.name] = {{"dtype", tensor.dtype},
                           {"shape", tensor.shape},
                           {"data_offsets", {data.size(), data.size() + tensor.bytes.size()}}};
    data += tensor.bytes;
  }
  const std::string text = header.dump();
  std::string out(8, '\0');
  const std::uint64_t size = text.size();
  std::memcpy(out.data(), &size, 8);
  return out + text + data;
}

/// Runs `body` and checks the Error it must throw: its kind and every part of its message.
inline void expect_error(ErrorKind kind, const std::vector<std::string>& parts, const std::function<void()>& body) {
  try {
    body();
    ADD_FAILURE() << "no error, expected one with '" << (parts.empty() ? "" : parts.front()) << "'";
  } catch (const Error& error) {
    EXPECT_STREQ(error_kind_name(error.kind()), error_kind_name(kind)) << error.what();
    for (const std::string& part : parts)
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << "'" << part << "' not in: " << error.what();
  }
}

inline std::string raw_bytes(const LazyTensor& tensor) {
  std::string bytes(tensor.info().bytes(), '\0');
  tensor.prepare();
  if (tensor.has_raw()) {
    tensor.read_raw({0, tensor.info().rows()}, std::as_writable_bytes(std::span(bytes)));
    return bytes;
  }
  // What a writer does with a recipe: one rounding from the widest type offered.
  std::vector<double> values(tensor.info().elements());
  tensor.read_f64({0, tensor.info().rows()}, values);
  encode_f64(tensor.dtype(), values, std::as_writable_bytes(std::span(bytes)));
  return bytes;
}

inline const fs::path kGolden = ROPEWALK_GOLDEN_DIR;

}  // namespace ropewalk::formats
