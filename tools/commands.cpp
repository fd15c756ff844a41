#include "tools/commands.h"

namespace ropewalk::tools {

const std::vector<Command>& commands() {
  static const std::vector<Command> all = {
      inspect_command(),  rope_command(),       lint_command(),     extend_command(),  merge_command(),
      convert_command(),  adapter_command(),    quantize_command(), imatrix_command(), verify_command(),
      diff_command(),     perplexity_command(), passkey_command(),  eval_command(),    logits_command(),
      tokenize_command(), generate_command(),   run_command(),      support_command(), completion_command()};
  return all;
}

}  // namespace ropewalk::tools
