#pragma once

#include <gtest/gtest.h>

#include "lib/simd_targets.h"

#include <hwy/highway.h>

/// Runs `body` once for every instruction set that our kernels are built for and this CPU has, baseline included, with
/// that one forced.
template <class Body>
void for_each_simd_target(const Body& body) {
  const auto targets = hwy::SupportedAndGeneratedTargets();
  ASSERT_GE(targets.size(), 2u) << "only one target: nothing is compared";
  for (const auto target : targets) {
    SCOPED_TRACE(hwy::TargetName(target));
    hwy::SetSupportedTargetsForTest(target);
    body();
  }
  hwy::SetSupportedTargetsForTest(0);
}
