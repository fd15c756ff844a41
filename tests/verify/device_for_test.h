#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "verify/cuda/runtime.h"

namespace ropewalk::verify {

/// A test on the first device; skipped, aloud, where there is none.
class DeviceTest : public testing::Test {
 protected:
  void SetUp() override {
    const DeviceList list = list_devices();
    if (list.devices.empty()) GTEST_SKIP() << "SKIPPED: no GPU was tested: " << list.why_none;
    memory_ = std::make_unique<DeviceMemory>(list.devices.front().index, std::nullopt);
    stream_ = std::make_unique<Stream>();
  }

  DeviceMemory& memory() { return *memory_; }
  Stream& stream() { return *stream_; }

  static std::vector<float> random_floats(std::size_t n, unsigned seed, float spread = 1) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0, spread);
    std::vector<float> out(n);
    for (float& x : out) x = normal(random);
    return out;
  }

  template <class T>
  DeviceBuffer room(std::size_t elements) {
    return DeviceBuffer(*memory_, "a test's buffer", elements * sizeof(T));
  }
  template <class T>
  DeviceBuffer upload(const std::vector<T>& from) {
    DeviceBuffer to = room<T>(from.size());
    copy_to_device(std::as_bytes(std::span(from)), to.as<std::byte>(), *stream_);
    stream_->synchronize();
    return to;
  }
  template <class T>
  std::vector<T> download(const DeviceBuffer& from) {
    std::vector<T> to(from.bytes() / sizeof(T));
    copy_to_host(from.as<const std::byte>(), std::as_writable_bytes(std::span(to)), *stream_);
    stream_->synchronize();
    return to;
  }

 private:
  std::unique_ptr<DeviceMemory> memory_;
  std::unique_ptr<Stream> stream_;
};

}  // namespace ropewalk::verify
