#include "tools/sweep_options.h"

#include <charconv>
#include <ostream>

#include "lib/error.h"
#include "tools/units.h"
#include "verify/device.h"

namespace ropewalk::tools {
namespace {

verify::Precision precision_of(const std::string& text) {
  if (text == "auto") return verify::Precision::automatic;
  if (text == "bf16") return verify::Precision::bf16;
  if (text == "f32") return verify::Precision::f32;
  throw Error(ErrorKind::usage, {}, "--precision is '" + text + "'", "give auto, bf16 or f32");
}

/// "cuda" or "cuda:1"; nullopt for the first.
std::optional<int> index_of(const std::string& text) {
  if (text == "cuda") return std::nullopt;
  int index = -1;
  if (text.starts_with("cuda:")) {
    const auto [end, code] = std::from_chars(text.data() + 5, text.data() + text.size(), index);
    if (code == std::errc() && end == text.data() + text.size() && index >= 0) return index;
  }
  throw Error(ErrorKind::usage, {}, "--device is '" + text + "'", "give auto, cpu, cuda or cuda:INDEX");
}

}  // namespace

void declare_device(CommandLine& line, DeviceChoice& choice) {
  line.group("Device");
  line.option("--device", choice.device, "auto|cpu|cuda[:I]",
              "where to compute (default auto: the CPU; a GPU only when asked for, until its results have been checked "
              "on one: docs/gpu-status.md)");
  line.option("--precision", choice.precision, "auto|bf16|f32",
              "of a GPU (default auto: the stored 16-bit type where activations fit, else bf16). f32 multiplies exact "
              "bf16 terms; the CPU always computes in f32");
  line.bytes_option("--device-memory", choice.memory_bytes, "BYTES",
                    "of the GPU's memory, use at most this much; the same bits come out");
}

void check_device(const DeviceChoice& choice) {
  (void)precision_of(choice.precision);
  const std::string device = choice.device.value_or("auto");
  if (device != "auto" && device != "cpu") (void)index_of(device);
}

SweepDevice choose_device(const DeviceChoice& choice) {
  const verify::Precision precision = precision_of(choice.precision);
  const std::string device = choice.device.value_or("auto");
  const bool is_auto = device == "auto";
  if (device == "cpu" || is_auto) {
    if (precision == verify::Precision::bf16)
      throw Error(ErrorKind::usage, {}, "--precision bf16 is of a GPU, and --device is " + device,
                  "give --device cuda, or leave --precision out: the CPU computes in f32");
    if (choice.memory_bytes)
      throw Error(ErrorKind::usage, {}, "--device-memory is of a GPU, and --device is " + device,
                  "give --device cuda, or leave it out");
    if (!choice.device || !is_auto) return {};
  }
  const std::optional<int> index = is_auto ? std::nullopt : index_of(device);
  const verify::DeviceList found = verify::list_devices();
  const verify::DeviceInfo* chosen = nullptr;
  for (const verify::DeviceInfo& one : found.devices)
    if (!chosen && (!index || one.index == *index)) chosen = &one;
  if (is_auto) {  // a judge whose GPU half never ran on a GPU may not be chosen in silence (docs/gpu-status.md)
    const std::string why =
        chosen ? "cuda:" + std::to_string(chosen->index) + ", " + chosen->name +
                     ", computes when asked for by --device cuda: its results were never checked on a GPU"
               : found.why_none;
    return {.device = {}, .report = {}, .announcement = "device: cpu, in f32 (" + why + ")"};
  }
  if (chosen) {
    return {
        .device =
            verify::DeviceOptions{.index = chosen->index, .precision = precision, .memory_bytes = choice.memory_bytes},
        .report = {},
        .announcement = "device: cuda:" + std::to_string(chosen->index) + ", " + chosen->name};
  }
  if (found.devices.empty())
    throw Error(ErrorKind::device, {}, "--device is " + device + ", and no GPU can be used: " + found.why_none,
                "use --device cpu");
  throw Error(ErrorKind::device, {}, "there is no " + device,
              "the first GPU is cuda:" + std::to_string(found.devices.front().index));
}

verify::SweepOptions sweep_options(const CommonOptions& common, SweepDevice& device, Progress& progress, const Io& io) {
  if (!device.announcement.empty() && !common.quiet) io.err << device.announcement << "\n";
  device.announcement.clear();
  verify::SweepOptions options;
  options.threads = common.threads;
  options.progress = [&progress](int done) { progress.set(static_cast<std::uint64_t>(done)); };
  options.device = device.device;
  options.report = &device.report;
  return options;
}

formats::Json device_json(const SweepDevice& device) {
  if (!device.device) return {{"name", "cpu"}, {"precision", "f32"}};
  return {{"name", device.report.device}, {"precision", device.report.precision}};
}

std::string on_device(const SweepDevice& device) {
  return device.device ? "; on " + device.report.device + ", " + device.report.precision : std::string();
}

void tell_sweep(const SweepDevice& device, const CommonOptions& common, const Io& io) {
  const verify::SweepReport& r = device.report;
  if (!device.device || common.quiet || r.device.empty()) return;
  io.err << r.device << ", " << r.precision << ": " << fixed_text(r.seconds, 2) << " s; " << bytes_text(r.weight_bytes)
         << " of weights, not hidden under compute: " << fixed_text(r.wait_seconds, 2) << " s and "
         << fixed_text(r.first_wait_seconds, 2) << " s for the first layer; " << bytes_text(r.device_bytes)
         << " of device memory, " << r.slots << " layers at once, chunks of " << r.chunk_rows << " tokens"
         << (r.spilled ? ", hidden states in host memory" : "") << (r.note.empty() ? "" : "; " + r.note) << "\n";
}

}  // namespace ropewalk::tools
