#pragma once

#include "tests/tools/command.h"

namespace ropewalk::tools::test {

/// The parts of the SARIF 2.1.0 schema that its reader needs (OASIS, sarif-schema-2.1.0.json: required members, enums,
/// minimum 1 of lines and columns, indices that lead somewhere), and those without which GitHub's code scanning shows
/// nothing: descriptions of each rule, a place in a file for each result.
inline void check_sarif(const Json& log) {
  EXPECT_EQ(log["version"], "2.1.0");
  ASSERT_EQ(log["runs"].size(), 1u);
  const Json& one = log["runs"][0];
  const Json& driver = one["tool"]["driver"];
  EXPECT_EQ(driver["name"], "ropewalk");
  EXPECT_TRUE(one["columnKind"] == "unicodeCodePoints" || one["columnKind"] == "utf16CodeUnits");
  std::vector<std::string> ids;
  for (const Json& rule : driver["rules"]) {
    ids.push_back(rule["id"].get<std::string>());
    for (const char* text : {"shortDescription", "fullDescription"})
      EXPECT_FALSE(rule[text]["text"].get<std::string>().empty());
    const std::string level = rule["defaultConfiguration"]["level"].get<std::string>();
    EXPECT_TRUE(level == "error" || level == "warning" || level == "note") << level;
  }
  ASSERT_TRUE(one["results"].is_array());
  for (const Json& result : one["results"]) {
    EXPECT_EQ(ids.at(result["ruleIndex"].get<std::size_t>()), result["ruleId"]);
    EXPECT_FALSE(result["message"]["text"].get<std::string>().empty());
    const std::string level = result["level"].get<std::string>();
    EXPECT_TRUE(level == "error" || level == "warning" || level == "note");
    ASSERT_EQ(result["locations"].size(), 1u);
    const Json& physical = result["locations"][0]["physicalLocation"];
    const std::string uri = physical["artifactLocation"]["uri"].get<std::string>();
    EXPECT_FALSE(uri.empty());
    EXPECT_EQ(uri.find(' '), std::string::npos);
    EXPECT_GE(physical["region"]["startLine"].get<int>(), 1);
    EXPECT_GE(physical["region"]["startColumn"].get<int>(), 1);
  }
}

}  // namespace ropewalk::tools::test
