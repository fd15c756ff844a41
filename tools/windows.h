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
  std::size_t repeated = 0;            // windows passed over: the same ids as one before
};
enum class Repeats { kept, passed_over };
/// Windows of exactly `context` ids, BOS first where the tokenizer adds one, in order from the documents' beginnings;
/// wanted nullopt: default_windows. Error(bad_input) if there are fewer than asked for. Repeats::passed_over: of windows with
/// the same ids the first is taken, for as evidence they are one.
CutWindows cut_windows(const std::vector<std::vector<std::int32_t>>& documents, int context, std::optional<int> wanted,
                       std::optional<std::int32_t> bos, Repeats repeats = Repeats::kept);
/// How many repeated ones were passed over, in a line; nullopt: none.
std::optional<std::string> repeats_passed_over(const CutWindows& cut);
/// Which documents were passed over, in a line; nullopt: none.
std::optional<std::string> passed_over(const CutWindows& cut, const Corpus& corpus);

}  // namespace ropewalk::tools
