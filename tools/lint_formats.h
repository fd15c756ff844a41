#pragma once

#include <string>
#include <vector>

#include "formats/lint/lint.h"
#include "tools/render.h"

namespace ropewalk::tools {

// Findings in the forms that other programs read.

/// Workflow commands of GitHub Actions, one line a finding: ::error file=...,line=..,col=..,title=R08::message
std::string github_lines(const std::vector<formats::Finding>& findings);
/// A SARIF 2.1.0 log (OASIS standard of 2020-03-27): every rule, one result a finding.
Json sarif_log(const std::vector<formats::Finding>& findings);
Json findings_json(const std::vector<formats::Finding>& findings);
/// "config.json:14:5: error[R08]: message" and an indented line with the fix, as the terminal shows them.
std::string finding_text(const formats::Finding& finding);
/// "2 errors, 1 warning, 3 notes" or "no findings".
std::string summary_text(const std::vector<formats::Finding>& findings);

}  // namespace ropewalk::tools
