#pragma once

#include <optional>
#include <string>
#include <vector>

#include "lib/checkpoint.h"

namespace ropewalk::tools {

/// Error(usage) for a context in which no token follows another. Before any byte is read.
void check_context(int context);

/// "4096" or "4k,8k,16k": contexts to evaluate, each once. Error(usage) for what is no such list.
std::vector<int> parse_contexts(const std::string& text);

/// The context evaluated: -c, else what the model serves. Error(usage) if neither says one of at least 2.
int context_of(std::optional<int> asked, const Checkpoint& model);

/// Beyond what its files say a model serves, its figures are of positions it was not made for: what to warn of where
/// `context` tokens are evaluated; nullopt where they are within, or nothing is said. `who`: "the source 'X'", "'X'".
std::optional<std::string> past_served(const Checkpoint& model, int context, const std::string& who);

}  // namespace ropewalk::tools
