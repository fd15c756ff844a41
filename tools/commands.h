#pragma once

#include "tools/cli.h"

namespace ropewalk::tools {

// One per file of this folder.
Command inspect_command();
Command extend_command();
Command merge_command();
Command convert_command();
Command tokenize_command();
Command completion_command();

}  // namespace ropewalk::tools
