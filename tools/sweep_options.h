#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "tools/common_options.h"
#include "tools/progress.h"
#include "verify/sweep.h"

namespace ropewalk::tools {

/// Where a sweep runs, as asked for.
struct DeviceChoice {
  std::optional<std::string> device;  // nullopt: not given, which means auto without a word about it
  std::string precision = "auto";
  std::optional<std::uint64_t> memory_bytes;
};
/// --device, --precision, --device-memory.
void declare_device(CommandLine& line, DeviceChoice& choice);

/// Where sweeps of a command run: chosen once, before any byte is read.
struct SweepDevice {
  std::optional<verify::DeviceOptions> device;  // nullopt: the host
  verify::SweepReport report;                   // of the last sweep
  std::string announcement;                     // said on standard error when the first sweep begins; empty: nothing
};
/// auto: the CPU, until the GPU's results have been checked on one; which GPU that passes over is looked up and said only
/// where auto was asked for. Error(usage) for what cannot be read or does not go with the CPU, Error(device) for a GPU
/// that is not there.
SweepDevice choose_device(const DeviceChoice& choice);
/// Its Error(usage) for words that mean nothing, for where nothing will be computed.
void check_device(const DeviceChoice& choice);

/// Options of a sweep that reports its layers to `progress`, and how it went to `device`, which outlives them. The
/// first says on standard error where sweeps run, unless quiet.
verify::SweepOptions sweep_options(const CommonOptions& common, SweepDevice& device, Progress& progress, const Io& io);

/// {"name", "precision"}: "cpu" and "f32", or what the report says.
formats::Json device_json(const SweepDevice& device);
/// "; on NVIDIA H200, cuBLASLt 13.0.2, bf16" for tables; empty for the CPU.
std::string on_device(const SweepDevice& device);
/// One line on standard error of what the last sweep took, on a GPU and unless quiet.
void tell_sweep(const SweepDevice& device, const CommonOptions& common, const Io& io);

}  // namespace ropewalk::tools
