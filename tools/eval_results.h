#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "formats/harness_tasks.h"
#include "tools/render.h"
#include "verify/multiple_choice.h"

namespace ropewalk::tools {

// What eval found out, as figures and as JSON.

using formats::HarnessRow;
using formats::HarnessTask;

bool is_truthfulqa(HarnessTask task);
/// What --tasks, gates and results call it: both of truthfulqa alike.
std::string task_name(HarnessTask task);

/// A row with its windows and what a model made of it.
struct Question {
  const HarnessRow* row;
  std::vector<verify::ChoiceWindow> windows;
  std::vector<double> log_likelihoods;
};
struct TaskResult {
  HarnessTask task;
  std::size_t shots = 0, shortened = 0;  // shortened: rows whose prompt lost its beginning
  std::vector<Question> questions;
};

/// One figure of a task, row by row.
struct Figure {
  std::string name;
  std::vector<double> values;
};
/// A choice's log-likelihood is no number: whichever the harness takes then, the model has not chosen.
bool unjudged(const Question& question);
/// acc and acc_norm, acc, mc1 or mc2. Of a row that is unjudged NaN, which no gate passes.
std::vector<Figure> figures_of(const TaskResult& result);

/// With the standard error as the harness has it: of mmlu its subjects' together.
verify::MeanOf mean_of(const TaskResult& result, const Figure& figure);
/// {name, value, standard_error, mean_of_groups, groups}: of mmlu the mean over its rows, and over its subjects, which
/// older cards give.
Json figure_json(const TaskResult& result, const Figure& figure);
/// What was chosen, row by row.
Json questions_json(const TaskResult& result);

}  // namespace ropewalk::tools
