#include "tools/lint_formats.h"

#include <algorithm>

#include "lib/plural.h"
#include "tools/one_line.h"
#include "tools/sarif.h"

namespace ropewalk::tools {
namespace {

using formats::Finding;
using formats::LintRule;
using formats::Severity;

/// github.com/actions/toolkit, packages/core/src/command.ts: escapeData; escapeProperty besides.
std::string escaped(const std::string& text, bool property) {
  std::string out;
  for (const char c : text) switch (c) {
      case '%': out += "%25"; break;
      case '\r': out += "%0D"; break;
      case '\n': out += "%0A"; break;
      case ':': out += property ? "%3A" : ":"; break;
      case ',': out += property ? "%2C" : ","; break;
      default: out += c;
    }
  return out;
}

/// "/rope_scaling/factor: "
std::string pointed(const Finding& finding) { return finding.pointer.empty() ? "" : finding.pointer + ": "; }

/// Fix and flags, each behind `before`.
std::string beneath(const Finding& finding, const char* before) {
  std::string out;
  if (!finding.fix.empty()) out += before + ("fix: " + one_line(finding.fix));
  for (const Finding::Flags& flags : finding.flags)
    out += before + ("or run " + flags.engine + " with: " + one_line(flags.line));
  return out;
}

const char* sarif_level(Severity severity) {
  return severity == Severity::error ? "error" : severity == Severity::warning ? "warning" : "note";
}

std::string with_stop(std::string_view text) { return std::string(text) + (text.ends_with('.') ? "" : "."); }

std::size_t count(const std::vector<Finding>& findings, Severity severity) {
  return std::size_t(std::count_if(findings.begin(), findings.end(),
                                   [&](const Finding& finding) { return finding.severity == severity; }));
}

}  // namespace

std::string github_lines(const std::vector<Finding>& findings) {
  std::string out;
  for (const Finding& finding : findings) {
    const char* command = finding.severity == Severity::error     ? "error"
                          : finding.severity == Severity::warning ? "warning"
                                                                  : "notice";
    out += std::string("::") + command + " file=" + escaped(finding.file, true);
    if (finding.line > 0) out += ",line=" + std::to_string(finding.line) + ",col=" + std::to_string(finding.column);
    out += ",title=" + escaped(std::string(finding.rule), true) +
           "::" + escaped(pointed(finding) + finding.message + beneath(finding, "\n"), false) + "\n";
  }
  return out;
}

Json sarif_log(const std::vector<Finding>& findings) {
  std::vector<SarifRule> rules;
  for (const LintRule& rule : formats::lint_rules())
    rules.push_back({std::string(rule.id), std::string(rule.name), with_stop(rule.summary), with_stop(rule.why),
                     sarif_level(rule.severity)});
  std::vector<SarifResult> results;
  for (const Finding& finding : findings) {
    Json flags = Json::object();
    for (const Finding::Flags& one : finding.flags) flags[one.engine] = one.line;
    results.push_back({std::string(finding.rule),
                       sarif_level(finding.severity),
                       finding.message + (finding.fix.empty() ? "" : ". Fix: " + finding.fix),
                       finding.file,
                       finding.line,
                       finding.column,
                       finding.pointer,
                       {{"engines", finding.engines}, {"flags", flags}}});
  }
  return sarif_log(rules, results);
}

Json findings_json(const std::vector<Finding>& findings) {
  Json list = Json::array();
  for (const Finding& finding : findings) {
    Json flags = Json::array();
    for (const Finding::Flags& one : finding.flags) flags.push_back({{"engine", one.engine}, {"line", one.line}});
    list.push_back({{"rule", finding.rule},
                    {"severity", formats::severity_name(finding.severity)},
                    {"file", finding.file},
                    {"line", finding.line > 0 ? Json(finding.line) : Json(nullptr)},
                    {"column", finding.line > 0 ? Json(finding.column) : Json(nullptr)},
                    {"pointer", finding.pointer},
                    {"message", finding.message},
                    {"fix", finding.fix},
                    {"engines", finding.engines},
                    {"flags", flags}});
  }
  return list;
}

std::string finding_text(const Finding& finding) {
  std::string out = finding.file;
  if (finding.line > 0) out += ":" + std::to_string(finding.line) + ":" + std::to_string(finding.column);
  else if (!finding.pointer.empty()) out += ": " + finding.pointer;  // a GGUF's key
  out += std::string(": ") + formats::severity_name(finding.severity) + "[" + std::string(finding.rule) +
         "]: " + (finding.line > 0 ? pointed(finding) : "") + finding.message;
  out = one_line(out);
  return out + beneath(finding, "\n    ");
}

std::string summary_text(const std::vector<Finding>& findings) {
  std::string out;
  for (const auto& [severity, noun] : {std::pair{Severity::error, "error"}, std::pair{Severity::warning, "warning"},
                                       std::pair{Severity::info, "note"}})
    if (const std::size_t n = count(findings, severity); n > 0) out += (out.empty() ? "" : ", ") + plural(n, noun);
  return out.empty() ? "no findings" : out;
}

}  // namespace ropewalk::tools
