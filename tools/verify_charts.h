#pragma once

#include <vector>

#include "tools/verdict.h"

namespace ropewalk::tools {

/// What a verdict's figures look like: KL and perplexity by position, distance by layer, the ropes. Of what was not
/// measured there is no drawing.
std::vector<Drawing> verify_drawings(const Verdict& verdict);

}  // namespace ropewalk::tools
