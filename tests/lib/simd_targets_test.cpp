#include <algorithm>
#include <cstdio>
#include <set>
#include <string>

#include "tests/lib/each_simd_target.h"

namespace {

std::string names(const std::set<std::int64_t>& targets) {
  std::string all;
  for (const std::int64_t target : targets) all += std::string(all.empty() ? "" : " ") + hwy::TargetName(target);
  return all.empty() ? "none" : all;
}

// What for_each_simd_target() forces here, and what the kernels are compiled for and this CPU lacks: printed, so that a
// record of a run says which bodies it did not see.
TEST(SimdTargets, CompiledAndRunHere) {
  std::set<std::int64_t> compiled, ran;
  for (std::uint64_t bit = 0; bit < 63; ++bit)
    if ((HWY_TARGETS >> bit & 1) != 0) compiled.insert(std::int64_t{1} << bit);
  for_each_simd_target([&] {
    const std::int64_t forced = hwy::SupportedTargets();
    for (const std::int64_t target : compiled)
      if ((forced & target) != 0) ran.insert(target);
  });
  std::set<std::int64_t> left;
  std::set_difference(compiled.begin(), compiled.end(), ran.begin(), ran.end(), std::inserter(left, left.end()));
  std::printf("SIMD targets run: %s\nSIMD targets compiled, not run (this CPU lacks them): %s\n", names(ran).c_str(),
              names(left).c_str());
  RecordProperty("run", names(ran));
  RecordProperty("not_run", names(left));
  EXPECT_TRUE(std::includes(compiled.begin(), compiled.end(), ran.begin(), ran.end()));
  EXPECT_GE(ran.size(), 2u);
  EXPECT_EQ(compiled.size(), ran.size() + left.size());
  EXPECT_EQ(hwy::SupportedTargets() & HWY_TARGETS, [&] {
    std::int64_t all = 0;
    for (const std::int64_t target : ran) all |= target;
    return all;
  }()) << "a target that this CPU has was not forced";
}

}  // namespace
