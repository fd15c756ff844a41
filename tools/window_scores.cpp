#include "tools/window_scores.h"

#include <algorithm>
#include <iterator>
#include <ostream>

#include "tools/units.h"

namespace ropewalk::tools {
namespace {

// held by one sweep; overlapping windows of a long text would take any amount
constexpr std::uint64_t kWindowBytes = std::uint64_t{2} << 30;

}  // namespace

void sweep_windows(const Checkpoint& model, std::span<const std::size_t> lengths, const SweepRange& sweep,
                   SweepDevice& device, const CommonOptions& common, const Io& io) {
  const std::uint64_t devices = device.device ? std::max<std::size_t>(1, device.device->indices.size()) : 1;
  const auto parts = verify::split_windows(model.config, lengths, devices * kWindowBytes);
  if (parts.size() > 1 && !common.quiet)
    io.err << model.label << ": " << plural(lengths.size(), "window") << " in " << parts.size()
           << " passes over the weights, to hold " << 2 * devices << " GiB of them at a time\n";
  const auto layers = static_cast<std::uint64_t>(model.config.n_layers);
  Progress progress(io, common.quiet, model.label + ": layers", layers * parts.size(), Progress::Unit::steps);
  std::size_t first = 0;
  for (std::size_t part = 0; part < parts.size(); ++part) {
    verify::SweepOptions options = sweep_options(common, device, progress, io);
    options.progress = [&](int done) { progress.set(part * layers + static_cast<std::uint64_t>(done)); };
    sweep(first, first + parts[part], options);
    first += parts[part];
    tell_sweep(device, common, io);
  }
}

std::vector<std::vector<verify::TokenScore>> score_windows(const Checkpoint& model,
                                                           std::span<const std::size_t> lengths,
                                                           const WindowRange& windows, SweepDevice& device,
                                                           const CommonOptions& common, const Io& io) {
  std::vector<std::vector<verify::TokenScore>> scores;
  sweep_windows(
      model, lengths,
      [&](std::size_t first, std::size_t last, const verify::SweepOptions& options) {
        std::ranges::move(verify::score(model, windows(first, last), options), std::back_inserter(scores));
      },
      device, common, io);
  return scores;
}

}  // namespace ropewalk::tools
