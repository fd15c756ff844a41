#pragma once

#include <string>
#include <vector>

#include "formats/lint/lint.h"

namespace ropewalk::formats {

/// `text` with the edits made where the values stand: blanks, order of keys and everything else stay. A new member
/// takes the indentation of its neighbours. Error(bad_input) if a pointer leads nowhere.
std::string edit_json_text(const std::string& path, const std::string& text, const std::vector<JsonEdit>& edits);

/// One fix, made or not.
struct LintFix {
  std::string_view rule;
  std::string file, pointer;
  std::string what;      // "/rope_scaling/factor = 4.0"
  std::string rejected;  // empty if made, else why not: "llama.cpp 0.5.0 would no longer load it"
};
struct FixedFile {
  std::string path, before, after;
};
struct LintFixes {
  std::vector<LintFix> fixes;
  std::vector<FixedFile> files;  // those that change
};
/// The findings' edits, one after the other, each only if no engine reads the file worse afterwards: the newest of each,
/// the named ones and the newest of every known range of versions are asked, before and after. Worse is: it fails or
/// refuses the length where it did not, its rope no longer is the declared one where it was, or it serves less. Nothing
/// is written here.
LintFixes safe_fixes(const LintInput& input, const LintOptions& options, const std::vector<Finding>& findings);

/// Lines that differ, as diff -u shows them (three lines around).
std::string unified_diff(const std::string& path, const std::string& before, const std::string& after);

}  // namespace ropewalk::formats
