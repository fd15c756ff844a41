#pragma once

#include <hwy/targets.h>

#include <cstdint>
#include <string>
#include <vector>

namespace ropewalk::verify {

struct SimdTarget {
  std::int64_t mask;
  std::string name;
};

/// The targets verify is compiled for that this machine can run, best first.
inline std::vector<SimdTarget> simd_targets() {
  std::vector<SimdTarget> out;
  for (const std::int64_t mask : {std::int64_t{HWY_AVX3}, std::int64_t{HWY_AVX2}, std::int64_t{HWY_SCALAR}})
    if (hwy::SupportedTargets() & mask) out.push_back({mask, hwy::TargetName(mask)});
  return out;
}

/// While it lives, dynamic dispatch takes this target.
class ForcedTarget {
 public:
  explicit ForcedTarget(const SimdTarget& target) {
    hwy::SetSupportedTargetsForTest(target.mask);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  }
  ~ForcedTarget() {
    hwy::SetSupportedTargetsForTest(0);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  }
  ForcedTarget(const ForcedTarget&) = delete;
  ForcedTarget& operator=(const ForcedTarget&) = delete;
};

}  // namespace ropewalk::verify
