#pragma once

#include <functional>
#include <span>
#include <vector>

#include "verify/forward.h"

namespace ropewalk::verify {

/// Takes models side by side through all layers of the one that has most, and on from what options.journal has of this
/// sweep. `after` appends the `each` numbers that a layer is found to have; all layers' come back.
std::vector<double> run_layers(std::span<Forward* const> models, const SweepOptions& options, std::size_t each = 0,
                               const std::function<void(int layer, std::vector<double>& found)>& after = {});

}  // namespace ropewalk::verify
