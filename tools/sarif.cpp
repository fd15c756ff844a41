#include "tools/sarif.h"

#include <algorithm>
#include <filesystem>
#include <string_view>

namespace ropewalk::tools {
namespace {

/// RFC 3986: a relative reference, or file:// for an absolute path.
std::string uri_of(const std::string& path) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  std::string out = std::filesystem::path(path).is_absolute() ? "file://" : "";
  for (const char c : path) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       std::string_view("-._~/").find(c) != std::string_view::npos;
    if (plain) out += c;
    else out += {'%', kHex[byte >> 4], kHex[byte & 15]};
  }
  return out;
}

}  // namespace

Json sarif_log(const std::vector<SarifRule>& rules, const std::vector<SarifResult>& results,
               const std::vector<std::string>& notes) {
  Json all_rules = Json::array();
  for (const SarifRule& rule : rules)
    all_rules.push_back({{"id", rule.id},
                         {"name", rule.name},
                         {"shortDescription", {{"text", rule.summary}}},
                         {"fullDescription", {{"text", rule.why}}},
                         {"defaultConfiguration", {{"level", rule.level}}}});
  Json all_results = Json::array();
  for (const SarifResult& result : results) {
    Json physical = {{"artifactLocation", {{"uri", uri_of(result.file)}}}};
    physical["region"] = {{"startLine", std::max(1, result.line)}, {"startColumn", std::max(1, result.column)}};
    Json location = {{"physicalLocation", physical}};
    if (!result.pointer.empty())
      location["logicalLocations"] = Json::array({Json{{"fullyQualifiedName", result.pointer}}});
    all_results.push_back({{"ruleId", result.rule},
                           {"ruleIndex", std::ranges::find(rules, result.rule, &SarifRule::id) - rules.begin()},
                           {"level", result.level},
                           {"message", {{"text", result.message}}},
                           {"locations", Json::array({location})},
                           {"properties", result.properties}});
  }
  Json run = {{"tool",
               {{"driver",
                 {{"name", "ropewalk"},
                  {"version", ROPEWALK_VERSION},
                  {"semanticVersion", ROPEWALK_VERSION},
                  {"rules", all_rules}}}}},
              {"columnKind", "unicodeCodePoints"},
              {"results", all_results}};
  Json notifications = Json::array();
  for (const std::string& note : notes) notifications.push_back({{"level", "note"}, {"message", {{"text", note}}}});
  if (!notes.empty())
    run["invocations"] =
        Json::array({Json{{"executionSuccessful", true}, {"toolExecutionNotifications", std::move(notifications)}}});
  return {{"$schema", "https://json.schemastore.org/sarif-2.1.0.json"},
          {"version", "2.1.0"},
          {"runs", Json::array({std::move(run)})}};
}

Json sarif_log(const std::vector<Check>& checks) {
  std::vector<SarifRule> rules;
  std::vector<SarifResult> results;
  for (const Check& check : checks) {
    if (std::ranges::find(rules, check.rule, &SarifRule::id) == rules.end())
      rules.push_back({check.rule, check.rule, "The figure " + check.rule + " keeps within the bound asked for.",
                       "What it is of, and how it is measured, is in docs/protocols.md.", "error"});
    if (!check.pass) results.push_back({check.rule, "error", check.name + ": " + check.message, check.file});
  }
  return sarif_log(rules, results);
}

}  // namespace ropewalk::tools
