#pragma once

#include "tools/cli.h"

namespace ropewalk::tools {

// One per file of this folder.
Command inspect_command();
Command rope_command();
Command lint_command();
Command extend_command();
Command merge_command();
Command convert_command();
Command adapter_command();
Command quantize_command();
Command imatrix_command();
Command verify_command();
Command diff_command();
Command perplexity_command();
Command passkey_command();
Command eval_command();
Command run_command();
Command logits_command();
Command tokenize_command();
Command generate_command();
Command support_command();
Command completion_command();

}  // namespace ropewalk::tools
