#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "lib/error.h"

namespace ropewalk::verify {

/// Memory of the device: a type of its own, so that no host pointer slips in.
template <class T>
struct DeviceSpan {
  T* data = nullptr;
  std::size_t size = 0;  // elements

  /// To a view that may only be read.
  template <class U>
  requires(!std::is_same_v<U, T> && std::is_same_v<U, const T>) operator DeviceSpan<U>() const noexcept {
    return {data, size};
  }
  DeviceSpan subspan(std::size_t first, std::size_t count) const noexcept { return {data + first, count}; }
};

/// Windows of at least so many tokens are cuDNN's under AttentionBy::automatic, shorter ones our own kernel's. By what is
/// published of kernels such as ours and of cuDNN's (300 and 600 TFLOP/s), a window of 4096 tokens of a 7B saves 8 ms,
/// one of 2048 a quarter of that; compiling takes 500.
inline constexpr std::uint64_t kFewestCudnnPositions = 4096;
/// Oldest cuDNN that is asked, in its own numbers: 9.11 (9.10's attention is known to be wrong; older ones refuse
/// chunks). CMake reads it here.
inline constexpr std::uint64_t kOldestCudnn = 91100;

/// Who computes attention on a device. automatic: cuDNN where it is there, takes the shape and the window is long enough
/// to be worth it, else our own kernels. cudnn: an error where it does not.
enum class AttentionBy : std::uint8_t { automatic, cudnn, own };

struct DeviceInfo {
  int index = 0;     // as in cuda:INDEX
  std::string name;  // "NVIDIA H200"
};

/// Whether this build holds GPU code at all (ROPEWALK_CUDA).
bool built_with_cuda() noexcept;

/// The devices that can run this build (compute capability 8.0 or later), and why there is none: "this build has no GPU
/// code (ROPEWALK_CUDA)", the driver's own words.
/// Never throws for a missing driver or device.
struct DeviceList {
  std::vector<DeviceInfo> devices;
  std::string why_none;
};
DeviceList list_devices();

/// One operation queued on a device: what an error there is reported as.
struct DeviceOp {
  std::string name;                  // "rms_norm"
  std::optional<int> layer;          // nullopt: outside the layers
  std::vector<std::uint64_t> shape;  // outermost first
};
/// "rms_norm, layer 3, [4096, 2048]".
std::string describe(const DeviceOp& op);

/// Error(device): "<op>: <what the runtime said> (<its name for it>); <what to do>". What to do depends on the error:
/// memory, driver, a bug of ours.
Error device_error(const DeviceOp& op, const std::string& error_name, const std::string& error_text);

/// A buffer that a plan counts on.
struct PlannedBuffer {
  std::string what;  // "residual", "keys and values of a layer"
  std::uint64_t bytes = 0;
};
/// Sum with each rounded up as the allocator does (512 bytes). Error(device) if it does not fit in 64 bits.
std::uint64_t planned_bytes(std::span<const PlannedBuffer> plan);
/// Out of memory is planned for, not met: Error(device) naming the largest buffers if `plan` needs more than `limit`
/// bytes.
void require_fits(std::span<const PlannedBuffer> plan, std::uint64_t limit);
/// The Error of a pass of which `plan` is the least that works and is more than `limit`: names the largest buffers and
/// the smallest --device-memory that works, `held` bytes of which are taken already (libraries' workspaces).
Error memory_error(std::span<const PlannedBuffer> plan, std::uint64_t limit, std::uint64_t held);

/// What a sweep may allocate on a device with `free` bytes left: the cap of --device-memory if there is one, and always
/// less what the runtime, cuBLAS and cuDNN load later (512 MiB).
std::uint64_t usable_bytes(std::uint64_t free, std::optional<std::uint64_t> cap);

}  // namespace ropewalk::verify
