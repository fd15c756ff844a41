#pragma once

#include <string>
#include <vector>

#include "formats/json.h"
#include "tools/render.h"

namespace ropewalk::tools {

// What code scanning reads: SARIF 2.1.0 (OASIS standard of 2020-03-27).

struct SarifRule {
  std::string id, name, summary, why;  // whole sentences
  std::string level;                   // "error", "warning", "note"
};
struct SarifResult {
  std::string rule;  // id of one of the rules
  std::string level, message, file;
  int line = 0, column = 0;  // from 1; line 0: of the file as a whole, which code scanning shows at its first line
  std::string pointer = {};  // within the file; empty: none
  Json properties = Json::object();
};
/// A whole log of one run: every rule, every result; `notes`: what to know of the run, which is no result.
Json sarif_log(const std::vector<SarifRule>& rules, const std::vector<SarifResult>& results,
               const std::vector<std::string>& notes = {});
/// The log of a command whose gates are its checks: a rule for each kind, a result for each check that did not pass.
Json sarif_log(const std::vector<Check>& checks);

}  // namespace ropewalk::tools
