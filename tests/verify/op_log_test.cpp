// Which operation an error of a device is told as.
#include "verify/op_log.h"

#include <gtest/gtest.h>

namespace ropewalk::verify {
namespace {

TEST(OpLog, NamesTheFirstThatIsNotDone) {
  OpLog log;
  EXPECT_FALSE(log.first_unfinished(0));
  EXPECT_EQ(log.note({"rms_norm", 3, {4096, 2048}}), 1u);
  EXPECT_EQ(log.note({"gemm", 3, {4096, 2048, 6144}}), 2u);
  EXPECT_EQ(describe(*log.first_unfinished(0)), "rms_norm, layer 3, [4096, 2048]");
  EXPECT_EQ(describe(*log.first_unfinished(1)), "gemm, layer 3, [4096, 2048, 6144]");
  EXPECT_FALSE(log.first_unfinished(2));
  log.all_done();
  EXPECT_FALSE(log.first_unfinished(0)) << "a wait came back well";
  EXPECT_EQ(log.note({"swiglu", 4, {1}}), 3u);
  EXPECT_EQ(log.first_unfinished(2)->name, "swiglu");
}

TEST(OpLog, ForgetsTheOldestAndThenNamesTheOldestItKnows) {
  OpLog log;
  for (std::uint64_t i = 1; i <= 10000; ++i) EXPECT_EQ(log.note({"op", int(i), {i}}), i);
  EXPECT_EQ(*log.first_unfinished(9998)->layer, 9999);
  EXPECT_EQ(*log.first_unfinished(9999)->layer, 10000);
  const int oldest = *log.first_unfinished(0)->layer;
  EXPECT_GT(oldest, 1);
  EXPECT_EQ(*log.first_unfinished(std::uint64_t(oldest) - 1)->layer, oldest);
  EXPECT_EQ(*log.first_unfinished(std::uint64_t(oldest))->layer, oldest + 1);
}

TEST(OpLog, AnErrorFoundOnOneQueueMayBeAnothers) {
  using Ops = std::vector<std::optional<DeviceOp>>;
  const DeviceOp norm{"rms_norm", 3, {4096, 2048}}, copy{"copying to the device", 4, {1 << 24}};
  EXPECT_EQ(describe(operation_at_fault(Ops{std::nullopt, norm}, copy)), "rms_norm, layer 3, [4096, 2048]")
      << "found by the copy queue, whose own work is done";
  EXPECT_EQ(describe(operation_at_fault(Ops{norm, std::nullopt}, norm)), "rms_norm, layer 3, [4096, 2048]");
  EXPECT_EQ(describe(operation_at_fault(Ops{norm, copy}, copy)),
            "rms_norm, layer 3, [4096, 2048] or copying to the device, layer 4, [16777216]");
  EXPECT_EQ(describe(operation_at_fault(Ops{std::nullopt, std::nullopt}, copy)), describe(copy));
  EXPECT_EQ(describe(operation_at_fault({}, std::nullopt)), "a device operation");
}

}  // namespace
}  // namespace ropewalk::verify
