#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "verify/sweep.h"

namespace ropewalk::tools {

/// How many windows of that length are taken where nobody says: 4096 tokens' worth, at least one.
std::size_t default_windows(int context);

/// Windows of exactly `context` ids, BOS first where the tokenizer adds one, in order from the documents' beginnings;
/// nullopt: default_windows. Error(bad_input) if there are fewer than asked for.
std::vector<verify::Window> cut_windows(const std::vector<std::vector<std::int32_t>>& documents, int context,
                                        std::optional<int> wanted, std::optional<std::int32_t> bos);

}  // namespace ropewalk::tools
