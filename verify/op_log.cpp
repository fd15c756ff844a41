#include "verify/op_log.h"

namespace ropewalk::verify {
namespace {

constexpr std::size_t kKept = 4096;  // more than are ever in flight between two synchronisations that matter

}  // namespace

std::uint64_t OpLog::note(DeviceOp op) {
  last_ = op;
  ops_.push_back(std::move(op));
  if (ops_.size() > kKept) ops_.pop_front();
  return ++noted_;
}

std::optional<DeviceOp> OpLog::first_unfinished(std::uint64_t finished) const {
  if (ops_.empty() || finished >= noted_) return std::nullopt;
  const std::uint64_t forgotten = noted_ - ops_.size();
  return ops_[finished > forgotten ? finished - forgotten : 0];
}

DeviceOp operation_at_fault(std::span<const std::optional<DeviceOp>> first_unfinished,
                            const std::optional<DeviceOp>& last) {
  std::vector<DeviceOp> suspects;
  for (const std::optional<DeviceOp>& op : first_unfinished)
    if (op) suspects.push_back(*op);
  if (suspects.empty()) return last.value_or(DeviceOp{"a device operation", {}, {}});
  if (suspects.size() == 1) return suspects.front();
  DeviceOp all;
  for (const DeviceOp& op : suspects) all.name += (all.name.empty() ? "" : " or ") + describe(op);
  return all;
}

}  // namespace ropewalk::verify
