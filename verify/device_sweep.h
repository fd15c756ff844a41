#pragma once

#include <span>

#include "verify/accelerator.h"
#include "verify/device_forward.h"
#include "verify/device_group.h"
#include "verify/endings.h"
#include "verify/sweep.h"

// score(), logits() and compare() of sweep.h on a device. Same contracts; values differ from the host's by the rounding
// of --precision. Two runs give the same bits, whatever the memory, the slots, the windows swept
// together or the devices that share them.
namespace ropewalk::verify {

/// score_endings() of endings.h.
std::vector<EndedScore> device_score_endings(const Devices& devices, const Checkpoint& model,
                                             std::span<const Window> windows,
                                             std::span<const std::vector<std::int32_t>> endings,
                                             const SweepOptions& options, const DeviceTuning& tuning = {});
std::vector<std::vector<TokenScore>> device_score(const Devices& devices, const Checkpoint& model,
                                                  std::span<const Window> windows, const SweepOptions& options,
                                                  const DeviceTuning& tuning = {});
LogitsResult device_logits(const Devices& devices, const Checkpoint& model, const Window& window, int last,
                           const SweepOptions& options, const DeviceTuning& tuning = {});
PairResult device_compare(const Devices& devices, const Checkpoint& a, const Checkpoint& b,
                          std::span<const Window> windows, const SweepOptions& options,
                          const DeviceTuning& tuning = {});

}  // namespace ropewalk::verify
