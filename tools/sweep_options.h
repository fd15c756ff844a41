#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tools/common_options.h"
#include "tools/progress.h"
#include "verify/device.h"
#include "verify/sweep.h"
#include "verify/sweep_journal.h"

namespace ropewalk::tools {

/// Where a sweep runs, as asked for.
struct DeviceChoice {
  std::optional<std::string> device;  // nullopt: not given, which means auto without a word about it
  std::string precision = "auto";
  std::string attention = "auto";
  std::optional<std::uint64_t> memory_bytes;
};
/// --device, --precision, --attention, --device-memory.
void declare_device(CommandLine& line, DeviceChoice& choice);

/// Where sweeps of a command that is killed leave what they have.
struct KeptSweeps {
  std::optional<std::string> file;  // nullopt: nowhere
  int every_seconds = 60;
};
/// --checkpoint, --checkpoint-every.
void declare_kept_sweeps(CommandLine& line, KeptSweeps& options);

/// Where sweeps of a command run: chosen once, before any byte is read.
struct SweepDevice {
  std::optional<verify::DeviceOptions> device;  // nullopt: the host
  verify::SweepReport report;                   // of the last sweep
  std::vector<verify::SweepReport> sweeps;      // of all, as tell_sweep() was told of them
  verify::KnownRounding rounding = {};          // of the models swept so far
  std::string announcement;                     // said on standard error when the first sweep begins; empty: nothing
  std::unique_ptr<verify::SweepJournal> journal = {};  // of --checkpoint
};
/// Has what `device` sweeps kept as `options` say, and goes on from what is there. Error(usage) for a GPU.
void keep_sweeps(const KeptSweeps& options, const CommonOptions& common, SweepDevice& device, const Io& io);
/// The command is done and its results are out: nothing is left to go on with.
void forget_sweeps(SweepDevice& device);
/// auto: the CPU, until the GPU's results have been checked on one; which GPU that passes over is looked up and said only
/// where auto was asked for. Error(usage) for what cannot be read or does not go with the CPU, Error(device) for a GPU
/// that is not there.
SweepDevice choose_device(const DeviceChoice& choice);
/// Its Error(usage) for words that mean nothing, for where nothing will be computed.
void check_device(const DeviceChoice& choice);

/// Options of a sweep that reports its layers to `progress`, and how it went to `device`, which outlives them. The
/// first says on standard error where sweeps run, unless quiet.
verify::SweepOptions sweep_options(const CommonOptions& common, SweepDevice& device, Progress& progress, const Io& io);

/// {"name", "precision", "sweeps"}: "cpu", "f32" and none, or what the reports say.
formats::Json device_json(const SweepDevice& device);
/// "; on NVIDIA H200, cuBLASLt 13.0.2, bf16" for tables; empty for the CPU.
std::string on_device(const SweepDevice& device);
/// After each sweep: keeps its report, and tells on one line of standard error what it took, on a GPU and unless quiet.
void tell_sweep(SweepDevice& device, const CommonOptions& common, const Io& io);
/// That line: time, weights and how long compute stood still for them, memory, what rounding them to 16 bits changed.
std::string sweep_line(const verify::SweepReport& report);
formats::Json sweep_json(const verify::SweepReport& report);
/// GPUs that "cuda", "cuda:I[,I]..." or "cuda:all" names, of those there are. Error(usage) for other words and for one
/// named twice, Error(device) for what is not there and for GPUs of different make: which of them computed a window would
/// show in its bits.
std::vector<verify::DeviceInfo> named_devices(const std::string& text, const verify::DeviceList& found);

}  // namespace ropewalk::tools
