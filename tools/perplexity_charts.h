#pragma once

#include <string>
#include <vector>

#include "tools/render.h"
#include "verify/perplexity.h"

namespace ropewalk::tools {

/// A source's results under one protocol, in the order of the contexts.
struct PerplexityRow {
  std::string source;
  std::vector<verify::PerplexityResult> results;
};
/// Perplexity by context where there are several, and by position at the longest.
std::vector<Drawing> perplexity_drawings(const std::vector<PerplexityRow>& rows);

}  // namespace ropewalk::tools
