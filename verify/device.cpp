#include "verify/device.h"

#include <algorithm>
#include <cstdio>

#include "verify/accelerator.h"

namespace ropewalk::verify {
namespace {

std::string in_gib(std::uint64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f GiB", double(bytes) / double(std::uint64_t{1} << 30));
  return text;
}

/// The three largest, with their sizes.
std::string largest_of(std::span<const PlannedBuffer> plan) {
  std::vector<PlannedBuffer> largest(plan.begin(), plan.end());
  std::ranges::stable_sort(largest, std::greater{}, &PlannedBuffer::bytes);
  std::string parts;
  for (std::size_t i = 0; i < std::min<std::size_t>(3, largest.size()); ++i)
    parts += (i > 0 ? ", " : "") + largest[i].what + " " + in_gib(largest[i].bytes);
  return parts;
}

const char* fix_for(const std::string& error_name) {
  if (error_name == "cudaErrorMemoryAllocation") return "free memory on the device or lower --device-memory";
  if (error_name == "cudaErrorInsufficientDriver" || error_name == "cudaErrorSystemDriverMismatch")
    return "install a newer NVIDIA driver, or use --device cpu";
  if (error_name == "cudaErrorNoDevice" || error_name == "cudaErrorInvalidDevice" ||
      error_name == "cudaErrorDevicesUnavailable")
    return "name a device that nvidia-smi lists, or use --device cpu";
  if (error_name == "cudaErrorNoKernelImageForDevice" || error_name == "cudaErrorUnsupportedPtxVersion")
    return "build ropewalk for this device (CMAKE_CUDA_ARCHITECTURES), or use --device cpu";
  if (error_name == "cudaErrorECCUncorrectable" || error_name == "cudaErrorHardwareStackError")
    return "the device reports a hardware fault: use another one";
  return "this is a bug in ropewalk or its driver: please report it with this line, and use --device cpu meanwhile";
}

}  // namespace

std::string describe(const DeviceOp& op) {
  std::string out = op.name;
  if (op.layer) out += ", layer " + std::to_string(*op.layer);
  if (op.shape.empty()) return out;
  out += ", [";
  for (std::size_t axis = 0; axis < op.shape.size(); ++axis)
    out += (axis > 0 ? ", " : "") + std::to_string(op.shape[axis]);
  return out + "]";
}

Error device_error(const DeviceOp& op, const std::string& error_name, const std::string& error_text) {
  return Error(ErrorKind::device, {}, describe(op) + ": " + error_text + " (" + error_name + ")", fix_for(error_name));
}

std::uint64_t planned_bytes(std::span<const PlannedBuffer> plan) {
  constexpr std::uint64_t kGranule = 512;
  std::uint64_t total = 0;
  for (const PlannedBuffer& buffer : plan) {
    std::uint64_t rounded;
    if (__builtin_add_overflow(buffer.bytes, kGranule - 1, &rounded) ||
        __builtin_add_overflow(total, rounded / kGranule * kGranule, &total))
      throw Error(ErrorKind::device, {}, buffer.what + " and what comes before it take more than 2^64 bytes",
                  "use a shorter context or fewer windows at once");
  }
  return total;
}

void require_fits(std::span<const PlannedBuffer> plan, std::uint64_t limit) {
  const std::uint64_t needed = planned_bytes(plan);
  if (needed <= limit) return;
  throw Error(ErrorKind::device, {},
              "the pass needs " + in_gib(needed) + " of device memory (" + largest_of(plan) + "), " + in_gib(limit) +
                  " may be used",
              "raise --device-memory, free memory on the device, use a shorter context, or --device cpu");
}

Error memory_error(std::span<const PlannedBuffer> plan, std::uint64_t limit, std::uint64_t held) {
  const std::uint64_t needed = planned_bytes(plan);
  return Error(ErrorKind::device, {},
               "the pass needs at least " + in_gib(needed) + " of device memory (" + largest_of(plan) + "), " +
                   in_gib(limit) + " may be used",
               "the smallest --device-memory that works is " + std::to_string(needed + held) +
                   " bytes, of a device with 512 MiB more free; use a shorter context otherwise, or --device cpu");
}

std::uint64_t usable_bytes(std::uint64_t free, std::optional<std::uint64_t> cap) {
  constexpr std::uint64_t kReserve = std::uint64_t{512} << 20;
  const std::uint64_t left = free > kReserve ? free - kReserve : 0;
  return cap ? std::min(*cap, left) : left;
}

Error no_cudnn(const std::string& why) {
  return Error(ErrorKind::device, {}, "--attention is cudnn, and cuDNN cannot be used: " + why,
               "install cuDNN " + std::to_string(kOldestCudnn / 10000) + "." +
                   std::to_string(kOldestCudnn / 100 % 100) + " or later (libcudnn.so.9), or use --attention auto");
}

#if !ROPEWALK_HAVE_CUDA
std::string why_no_cudnn() { return "this build has no GPU code (it was configured without a CUDA compiler)"; }
bool built_with_cuda() noexcept { return false; }
DeviceList list_devices() { return {{}, "this build has no GPU code (it was configured without a CUDA compiler)"}; }
std::unique_ptr<Accelerator> open_device(std::optional<int>, std::optional<std::uint64_t>, AttentionBy) {
  throw Error(ErrorKind::device, {}, list_devices().why_none, "build with a CUDA compiler, or use --device cpu");
}
#endif

}  // namespace ropewalk::verify
