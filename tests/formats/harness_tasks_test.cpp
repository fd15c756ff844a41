// Prompts of the multiple-choice tasks against lm_eval 0.4.13's (tests/golden/eval.json), and what they are made with.
#include "formats/harness_tasks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <map>

#include "formats/json_lines.h"
#include "formats/python_text.h"
#include "formats/tokenizers/characters.h"
#include "lib/error.h"
#include "lib/sha256.h"

namespace ropewalk::formats {
namespace {

TEST(PythonText, CaseAndBlanksOfEveryCharacter) {
  // Python 3.11: sha256 of chr(c).capitalize(), ("x" + chr(c)).capitalize() and (chr(c) + "x" + chr(c)).strip() of all
  // c, without those that are refused
  Sha256 hash;
  std::size_t n = 0;
  const auto add = [&](const std::string& text) { hash.update(std::as_bytes(std::span(text))); };
  const auto capitalized = [&](const std::string& text) {
    try {
      add(python_capitalize(text));
      ++n;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::unsupported);
    }
  };
  for (std::uint32_t c = 1; c < 0x110000; ++c) {
    if (c >= 0xd800 && c < 0xe000) continue;
    std::string text;
    append_utf8(text, c);
    capitalized(text);
    capitalized("x" + text);
    add(std::string(python_strip(text + "x" + text)));
  }
  EXPECT_EQ(n, 2224064u);
  EXPECT_EQ(hash.finish(), "52ef57237c3ec978c23a19644f90bb7d6aaeecd08272db9a16d8c3b929ac051c");
  EXPECT_EQ(python_length("a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"), 4u);
  EXPECT_EQ(python_rstrip("a \xc2\xa0\n"), "a");
  EXPECT_EQ(python_strip(" \t "), "");
}

std::string refusal(const std::string& lines) {
  try {
    read_harness_rows("rows.jsonl", lines);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(JsonLines, PlacesAreOfTheFile) {
  std::vector<Json> rows;
  const auto read = [&](const std::string& text) {
    for_each_json_line("a.jsonl", text, [&](const Json& value, std::string_view) { rows.push_back(value); });
  };
  read("1\r\n\n  \t\n[2]\n\"3\"");
  EXPECT_EQ(rows, (std::vector<Json>{1, Json::array({2}), "3"}));
  const auto said = [&](const std::string& text) -> std::string {
    try {
      read(text);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(said("1\n\n {\"a\": nul}\n").substr(0, 13), "a.jsonl:3:8: ");
  EXPECT_NE(said("{\"a\": 1, \"a\": 2}").find("a.jsonl:1:10: key 'a' appears twice"), std::string::npos);
  EXPECT_EQ(said("1\n2 3\n").substr(0, 11), "a.jsonl:2:3");
  EXPECT_NE(said(std::string("1\n2\0\n", 5)).find("a.jsonl:2:2: not valid JSON: a NUL byte"), std::string::npos);
}

const Json& golden() {
  static const Json json = [] {
    std::ifstream in(std::string(ROPEWALK_TEST_DATA_DIR) + "/eval.json");
    return Json::parse(in);
  }();
  return json;
}

std::vector<HarnessRow> rows_of(HarnessTask task, const std::string& split) {
  std::ifstream in(std::string(ROPEWALK_TEST_DATA_DIR) + "/eval_rows.json");
  const Json all = Json::parse(in);
  const std::string name = harness_task_name(task), of = name.substr(0, name.find('_'));
  if (!all[of].contains(split)) return {};
  std::string lines;
  for (const Json& row : all[of][split]) lines += row.dump() + "\n";
  HarnessRows read = read_harness_rows("rows.jsonl", lines);
  for (std::size_t i = 0; i < read.tasks.size(); ++i)
    if (read.tasks[i] == task) return read.rows[i];
  ADD_FAILURE() << name << " is not what its rows are taken for";
  return {};
}
std::vector<HarnessRow> of_group(const std::vector<HarnessRow>& rows, const std::string& group) {
  std::vector<HarnessRow> out;
  for (const HarnessRow& row : rows)
    if (row.group == group) out.push_back(row);
  return out;
}

// Context and continuations byte by byte: wording, clean-up, which examples are drawn for which row.
TEST(HarnessTasks, PromptsAreTheHarnesss) {
  struct Source {
    HarnessTask task;
    std::string group, split, examples;
  };
  const std::map<std::string, Source> sources = {
      {"arc", {HarnessTask::arc, "", "test", "train"}},
      {"hellaswag", {HarnessTask::hellaswag, "", "validation", "train"}},
      {"mmlu_anatomy", {HarnessTask::mmlu, "anatomy", "test", "dev"}},
      {"mmlu_high_school_us_history", {HarnessTask::mmlu, "high_school_us_history", "test", "dev"}},
      {"truthfulqa_mc1", {HarnessTask::truthfulqa_mc1, "", "validation", "none"}},
      {"truthfulqa_mc2", {HarnessTask::truthfulqa_mc2, "", "validation", "none"}}};
  std::size_t compared = 0, gold_compared = 0;
  for (const Json& run : golden()["runs"])
    for (const auto& [name, expected] : run["tasks"].items()) {
      if (name == "mmlu") continue;  // both subjects together
      const Source& source = sources.at(name);
      const auto rows = of_group(rows_of(source.task, source.split), source.group),
                 examples = of_group(rows_of(source.task, source.examples), source.group);
      HarnessShots shots(source.task, examples, expected["shots"].get<std::size_t>(), 1234);
      const Json& samples = expected["samples"];
      for (std::size_t i = 0; i < samples.size(); ++i) {
        std::string text = harness_prompt(source.task, rows.at(i), shots.next(rows.at(i)));
        for (const std::string& choice : rows[i].choices) text += std::string(1, '\0') + " " + choice;
        EXPECT_EQ(sha256(text), samples[i]["prompt"]) << name << " " << i << "\n" << text;
        ++compared;
        if (source.task == HarnessTask::truthfulqa_mc2) continue;
        const Json& lls = samples[i]["log_likelihoods"];
        const std::size_t best = static_cast<std::size_t>(std::ranges::max_element(lls) - lls.begin());
        EXPECT_EQ(best == rows[i].gold, samples[i]["metrics"]["acc"] == 1.0) << name << " " << i;
        ++gold_compared;
      }
    }
  EXPECT_EQ(compared, 62u);
  EXPECT_EQ(gold_compared, 53u);
}

TEST(HarnessTasks, Refusals) {
  EXPECT_EQ(refusal("\n"), "rows.jsonl: has no rows; give JSON Lines, one row on each");
  EXPECT_EQ(refusal("{}\n"),
            "rows.jsonl:1:1: is no row of arc, hellaswag, mmlu or truthfulqa (multiple_choice); export the data set as "
            "docs/eval.md says");
  EXPECT_NE(refusal("\n[1]\n").find("rows.jsonl:2:1: is [1], expected an object"), std::string::npos);
  const std::string arc =
                        R"({"question": "q", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "B"})",
                    mmlu = R"({"question": "q", "subject": "s", "choices": ["a", "b", "c", "d"], "answer": 3})",
                    swag =
                        R"({"activity_label": "l", "ctx_a": "a", "ctx_b": "b", "endings": ["x", "y"], "label": "1"})",
                    truth = R"({"question": "q", "mc1_targets": {"choices": ["a", "c"], "labels": [1,0]}, )"
                            R"("mc2_targets": {"choices": ["a", "b"], "labels": [1, 0]}})";
  for (const std::string& good : {arc, mmlu, swag, truth}) EXPECT_EQ(refusal(good), "");
  EXPECT_NE(refusal(arc + "\n" + mmlu).find("rows.jsonl:2:1: is a row of mmlu among rows of arc"), std::string::npos);
  const auto bent = [](std::string row, const std::string& from, const std::string& to) {
    return refusal(row.replace(row.find(from), from.size(), to));
  };
  EXPECT_NE(
      bent(arc, "\"answerKey\": \"B\"", "\"answerKey\": \"C\"").find("'answerKey' is 'C', which no choice is labelled"),
      std::string::npos);
  EXPECT_NE(bent(arc, "\"A\", \"B\"", "\"A\"").find("'choices/label' has 1 in it, expected one for each of 2 choices"),
            std::string::npos);
  EXPECT_NE(bent(arc, "[\"a\", \"b\"]", "[]").find("'choices/text' is [], expected a list of strings"),
            std::string::npos);
  EXPECT_NE(bent(arc, "\"a\"", "7").find("rows.jsonl:1:40: 'choices/text/0' is 7, expected a string"),
            std::string::npos)
      << bent(arc, "\"a\"", "7");
  // what would be right whatever the model, or either of two: each with its line and column
  EXPECT_NE(bent(arc, R"(["a", "b"], "label": ["A", "B"])", R"(["b"], "label": ["B"])")
                .find("rows.jsonl:1:39: 'choices/text' has one choice, which every model would get right"),
            std::string::npos)
      << bent(arc, R"(["a", "b"], "label": ["A", "B"])", R"(["b"], "label": ["B"])");
  EXPECT_NE(bent(swag, R"(["x", "y"], "label": "1")", R"(["x"], "label": "0")").find("'endings' has one choice"),
            std::string::npos);
  EXPECT_NE(bent(truth, R"(["a", "c"], "labels": [1,0])", R"(["a"], "labels": [1])")
                .find("'mc1_targets/choices' has one choice"),
            std::string::npos);
  EXPECT_NE(bent(arc, R"(["A", "B"])", R"(["B", "B"])")
                .find("rows.jsonl:1:66: the label 'B' stands twice, and the answer could be either; give each choice"),
            std::string::npos)
      << bent(arc, R"(["A", "B"])", R"(["B", "B"])");
  for (const char* label : {"\"\"", "2", "-1", "\"x\"", "null", "0.5", "1e0"})
    EXPECT_NE(bent(swag, "\"1\"", label).find("expected the number of the right answer, 0 to 1"), std::string::npos)
        << label;
  EXPECT_NE(bent(mmlu, ", \"d\"", "").find("'choices' has 3 in it"), std::string::npos);
  EXPECT_NE(bent(truth, "[1, 0]", "[1, 2]").find("'mc2_targets/labels/1' is 2, expected 0 or 1"), std::string::npos);
  // no true answer or no other, one behind a wrong one, two right ones of mc1: the harness does not look, or fails
  for (const char* labels : {"[0,0]", "[0,1]", "[1,1]"})
    EXPECT_NE(bent(truth, "[1, 0]", labels)
                  .find("'mc2_targets/labels' is " + std::string(labels) +
                        ", expected 1 for the right choices, which come first (of mc1 one), and 0 for the others"),
              std::string::npos)
        << bent(truth, "[1, 0]", labels);
  for (const char* labels : {"[0]", "[1, 1]", "[0, 1]"})
    EXPECT_NE(bent(truth, "[1,0]", labels).find("rows.jsonl:1:"), std::string::npos) << labels;
  EXPECT_NE(bent(truth, "[1,0]", "[0]").find("'mc1_targets/labels' is [0], expected 1 for the right choices"),
            std::string::npos)
      << bent(truth, "[1,0]", "[0]");
  EXPECT_NE(bent(truth, "[1, 0]", "[1]").find("'mc2_targets/labels' has 1 in it"), std::string::npos);
  EXPECT_NE(bent(swag, "\"b\"", "\"\xc3\x9f\"").find("rows.jsonl:1: the case of '\xc3\x9f' is several characters"),
            std::string::npos)
      << bent(swag, "\"b\"", "\"\xc3\x9f\"");
}

TEST(HarnessTasks, TooFewExamples) {
  const auto rows = rows_of(HarnessTask::hellaswag, "train");  // five
  const auto said = [&](HarnessTask task, std::size_t count) -> std::string {
    try {
      HarnessShots(task, rows, count, 1);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(said(HarnessTask::hellaswag, 4), "");
  EXPECT_EQ(said(HarnessTask::hellaswag, 5),
            "there are 5 examples, and 5 shots need 6; give the whole split of examples, or fewer shots");
  EXPECT_EQ(said(HarnessTask::arc, 5), "");
}

}  // namespace
}  // namespace ropewalk::formats
