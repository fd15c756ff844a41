#include "tools/sweep_options.h"

#include <algorithm>
#include <charconv>
#include <ostream>

#include "lib/error.h"
#include "lib/number_text.h"
#include "tools/units.h"
#include "verify/accelerator.h"
#include "verify/device.h"

namespace ropewalk::tools {
namespace {

verify::Precision precision_of(const std::string& text) {
  if (text == "auto") return verify::Precision::automatic;
  if (text == "bf16") return verify::Precision::bf16;
  if (text == "f32") return verify::Precision::f32;
  throw Error(ErrorKind::usage, {}, "--precision is '" + text + "'", "give auto, bf16 or f32");
}

verify::AttentionBy attention_of(const std::string& text) {
  if (text == "auto") return verify::AttentionBy::automatic;
  if (text == "cudnn") return verify::AttentionBy::cudnn;
  if (text == "own") return verify::AttentionBy::own;
  throw Error(ErrorKind::usage, {}, "--attention is '" + text + "'", "give auto, cudnn or own");
}

/// The indices of "cuda:I[,I]...", none for "cuda", nullopt for "cuda:all". Error(usage) for anything else.
std::optional<std::vector<int>> indices_of(const std::string& text) {
  const auto refuse = [&](const std::string& problem) {
    throw Error(ErrorKind::usage, {}, "--device is '" + text + "'" + problem,
                "give auto, cpu, cuda, cuda:INDEX[,INDEX]... or cuda:all");
  };
  if (text == "cuda") return std::vector<int>{};
  if (text == "cuda:all") return std::nullopt;
  if (!text.starts_with("cuda:")) refuse("");
  std::vector<int> indices;
  for (const std::string& part : split_list(std::string_view(text).substr(5), ',')) {
    int index = -1;
    const auto [end, code] = std::from_chars(part.data(), part.data() + part.size(), index);
    if (code != std::errc() || end != part.data() + part.size() || index < 0) refuse("");
    if (std::ranges::find(indices, index) != indices.end()) refuse(", which names one GPU twice");
    indices.push_back(index);
  }
  return indices;
}

std::string name_of(const verify::DeviceInfo& device) {
  return "cuda:" + std::to_string(device.index) + ", " + device.name;
}

/// "cuda:0, NVIDIA H200", or "cuda:0 and cuda:1, 2 x NVIDIA H200".
std::string names_of(const std::vector<verify::DeviceInfo>& devices) {
  if (devices.size() == 1) return name_of(devices.front());
  std::string indices;
  for (std::size_t i = 0; i < devices.size(); ++i)
    indices += (i == 0 ? "" : i + 1 == devices.size() ? " and " : ", ") + ("cuda:" + std::to_string(devices[i].index));
  return indices + ", " + std::to_string(devices.size()) + " x " + devices.front().name;
}

}  // namespace

void declare_device(CommandLine& line, DeviceChoice& choice) {
  line.group("Device");
  line.option("--device", choice.device, "auto|cpu|cuda[:I,...]",
              "where to compute (default auto: the CPU; a GPU only when asked for, until its results have been checked "
              "on one: docs/gpu-status.md). cuda:0,1 or cuda:all: windows in parallel, the same bits as one");
  line.option("--precision", choice.precision, "auto|bf16|f32",
              "of a GPU (default auto: the stored 16-bit type where activations fit, else bf16). f32 multiplies exact "
              "bf16 terms; the CPU always computes in f32");
  line.option(
      "--attention", choice.attention, "auto|cudnn|own",
      "of a GPU, who computes it (default auto: cuDNN where it is installed and takes the shape, for windows of " +
          std::to_string(verify::kFewestCudnnPositions) + " tokens and more; else ropewalk's own kernel)");
  line.bytes_option("--device-memory", choice.memory_bytes, "BYTES",
                    "of each GPU's memory, use at most this much; the same bits come out");
}

void check_device(const DeviceChoice& choice) {
  (void)precision_of(choice.precision);
  (void)attention_of(choice.attention);
  const std::string device = choice.device.value_or("auto");
  if (device != "auto" && device != "cpu") (void)indices_of(device);
}

SweepDevice choose_device(const DeviceChoice& choice) {
  const verify::Precision precision = precision_of(choice.precision);
  const verify::AttentionBy attention = attention_of(choice.attention);
  const std::string device = choice.device.value_or("auto");
  const bool is_auto = device == "auto";
  if (device == "cpu" || is_auto) {
    if (precision == verify::Precision::bf16)
      throw Error(ErrorKind::usage, {}, "--precision bf16 is of a GPU, and --device is " + device,
                  "give --device cuda, or leave --precision out: the CPU computes in f32");
    if (attention != verify::AttentionBy::automatic)
      throw Error(ErrorKind::usage, {}, "--attention is of a GPU, and --device is " + device,
                  "give --device cuda, or leave it out");
    if (choice.memory_bytes)
      throw Error(ErrorKind::usage, {}, "--device-memory is of a GPU, and --device is " + device,
                  "give --device cuda, or leave it out");
    if (!choice.device || !is_auto) return {};
  }
  if (!is_auto) (void)indices_of(device);
  if (attention == verify::AttentionBy::cudnn && precision == verify::Precision::f32)
    throw Error(ErrorKind::usage, {}, "--attention cudnn computes in 16 bits, and --precision is f32",
                "leave one of them out");
  const verify::DeviceList found = verify::list_devices();
  if (is_auto) {  // a judge whose GPU half never ran on a GPU may not be chosen in silence (docs/gpu-status.md)
    const std::string why =
        found.devices.empty()
            ? found.why_none
            : name_of(found.devices.front()) +
                  ", computes when asked for by --device cuda: its results were never checked on a GPU";
    return {.device = {}, .report = {}, .sweeps = {}, .announcement = "device: cpu, in f32 (" + why + ")"};
  }
  const std::vector<verify::DeviceInfo> chosen = named_devices(device, found);
  if (attention == verify::AttentionBy::cudnn)  // before any byte of a model is read
    if (const std::string why = verify::why_no_cudnn(); !why.empty()) throw verify::no_cudnn(why);
  verify::DeviceOptions options{
      .indices = {}, .precision = precision, .memory_bytes = choice.memory_bytes, .attention = attention};
  for (const verify::DeviceInfo& one : chosen) options.indices.push_back(one.index);
  return {.device = std::move(options), .report = {}, .sweeps = {}, .announcement = "device: " + names_of(chosen)};
}

std::vector<verify::DeviceInfo> named_devices(const std::string& text, const verify::DeviceList& found) {
  const std::optional<std::vector<int>> indices = indices_of(text);
  if (found.devices.empty())
    throw Error(ErrorKind::device, {}, "--device is " + text + ", and no GPU can be used: " + found.why_none,
                "use --device cpu");
  std::vector<verify::DeviceInfo> chosen;
  if (!indices) chosen = found.devices;
  else if (indices->empty()) chosen = {found.devices.front()};
  else
    for (const int index : *indices) {
      const auto one = std::ranges::find(found.devices, index, &verify::DeviceInfo::index);
      if (one == found.devices.end())
        throw Error(ErrorKind::device, {},
                    "there is no cuda:" + std::to_string(index) + (indices->size() > 1 ? " as in " + text : ""),
                    "the first GPU is cuda:" + std::to_string(found.devices.front().index));
      chosen.push_back(*one);
    }
  for (const verify::DeviceInfo& one : chosen)
    if (one.name != chosen.front().name)
      throw Error(ErrorKind::device, {},
                  "--device is " + text + ", but " + name_of(one) + ", and " + name_of(chosen.front()) +
                      ", are of different make: a window's bits would depend on which computed it",
                  "name GPUs of one make");
  return chosen;
}

void declare_kept_sweeps(CommandLine& line, KeptSweeps& options) {
  line.group("Going on after a kill", false);
  line.option("--checkpoint", options.file, {"FILE", Role::keeps},
              "keep how far the work has come in FILE now and then: the same command, run again after a kill, goes on "
              "from there, to the same bytes. The file goes when the command is done");
  line.option("--checkpoint-every", options.every_seconds, 0, 86'400, "S",
              "seconds between two writes of it (default 60), each after a layer; 0: after every layer");
}

void keep_sweeps(const KeptSweeps& options, const CommonOptions& common, SweepDevice& device, const Io& io) {
  if (!options.file) return;
  if (device.device)
    throw Error(ErrorKind::usage, {}, "--checkpoint keeps what the CPU computes, and --device names a GPU",
                "leave one of them out");
  check_file_target(*options.file, true);
  refuse_model_file(*options.file);
  device.journal = std::make_unique<verify::SweepJournal>(
      verify::SweepJournal::Options{.file = *options.file,
                                    .every = std::chrono::seconds(options.every_seconds),
                                    .overwrite = common.overwrite,
                                    .threads = common.threads,
                                    .release = ROPEWALK_VERSION,
                                    .say = [&common, &io](const std::string& line) {
                                      if (!common.quiet) io.err << line << "\n";
                                    }});
}

void forget_sweeps(SweepDevice& device) {
  if (device.journal) device.journal->remove();
}

verify::SweepOptions sweep_options(const CommonOptions& common, SweepDevice& device, Progress& progress, const Io& io) {
  if (!device.announcement.empty() && !common.quiet) io.err << device.announcement << "\n";
  device.announcement.clear();
  verify::SweepOptions options;
  options.threads = common.threads;
  options.progress = [&progress](int done) { progress.set(static_cast<std::uint64_t>(done)); };
  options.device = device.device;
  options.report = &device.report, options.known = &device.rounding;
  options.journal = device.journal.get();
  return options;
}

formats::Json sweep_json(const verify::SweepReport& r) {
  Json rounding = Json::array();
  for (const verify::WeightRounding& model : r.rounding)
    rounding.push_back({{"max", model.largest}, {"rms", model.rms}});
  return {{"precision", r.precision},
          {"attention", r.attention},
          {"devices", r.devices},
          {"seconds", r.seconds},
          {"first_wait_seconds", r.first_wait_seconds},
          {"wait_seconds", r.wait_seconds},
          {"weight_bytes", r.weight_bytes},
          {"device_bytes", r.device_bytes},
          {"layers_at_once", r.slots},
          {"chunk_tokens", r.chunk_rows},
          {"spilled", r.spilled},
          {"head_pieces", r.head_pieces},
          {"kv_groups", r.kv_groups},
          {"weight_rounding", std::move(rounding)},
          {"note", r.note.empty() ? Json(nullptr) : Json(r.note)}};
}

Json device_json(const SweepDevice& device) {
  if (!device.device) return {{"name", "cpu"}, {"precision", "f32"}, {"sweeps", Json::array()}};
  Json sweeps = Json::array();
  for (const verify::SweepReport& report : device.sweeps) sweeps.push_back(sweep_json(report));
  return {{"name", device.report.device}, {"precision", device.report.precision}, {"sweeps", std::move(sweeps)}};
}

std::string on_device(const SweepDevice& device) {
  return device.device ? "; on " + device.report.device + ", " + device.report.precision : std::string();
}

std::string sweep_line(const verify::SweepReport& r) {
  std::string line = r.device + ", " + r.attention + ", " + r.precision + ": " + fixed_text(r.seconds, 2) + " s; " +
                     bytes_text(r.weight_bytes) +
                     " of weights, not hidden under compute: " + fixed_text(r.wait_seconds, 2) + " s and " +
                     fixed_text(r.first_wait_seconds, 2) + " s for the first layer; " + bytes_text(r.device_bytes) +
                     " of device memory, " + std::to_string(r.slots) + " layers at once, chunks of " +
                     std::to_string(r.chunk_rows) + " tokens";
  if (r.spilled) line += ", hidden states in host memory";
  if (r.kv_groups > 1) line += ", heads of keys and values in " + std::to_string(r.kv_groups) + " groups";
  if (r.head_pieces > 1) line += ", the head in " + std::to_string(r.head_pieces) + " pieces";
  for (std::size_t model = 0; model < r.rounding.size(); ++model) {
    const verify::WeightRounding& rounding = r.rounding[model];
    if (rounding.largest == 0) continue;
    line += std::string("; ") +
            (r.rounding.size() == 1 ? ""
             : model == 0           ? "the source's "
                                    : "the candidate's ") +
            "weights rounded to 16 bits, by at most " + number_text(rounding.largest, 2) + " and in RMS by " +
            number_text(rounding.rms, 2) + " of themselves";
  }
  return line + (r.note.empty() ? "" : "; " + r.note);
}

void tell_sweep(SweepDevice& device, const CommonOptions& common, const Io& io) {
  if (!device.device || device.report.device.empty()) return;
  device.sweeps.push_back(device.report);
  if (!common.quiet) io.err << sweep_line(device.report) << "\n";
}

}  // namespace ropewalk::tools
