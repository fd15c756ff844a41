#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tools/text_input.h"
#include "verify/sweep.h"

namespace ropewalk::tools {

/// How many windows of that length are taken where nobody says: 4096 tokens' worth, at least one.
std::size_t default_windows(int context);

struct CutWindows {
  std::vector<verify::Window> windows;
  std::vector<std::size_t> too_short;  // documents passed over: they have no window of that length
  std::size_t needed = 0;              // tokens of a document that a window takes
};
/// Windows of exactly `context` ids, BOS first where the tokenizer adds one, in order from the documents' beginnings;
/// wanted nullopt: default_windows. Error(bad_input) if there are fewer than asked for.
CutWindows cut_windows(const std::vector<std::vector<std::int32_t>>& documents, int context, std::optional<int> wanted,
                       std::optional<std::int32_t> bos);
/// Which documents were passed over, in a line; nullopt: none.
std::optional<std::string> passed_over(const CutWindows& cut, const Corpus& corpus);

}  // namespace ropewalk::tools
