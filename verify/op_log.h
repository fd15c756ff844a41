#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <vector>

#include "verify/device.h"

namespace ropewalk::verify {

/// What was queued on one queue of a device, so that an error, which a device tells at some later call of any kind, can
/// be told as the operation it belongs to. Keeps the last few thousand.
class OpLog {
 public:
  /// Its number: the first is 1.
  std::uint64_t note(DeviceOp op);
  /// Everything queued so far is done.
  void all_done() { ops_.clear(); }

  const std::optional<DeviceOp>& last() const noexcept { return last_; }
  /// The first operation past the `finished` that are done; nullopt: all are.
  std::optional<DeviceOp> first_unfinished(std::uint64_t finished) const;

 private:
  std::uint64_t noted_ = 0;   // ever
  std::deque<DeviceOp> ops_;  // the last of them; the oldest is number noted_ - ops_.size() + 1
  std::optional<DeviceOp> last_;
};

/// The operation to name for an error found on one of several queues: the one that was first in line and not done. Where
/// several queues have one, any of them may be at fault: all are named. None: `last`, what was queued last.
DeviceOp operation_at_fault(std::span<const std::optional<DeviceOp>> first_unfinished,
                            const std::optional<DeviceOp>& last);

}  // namespace ropewalk::verify
