#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "lib/model_config.h"
#include "verify/accelerator.h"
#include "verify/sweep.h"

// Several devices of one machine in one sweep. Each takes whole windows through all layers on its own; what passes
// between them is here, in weight_stream.h and in device_sweep.cpp's gathering of results, nowhere else: windows and
// weights on their way out, errors and progress while they run, rows of statistics on their way back.
namespace ropewalk::verify {

/// The devices of a sweep; they outlive it.
class Devices {
 public:
  Devices(Accelerator& one) : all_{&one} {}  // implicit: a device is a group of one
  explicit Devices(std::vector<Accelerator*> all) : all_(std::move(all)) {}

  std::size_t size() const noexcept { return all_.size(); }
  Accelerator& operator[](std::size_t index) const noexcept { return *all_[index]; }

 private:
  std::vector<Accelerator*> all_;
};

/// The devices that `options` ask for, as many as have a window each.
class OpenDevices {
 public:
  OpenDevices(const DeviceOptions& options, std::size_t windows);
  Devices all() const;

 private:
  std::vector<std::unique_ptr<Accelerator>> open_;
};

/// Which windows each device takes: [device][...], indices in ascending order. The costliest first, each to the device
/// with the least to do (the first of equals); cost is that of linear layers and attention. No device without windows
/// is among them.
std::vector<std::vector<std::size_t>> assign_windows(const ModelConfig& config, std::span<const std::size_t> lengths,
                                                     std::size_t devices);

/// What the devices of one sweep tell each other while they run.
class DeviceGroup {
 public:
  DeviceGroup(std::size_t devices, const std::function<void(int)>& progress);

  /// Runs body(device) for every device, each on a thread of its own (a single one on the caller's). When one throws,
  /// the others stop at their next layer; after all have ended the exception of the lowest device that threw on its own
  /// account is rethrown. An Error(device) names the device if the group has several. Error(io), and no body has begun, if
  /// the system does not give all threads.
  void run(const Devices& devices, const std::function<void(std::size_t device)>& body);

  /// Called by a device between layers: passes on what all have done at least, and ends this device if another failed.
  void finished_layers(std::size_t device, int layers);
  void stop_if_failed() const;

 private:
  struct Stopped {};
  std::atomic<bool> failed_ = false;
  std::mutex mutex_;
  std::vector<int> done_;
  int told_ = -1;
  const std::function<void(int)>& progress_;
};

}  // namespace ropewalk::verify
