#include "formats/adapters/python_pattern.h"

#include <gtest/gtest.h>

#include <set>

#include "formats/json.h"
#include "lib/error.h"
#include "tests/formats/hf_test_support.h"

namespace ropewalk::formats {
namespace {

using Anchor = PythonPattern::Anchor;

/// As the golden writes it; "" if it is no expression, the message if it is not supported.
std::string matches(const std::string& pattern, Anchor anchor, const Json& subjects) {
  try {
    const PythonPattern code(pattern, anchor, {.path = "a.json"}, "field");
    std::string out;
    for (const std::string subject : subjects) {
      try {
        out += code.match(subject) ? '1' : '0';
      } catch (const Error& error) {
        return error.what();
      }
    }
    return out;
  } catch (const Error& error) {
    return error.kind() == ErrorKind::unsupported ? error.what() : "";
  }
}

bool refused(const std::string& answer) { return answer.find("is not supported") != answer.npos; }

// Real answers of Python's re (golden/make/python_patterns.py): the same, or refused by name.
TEST(PythonPattern, AsPythonReads) {
  const Json golden = read_json(fs::path(ROPEWALK_GOLDEN_DIR) / "numbers/python_patterns.json");
  const Json& subjects = golden.at("subjects");
  std::size_t same = 0;
  std::set<std::string> reasons;
  for (const Json& one : golden.at("patterns")) {
    const std::string pattern = one.at(0);
    const std::string begin = matches(pattern, Anchor::begin, subjects),
                      whole = matches(pattern, Anchor::whole, subjects);
    if (one.size() == 1) {
      EXPECT_TRUE(begin.empty() || refused(begin) || pattern == "(?<=a|ab)b")
          << "not for Python: " << pattern << " " << begin;
      continue;
    }
    if (refused(begin)) {
      EXPECT_EQ(begin, whole);
      const std::size_t at = begin.find("is not supported: ") + 18;
      reasons.insert(begin.substr(at, begin.find("; ") - at));
      continue;
    }
    EXPECT_EQ(begin, one.at(1)) << pattern;
    EXPECT_EQ(whole, one.at(2)) << pattern;
    ++same;
  }
  EXPECT_GT(same, 500u);
  EXPECT_EQ(reasons,
            (std::set<std::string>{"it holds a character by its name, \\N{...}", "it holds a group's name beyond ASCII",
                                   "it holds a surrogate", "it holds characters beyond ASCII in any case",
                                   "it holds so many repetitions"}));
}

TEST(PythonPattern, GivesItsNumber) {
  const PythonPattern code("(a)|b(?P<idx>1)", Anchor::begin, {.path = "a.json"}, "field");
  EXPECT_EQ(code.match("a"), "");
  EXPECT_EQ(code.match("b1"), "1");
  EXPECT_EQ(code.match("b"), std::nullopt);
  EXPECT_THROW((void)code.match("\xc3\xa9"), Error);
}

}  // namespace
}  // namespace ropewalk::formats
