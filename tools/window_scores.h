#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <vector>

#include "tools/sweep_options.h"

namespace ropewalk::tools {

/// Windows [first, last) of a command's.
using WindowRange = std::function<std::vector<verify::Window>(std::size_t first, std::size_t last)>;

/// Takes windows through sweep(first, last, options), in as few sweeps as the memory for them allows, with a progress bar
/// for all of them. lengths: of each window.
using SweepRange = std::function<void(std::size_t first, std::size_t last, const verify::SweepOptions& options)>;
void sweep_windows(const Checkpoint& model, std::span<const std::size_t> lengths, const SweepRange& sweep,
                   SweepDevice& device, const CommonOptions& common, const Io& io);

/// Scores of all windows, by such sweeps; `windows` is asked for some of them at a time.
std::vector<std::vector<verify::TokenScore>> score_windows(const Checkpoint& model,
                                                           std::span<const std::size_t> lengths,
                                                           const WindowRange& windows, SweepDevice& device,
                                                           const CommonOptions& common, const Io& io);

}  // namespace ropewalk::tools
