#pragma once

#include <filesystem>
#include <iosfwd>
#include <set>
#include <string>
#include <vector>

#include "lib/error.h"

namespace ropewalk::tools {

/// Where a command reads its surroundings and writes its words. Filled once, in main, from the process; tests pass
/// their own.
struct Io {
  std::istream& in;
  std::ostream& out;  // results
  std::ostream& err;  // progress, warnings, errors
  bool err_is_terminal = false;
  bool color = false;                            // standard error is a terminal and NO_COLOR is not set
  std::filesystem::path hub_cache;               // HF_HUB_CACHE, or HF_HOME/hub, or ~/.cache/huggingface/hub
  mutable std::set<std::string> warned = {};     // what standard error has had: each warning is said once
  mutable std::vector<std::string> failed = {};  // why the command ends with another code than 0: gates, its error
};

/// HF_HUB_CACHE, else HF_HOME/hub, else ~/.cache/huggingface/hub: the order of huggingface_hub.
std::filesystem::path hub_cache_from_environment();

/// Error(io): standard output takes no more (a full disk, a closed stream).
Error unwritable_output();

}  // namespace ropewalk::tools
