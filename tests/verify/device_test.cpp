#include "verify/device.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>

#include "verify/accelerator.h"

namespace ropewalk::verify {
namespace {

TEST(Device, ErrorsNameOperationLayerAndShape) {
  const Error error = device_error({"rms_norm", 3, {4096, 2048}}, "cudaErrorIllegalAddress",
                                   "an illegal memory access was encountered");
  EXPECT_EQ(error.kind(), ErrorKind::device);
  EXPECT_STREQ(error.what(),
               "rms_norm, layer 3, [4096, 2048]: an illegal memory access was encountered (cudaErrorIllegalAddress); "
               "this is a bug in ropewalk or its driver: please report it "
               "with this line, and use --device cpu meanwhile");
  EXPECT_EQ(device_error({"allocating the residual", {}, {}}, "cudaErrorMemoryAllocation", "out of memory").fix(),
            "free memory on the device or lower --device-memory");
  EXPECT_EQ(describe({"gather", {}, {5}}), "gather, [5]");
}

// cuDNN asked for by name and not there is a device's fault, whatever the model: exit code 6, before one is opened.
TEST(Device, WithoutCudnnTheReasonIsTold) {
  const Error error = no_cudnn("libcudnn.so.9: cannot open shared object file");
  EXPECT_EQ(error.kind(), ErrorKind::device);
  EXPECT_STREQ(error.what(),
               "--attention is cudnn, and cuDNN cannot be used: libcudnn.so.9: cannot open shared object file; install "
               "cuDNN 9.11 or later (libcudnn.so.9), or use --attention auto");
  const std::string why = why_no_cudnn();
  EXPECT_EQ(why.find('\n'), std::string::npos) << why;
  if (!built_with_cuda()) {
    EXPECT_NE(why.find("this build"), std::string::npos) << why;
  }
  EXPECT_EQ(why, why_no_cudnn()) << "the library is looked for once";
}

TEST(Device, PlansAreHeldAgainstTheLimit) {
  const std::uint64_t gib = std::uint64_t{1} << 30;
  const std::vector<PlannedBuffer> plan = {{"residual", 2 * gib}, {"ids", 1}, {"logits", 3 * gib}, {"weights", gib}};
  EXPECT_EQ(planned_bytes(plan), 6 * gib + 512);
  EXPECT_NO_THROW(require_fits(plan, 6 * gib + 512));
  try {
    require_fits(plan, 6 * gib + 511);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::device);
    EXPECT_EQ(error.problem(),
              "the pass needs 6.00 GiB of device memory (logits 3.00 GiB, residual 2.00 GiB, weights 1.00 GiB), 6.00 "
              "GiB may be used");
  }
  const std::vector<PlannedBuffer> wraps = {{"residual", std::numeric_limits<std::uint64_t>::max() - 1024},
                                            {"logits", 4096}};
  EXPECT_THROW(planned_bytes(wraps), Error);
}

TEST(Device, TheLeastMemoryThatWorksIsSaid) {
  const std::uint64_t gib = std::uint64_t{1} << 30;
  const std::vector<PlannedBuffer> plan = {
      {"keys of a layer", 2 * gib}, {"values of a layer", 2 * gib}, {"ids", 1}, {"weights of a layer", gib}};
  EXPECT_STREQ(
      memory_error(plan, 2 * gib, 1000).what(),
      "the pass needs at least 5.00 GiB of device memory (keys of a layer 2.00 GiB, values of a layer 2.00 GiB, "
      "weights of a layer 1.00 GiB), 2.00 GiB may be used; the smallest --device-memory that works is "
      "5368710632 bytes, of a device with 512 MiB more free; use a shorter context otherwise, or --device cpu");
}

TEST(Device, TheCapAndTheReserve) {
  const std::uint64_t gib = std::uint64_t{1} << 30;
  EXPECT_EQ(usable_bytes(80 * gib, {}), 80 * gib - gib / 2);
  EXPECT_EQ(usable_bytes(80 * gib, 6 * gib), 6 * gib);
  EXPECT_EQ(usable_bytes(4 * gib, 6 * gib), 4 * gib - gib / 2);
  EXPECT_EQ(usable_bytes(gib / 4, {}), 0u);
}

TEST(Device, AMachineWithoutADeviceSaysWhy) {
  const DeviceList list = list_devices();  // never throws
  EXPECT_EQ(list.devices.empty(), !list.why_none.empty());
  EXPECT_TRUE(built_with_cuda() || list.devices.empty());
  RecordProperty("why_none", list.why_none);
  std::printf("devices: %zu %s\n", list.devices.size(), list.why_none.c_str());
}

}  // namespace
}  // namespace ropewalk::verify
