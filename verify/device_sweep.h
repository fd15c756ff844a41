#pragma once

#include <span>

#include "verify/accelerator.h"
#include "verify/device_forward.h"
#include "verify/sweep.h"

// score(), logits() and compare() of sweep.h on a device. Same contracts; values differ from the host's by the rounding
// of --precision. Two runs give the same bits, whatever the memory, the slots or the windows swept together.
namespace ropewalk::verify {

std::vector<std::vector<TokenScore>> device_score(Accelerator& device, const Checkpoint& model,
                                                  std::span<const Window> windows, const SweepOptions& options,
                                                  const DeviceTuning& tuning = {});
LogitsResult device_logits(Accelerator& device, const Checkpoint& model, const Window& window, int last,
                           const SweepOptions& options, const DeviceTuning& tuning = {});
PairResult device_compare(Accelerator& device, const Checkpoint& a, const Checkpoint& b,
                          std::span<const Window> windows, const SweepOptions& options,
                          const DeviceTuning& tuning = {});

}  // namespace ropewalk::verify
