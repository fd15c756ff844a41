#include "tools/eval_results.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "formats/python_text.h"

namespace ropewalk::tools {
namespace {

std::size_t choice_by_length(const Question& question) {
  std::vector<std::size_t> characters;
  for (const std::string& choice : question.row->choices) characters.push_back(formats::python_length(choice));
  return verify::first_largest_by_length(question.log_likelihoods, characters);
}

/// Figures of each subject, in the order of the rows; the values of a task's only figure.
struct GroupFigures {
  std::string name;
  std::vector<double> values;
};
std::vector<GroupFigures> by_group(const TaskResult& result, const Figure& figure) {
  std::vector<GroupFigures> groups;
  for (std::size_t i = 0; i < result.questions.size(); ++i) {
    const std::string& name = result.questions[i].row->group;
    auto group = std::ranges::find(groups, name, &GroupFigures::name);
    if (group == groups.end()) group = groups.insert(groups.end(), GroupFigures{name, {}});
    group->values.push_back(figure.values[i]);
  }
  return groups;
}

Json error_json(const std::optional<double>& error) { return error ? Json(*error) : Json(nullptr); }

}  // namespace

bool is_truthfulqa(HarnessTask task) {
  return task == HarnessTask::truthfulqa_mc1 || task == HarnessTask::truthfulqa_mc2;
}

std::string task_name(HarnessTask task) {
  return is_truthfulqa(task) ? "truthfulqa" : formats::harness_task_name(task);
}

bool unjudged(const Question& question) {
  return std::ranges::any_of(question.log_likelihoods, [](double value) { return std::isnan(value); });
}

std::vector<Figure> figures_of(const TaskResult& result) {
  std::vector<Figure> figures;
  const auto figure = [&](const char* name, auto value) {
    Figure& one = figures.emplace_back(Figure{name, {}});
    for (const Question& question : result.questions)
      one.values.push_back(unjudged(question) ? std::numeric_limits<double>::quiet_NaN() : value(question));
  };
  const auto first_choice = [](const Question& question) {
    return verify::first_largest(question.log_likelihoods) == question.row->gold ? 1.0 : 0.0;
  };
  switch (result.task) {
    case HarnessTask::arc:
    case HarnessTask::hellaswag:
      figure("acc", first_choice);
      figure("acc_norm",
             [](const Question& question) { return choice_by_length(question) == question.row->gold ? 1.0 : 0.0; });
      break;
    case HarnessTask::mmlu: figure("acc", first_choice); break;
    case HarnessTask::truthfulqa_mc1: figure("mc1", first_choice); break;
    case HarnessTask::truthfulqa_mc2:
      figure("mc2", [](const Question& question) {
        return verify::true_share(question.log_likelihoods, question.row->is_true);
      });
      break;
  }
  return figures;
}

verify::MeanOf mean_of(const TaskResult& result, const Figure& figure) {
  verify::MeanOf all = verify::mean_of(figure.values);
  if (result.task != HarnessTask::mmlu) return all;
  std::vector<double> errors;
  std::vector<std::size_t> sizes;
  for (const GroupFigures& group : by_group(result, figure)) {
    errors.push_back(verify::mean_of(group.values).standard_error.value_or(0));
    sizes.push_back(group.values.size());
  }
  all.standard_error = verify::pooled_error(errors, sizes);
  return all;
}

Json figure_json(const TaskResult& result, const Figure& figure) {
  const verify::MeanOf mean = mean_of(result, figure);
  Json out = {{"name", figure.name}, {"value", mean.mean}, {"standard_error", error_json(mean.standard_error)}};
  out["mean_of_groups"] = nullptr;
  out["groups"] = Json::array();
  if (result.task != HarnessTask::mmlu) return out;
  std::vector<double> means;
  for (const GroupFigures& group : by_group(result, figure)) {
    const verify::MeanOf own = verify::mean_of(group.values);
    means.push_back(own.mean);
    out["groups"].push_back({{"name", group.name},
                             {"rows", group.values.size()},
                             {"value", own.mean},
                             {"standard_error", error_json(own.standard_error)}});
  }
  out["mean_of_groups"] = verify::mean_of(means).mean;
  return out;
}

Json questions_json(const TaskResult& result) {
  Json out = Json::array();
  const bool by_length = result.task == HarnessTask::arc || result.task == HarnessTask::hellaswag;
  for (const Question& question : result.questions) {
    const bool mc2 = result.task == HarnessTask::truthfulqa_mc2;
    Json one = {{"choice", verify::first_largest(question.log_likelihoods)}};
    one["choice_norm"] = by_length ? Json(choice_by_length(question)) : Json(nullptr);
    one["gold"] = mc2 ? Json(nullptr) : Json(question.row->gold);
    one["mc2"] = mc2 ? Json(verify::true_share(question.log_likelihoods, question.row->is_true)) : Json(nullptr);
    one["log_likelihoods"] = question.log_likelihoods;
    one["tokens"] = question.windows.front().ids.size();
    out.push_back(std::move(one));
  }
  return out;
}

}  // namespace ropewalk::tools
