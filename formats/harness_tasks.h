#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/python_random.h"

namespace ropewalk::formats {

/// Multiple-choice tasks as lm-evaluation-harness 0.4.13 (lm_eval/tasks) words them, from rows in the shape of their
/// data sets:
///   arc             {question, choices: {text[], label[]}, answerKey}                       arc_easy, arc_challenge
///   hellaswag       {activity_label, ctx_a, ctx_b, endings[], label}                        hellaswag
///   mmlu            {question, subject, choices[4], answer}                                 mmlu_SUBJECT
///   truthfulqa_mc1  {question, mc1_targets: {choices[], labels[]}, mc2_targets: {...}}      truthfulqa_mc1
///   truthfulqa_mc2  the same rows                                                           truthfulqa_mc2
/// Other keys are not looked at.
enum class HarnessTask : std::uint8_t { arc, hellaswag, mmlu, truthfulqa_mc1, truthfulqa_mc2 };
const char* harness_task_name(HarnessTask task);
/// As above; "truthfulqa" is both.
std::vector<HarnessTask> harness_tasks_from_name(std::string_view name);

/// One row of a task.
struct HarnessRow {
  std::string group;                 // of mmlu the subject, else empty
  std::string question;              // what is asked, up to where the answer begins: "Question: ...\nAnswer:"
  std::vector<std::string> choices;  // a space goes before each
  std::size_t gold = 0;              // index of the right one
  std::vector<bool> is_true;         // of truthfulqa_mc2: which choices are
  std::string whole;                 // the row with its keys sorted: which rows are the same
};

/// The rows of JSON Lines, for the tasks they are of: arc, hellaswag, mmlu, or both of truthfulqa; all lines are of one
/// shape. Error(bad_input) with the line for a row of no known or of another shape, for one without an answer (a test
/// split that has none), and for a file without rows. Error(unsupported) for a character whose case python_capitalize()
/// refuses.
struct HarnessRows {
  std::vector<HarnessTask> tasks;             // whose rows they are
  std::vector<std::vector<HarnessRow>> rows;  // [task][line]
};
HarnessRows read_harness_rows(const std::string& path, std::string_view json_lines);

/// The examples that come before each row of one task (of mmlu: of one subject), drawn as the harness does with
/// --num_fewshot: mmlu's first ones, the others by a generator of `seed` that goes on from row to row.
class HarnessShots {
 public:
  /// examples: of the task and group; they outlive this. Error(bad_input), without a place, if there are too few.
  HarnessShots(HarnessTask task, const std::vector<HarnessRow>& examples, std::size_t count, std::uint32_t seed);
  /// Of the next row, in order.
  std::vector<const HarnessRow*> next(const HarnessRow& row);

 private:
  HarnessTask task_;
  const std::vector<HarnessRow>& examples_;
  std::size_t count_;
  PythonRandom random_;
};

/// What a model reads before the answer.
std::string harness_prompt(HarnessTask task, const HarnessRow& row, const std::vector<const HarnessRow*>& shots);

}  // namespace ropewalk::formats
