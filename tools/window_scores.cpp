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

std::vector<std::vector<verify::TokenScore>> score_windows(const Checkpoint& model,
                                                           std::span<const std::size_t> lengths,
                                                           const WindowRange& windows, SweepDevice& device,
                                                           const CommonOptions& common, const Io& io) {
  const std::uint64_t devices = device.device ? std::max<std::size_t>(1, device.device->indices.size()) : 1;
  const auto parts = verify::split_windows(model.config, lengths, devices * kWindowBytes);
  if (parts.size() > 1 && !common.quiet)
    io.err << model.label << ": " << plural(lengths.size(), "window") << " in " << parts.size()
           << " passes over the weights, to hold " << 2 * devices << " GiB of them at a time\n";
  const auto layers = static_cast<std::uint64_t>(model.config.n_layers);
  Progress progress(io, common.quiet, model.label + ": layers", layers * parts.size(), Progress::Unit::steps);
  std::vector<std::vector<verify::TokenScore>> scores;
  for (std::size_t part = 0; part < parts.size(); ++part) {
    verify::SweepOptions sweep = sweep_options(common, device, progress, io);
    sweep.progress = [&](int done) { progress.set(part * layers + static_cast<std::uint64_t>(done)); };
    const std::size_t first = scores.size();
    std::ranges::move(verify::score(model, windows(first, first + parts[part]), sweep), std::back_inserter(scores));
    tell_sweep(device, common, io);
  }
  return scores;
}

}  // namespace ropewalk::tools
