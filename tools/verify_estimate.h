#pragma once

#include <vector>

#include "tools/common_options.h"
#include "verify/sweep.h"

namespace ropewalk::tools {

/// What the logits level of a verify would take on this machine, before it starts: of windows of `context` tokens, and at
/// shorter contexts. `models`: that are swept. `from_text`: windows may be cut shorter; a saved reference's may not.
Output estimate(const std::vector<const Checkpoint*>& models, const std::vector<std::size_t>& lengths, int context,
                bool from_text, const CommonOptions& common);

}  // namespace ropewalk::tools
