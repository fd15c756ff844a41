#pragma once

#include <string>

#include "lib/checkpoint.h"
#include "tools/common_options.h"
#include "tools/io.h"

namespace ropewalk::tools {

/// --engine: `model`, opened from `text`, with the rope and the context that this engine takes from the files, and its
/// name as the reader; what the engine's rules remark is warned of. Everything else stays as it was read. Error(usage)
/// for an engine that is not known, Error(unsupported) for one that does not run the files.
void read_by_engine(Checkpoint& model, const std::string& text, const std::string& engine, const CommonOptions& common,
                    const Io& io);

}  // namespace ropewalk::tools
