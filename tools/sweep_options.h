#pragma once

#include <string>

#include "tools/common_options.h"
#include "tools/progress.h"
#include "verify/sweep.h"

namespace ropewalk::tools {

/// Options of a sweep that reports its layers to `progress`.
verify::SweepOptions sweep_options(const CommonOptions& common, Progress& progress);

}  // namespace ropewalk::tools
