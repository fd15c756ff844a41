#include "tools/commands.h"

namespace ropewalk::tools {

const std::vector<Command>& commands() {
  static const std::vector<Command> all = {inspect_command(), extend_command(), merge_command(), convert_command(), tokenize_command(), completion_command()};
  return all;
}

}  // namespace ropewalk::tools
