#include <algorithm>
#include <charconv>
#include <map>
#include <optional>

#include "formats/harness_tasks.h"
#include "formats/python_text.h"
#include "lib/error.h"
#include "lib/sha256.h"
#include "tools/commands.h"
#include "tools/common_options.h"
#include "tools/placed_gates.h"
#include "tools/served_context.h"
#include "tools/text_input.h"
#include "tools/units.h"
#include "tools/window_scores.h"
#include "verify/multiple_choice.h"

namespace ropewalk::tools {
namespace {

using formats::HarnessRow;
using formats::HarnessTask;

struct EvalOptions {
  std::string source;
  std::vector<std::string> files, examples;
  std::optional<std::string> tasks;
  std::string shots = "0";
  std::optional<int> context, limit;
  int seed = 1234;
  std::vector<std::string> max, min;
  SourceOptions modifiers;
  DeviceChoice device;
  CommonOptions common;
};

void declare(CommandLine& line, EvalOptions& options) {
  line.positional(options.source, "SOURCE", "the model");
  line.positionals(options.files, "FILE", "rows of the tasks, .jsonl or .jsonl.zst; how to export them: docs/eval.md",
                   1);
  line.option("--tasks", options.tasks, "T[,T...]", "arc, hellaswag, mmlu, truthfulqa (default: all that FILEs hold)");
  line.option(
      "--few-shot,--num-fewshot,--num_fewshot", options.shots, "N|T=N[,T=N...]",
      "examples before each row, of all tasks or by task: arc=25,hellaswag=10,mmlu=5 (default 0; truthfulqa has "
      "its own prompt)");
  line.option(
      "--examples", options.examples, "FILE",
      "rows that examples are drawn from: the train split of arc and hellaswag, the dev split of mmlu. Repeatable");
  line.option("--seed,--fewshot-seed", options.seed, 0, 2'147'483'647, "N",
              "of the draw (default 1234, the harness's)");
  line.option("--limit", options.limit, 1, 1'000'000'000, "N",
              "only the first N rows of each task, of each subject of mmlu");
  line.context_option("-c,--context,--ctx-size", options.context, "N",
                      "longest input; what is longer loses its beginning (default: the model's context)");
  line.option("--max", options.max, "NAME[@TASK]=V", "upper bound on a figure. Repeatable");
  line.option("--min", options.min, "NAME[@TASK]=V",
              "lower bound on acc, acc_norm, mc1 or mc2, e.g. acc_norm@arc=58%. Repeatable");
  declare_modifiers(line, options.modifiers);
  declare_unmerged(line, options.modifiers);
  declare_device(line, options.device);
  declare_common(line, options.common);
  line.example("ropewalk eval model arc-test.jsonl --examples arc-train.jsonl --few-shot 25 --min acc_norm@arc=58%",
               "the row of a model card, as a gate");
  line.example("ropewalk eval model.gguf hellaswag.jsonl.zst truthfulqa.jsonl --limit 500",
               "of a GGUF, the first 500 rows");
}

bool is_truthfulqa(HarnessTask task) {
  return task == HarnessTask::truthfulqa_mc1 || task == HarnessTask::truthfulqa_mc2;
}
/// What --tasks, gates and results call it.
std::string task_name(HarnessTask task) {
  return is_truthfulqa(task) ? "truthfulqa" : formats::harness_task_name(task);
}

/// Rows of all files, by task.
struct TaskRows {
  std::map<HarnessTask, std::vector<HarnessRow>> rows;
  Json files = Json::array();
};
TaskRows read_rows(const std::vector<std::string>& files, const Io& io) {
  TaskRows out;
  for (const std::string& file : files) {
    const std::string text = read_text(file, io);
    formats::HarnessRows read = formats::read_harness_rows(file, text);
    out.files.push_back({{"path", file},
                         {"sha256", sha256(text)},
                         {"task", task_name(read.tasks.front())},
                         {"rows", read.rows.front().size()}});
    for (std::size_t task = 0; task < read.tasks.size(); ++task) {
      auto& all = out.rows[read.tasks[task]];
      std::ranges::move(read.rows[task], std::back_inserter(all));
    }
  }
  return out;
}

/// --tasks, or all there are rows of. Error(usage) for a task without rows and for rows without a task.
std::vector<HarnessTask> asked_tasks(const EvalOptions& options, const TaskRows& rows) {
  std::vector<HarnessTask> tasks;
  if (!options.tasks) {
    for (const auto& [task, unused] : rows.rows) tasks.push_back(task);
    return tasks;
  }
  for (const std::string& name : split_list(*options.tasks)) {
    const auto named = formats::harness_tasks_from_name(name);
    if (named.empty())
      throw Error(ErrorKind::usage, {}, "--tasks has '" + name + "'", "use arc, hellaswag, mmlu or truthfulqa");
    for (const HarnessTask task : named) {
      add_once(tasks, task, "--tasks", name);
      if (!rows.rows.contains(task))
        throw Error(ErrorKind::usage, {}, "--tasks has '" + name + "', and no FILE has rows of it",
                    "add its file; how to export it: docs/eval.md");
    }
  }
  for (const auto& [task, unused] : rows.rows)
    if (std::ranges::find(tasks, task) == tasks.end())
      throw Error(ErrorKind::usage, {}, "a FILE has rows of " + task_name(task) + ", which --tasks does not name",
                  "leave the file out or name the task");
  return tasks;
}

/// --few-shot for one task.
std::size_t shots_of(const std::string& text, HarnessTask task) {
  if (is_truthfulqa(task)) return 0;  // the harness ignores --num_fewshot there
  std::size_t shots = 0;
  const std::vector<std::string> parts = split_list(text);
  for (const std::string& part : parts) {
    const std::size_t equals = part.find('=');
    const std::string name = equals == std::string::npos ? "" : part.substr(0, equals),
                      number = equals == std::string::npos ? part : part.substr(equals + 1);
    std::size_t count = 0;
    const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), count);
    const bool known =
        equals == std::string::npos ? parts.size() == 1 : !formats::harness_tasks_from_name(name).empty();
    if (!known || error != std::errc() || end != number.data() + number.size() || count > 1000)
      throw Error(ErrorKind::usage, {}, "--few-shot has '" + part + "'",
                  "give one number, or numbers by task: arc=25,hellaswag=10,mmlu=5");
    if (name.empty() || name == task_name(task)) shots = count;
  }
  return shots;
}

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

/// The rows of each group in file order, at most `limit` of each.
std::vector<std::pair<std::string, std::vector<const HarnessRow*>>> groups_of(const std::vector<HarnessRow>& rows,
                                                                              std::optional<int> limit) {
  std::vector<std::pair<std::string, std::vector<const HarnessRow*>>> groups;
  for (const HarnessRow& row : rows) {
    auto group = std::ranges::find(groups, row.group, [](const auto& one) { return one.first; });
    if (group == groups.end()) group = groups.insert(groups.end(), {row.group, {}});
    if (!limit || group->second.size() < static_cast<std::size_t>(*limit)) group->second.push_back(&row);
  }
  return groups;
}

TaskResult plan_task(HarnessTask task, const TaskRows& rows, const TaskRows& examples, const EvalOptions& options,
                     const formats::Tokenizer& tokenizer, const verify::Around& around, std::size_t longest) {
  TaskResult out{task, shots_of(options.shots, task), 0, {}};
  const auto pool = examples.rows.find(task);
  if (out.shots > 0 && pool == examples.rows.end())
    throw Error(
        ErrorKind::usage, {}, "--few-shot asks for examples of " + task_name(task) + ", and there are none",
        "name the file of its " + std::string(task == HarnessTask::mmlu ? "dev" : "train") + " split with --examples");
  for (const auto& [group, members] : groups_of(rows.rows.at(task), options.limit)) {
    std::vector<HarnessRow> own;
    if (out.shots > 0)
      std::ranges::copy_if(pool->second, std::back_inserter(own),
                           [&, &name = group](const HarnessRow& row) { return row.group == name; });
    formats::HarnessShots shots(task, own, out.shots, static_cast<std::uint32_t>(options.seed));
    for (const HarnessRow* row : members) {
      std::vector<std::string> continuations;
      for (const std::string& choice : row->choices) continuations.push_back(" " + choice);
      out.questions.push_back({row,
                               verify::choice_windows(formats::harness_prompt(task, *row, shots.next(*row)),
                                                      continuations, tokenizer, around, longest),
                               {}});
      out.shortened += std::ranges::any_of(out.questions.back().windows,
                                           [](const verify::ChoiceWindow& window) { return window.dropped > 0; });
    }
  }
  return out;
}

/// All windows of all tasks in as few sweeps as memory allows; those with the same ids (a choice of mc1 and mc2) once.
void score(std::vector<TaskResult>& results, const Checkpoint& model, SweepDevice& device, const CommonOptions& common,
           const Io& io) {
  std::map<verify::Window, std::size_t> places;
  std::vector<const verify::Window*> windows;
  std::vector<std::size_t> lengths;
  for (const TaskResult& result : results)
    for (const Question& question : result.questions)
      for (const verify::ChoiceWindow& window : question.windows)
        if (places.emplace(window.ids, windows.size()).second)
          windows.push_back(&window.ids), lengths.push_back(window.ids.size());
  const auto scores = score_windows(
      model, lengths,
      [&](std::size_t first, std::size_t last) {
        std::vector<verify::Window> some;
        for (std::size_t at = first; at < last; ++at) some.push_back(*windows[at]);
        return some;
      },
      device, common, io);
  for (TaskResult& result : results)
    for (Question& question : result.questions)
      for (const verify::ChoiceWindow& window : question.windows)
        question.log_likelihoods.push_back(verify::log_likelihood(window, scores[places.at(window.ids)]));
}

std::size_t choice_by_length(const Question& question) {
  std::vector<std::size_t> characters;
  for (const std::string& choice : question.row->choices) characters.push_back(formats::python_length(choice));
  return verify::first_largest_by_length(question.log_likelihoods, characters);
}

/// One figure of a task, row by row.
struct Figure {
  std::string name;
  std::vector<double> values;
};
std::vector<Figure> figures_of(const TaskResult& result) {
  std::vector<Figure> figures;
  const auto figure = [&](const char* name, auto value) {
    Figure& one = figures.emplace_back(Figure{name, {}});
    for (const Question& question : result.questions) one.values.push_back(value(question));
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

/// Of mmlu: the mean over its rows, and over its subjects, which older cards give.
Json figure_json(const TaskResult& result, const Figure& figure) {
  const verify::MeanOf mean = verify::mean_of(figure.values);
  Json out = {{"name", figure.name}, {"value", mean.mean}, {"standard_error", error_json(mean.standard_error)}};
  out["mean_of_groups"] = nullptr;
  out["groups"] = Json::array();
  if (result.task != HarnessTask::mmlu) return out;
  std::vector<double> means, errors;
  std::vector<std::size_t> sizes;
  for (const GroupFigures& group : by_group(result, figure)) {
    const verify::MeanOf own = verify::mean_of(group.values);
    means.push_back(own.mean), errors.push_back(own.standard_error.value_or(0)), sizes.push_back(group.values.size());
    out["groups"].push_back({{"name", group.name},
                             {"rows", group.values.size()},
                             {"value", own.mean},
                             {"standard_error", error_json(own.standard_error)}});
  }
  out["standard_error"] = error_json(verify::pooled_error(errors, sizes));
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

std::vector<PlacedGate> gates_of(const EvalOptions& options, const std::vector<HarnessTask>& tasks) {
  std::vector<KnownFigure> known;
  for (const char* name : {"acc", "acc_norm", "mc1", "mc2"}) known.push_back({name, FigureKind::share});
  return placed_gates(options.max, options.min, known,
                      {"a task that has this figure", [&](const std::string& figure, const std::string& text) {
                         const auto has = [&](HarnessTask task) {
                           const auto figures = figures_of({task, 0, 0, {}});
                           return task_name(task) == text &&
                                  std::ranges::find(figures, figure, &Figure::name) != figures.end();
                         };
                         return std::ranges::any_of(tasks, has) ? std::optional(text) : std::nullopt;
                       }});
}

std::string shots_text(const std::vector<TaskResult>& results) {
  std::string out;
  for (const TaskResult& result : results) {
    if (result.task == HarnessTask::truthfulqa_mc2 && results.size() > 1) continue;
    out += (out.empty() ? "" : ", ") + task_name(result.task) +
           (is_truthfulqa(result.task) ? " with its six examples" : " " + plural(result.shots, "shot")) + " on " +
           plural(result.questions.size(), "row");
  }
  return out;
}

int run_eval(const EvalOptions& options, Io& io) {
  check_reports(options.common);
  (void)shots_of(options.shots, HarnessTask::arc);  // its spelling, before any byte is read
  SweepDevice device = choose_device(options.device);
  const TaskRows rows = read_rows(options.files, io), examples = read_rows(options.examples, io);
  const std::vector<HarnessTask> tasks = asked_tasks(options, rows);
  const std::vector<PlacedGate> gates = gates_of(options, tasks);
  const formats::Source source = open_source(options.source, options.modifiers, options.common, io);
  check_unmerged(options.modifiers, source);
  const Checkpoint& model = source.checkpoint;
  const auto tokenizer = tokenizer_of(model);
  verify::Around around{leading_ids(model, Corpus{}), {}};
  if (model.vocabulary->pipeline) around.after = model.vocabulary->pipeline->after;
  const int longest = context_of(options.context, model);

  Output output{.command = "eval", .source = source_text(options.source, options.modifiers)};
  output.warnings = model.warnings;
  std::vector<TaskResult> results;
  for (const HarnessTask task : tasks) {
    results.push_back(with_path(task_name(task), [&] {
      return plan_task(task, rows, examples, options, *tokenizer, around, static_cast<std::size_t>(longest));
    }));
    if (results.back().shortened == 0) continue;
    output.warnings.push_back(task_name(task) + ": " + plural(results.back().shortened, "prompt") + " of " +
                              std::to_string(results.back().questions.size()) +
                              " lost their beginnings, being longer than " + std::to_string(longest) + " tokens");
    warn(output.warnings.back(), options.common, io);
  }
  score(results, model, device, options.common, io);

  output.body = {{"harness", "lm_eval 0.4.13"}, {"context", longest},         {"seed", options.seed},
                 {"files", rows.files},         {"examples", examples.files}, {"results", Json::array()}};
  Table table{{{"model"}}, {{output.source.get<std::string>()}}};
  std::vector<PlacedFigure> placed;
  for (const TaskResult& result : results) {
    Json figures = Json::array();
    for (const Figure& figure : figures_of(result)) {
      figures.push_back(figure_json(result, figure));
      const double value = verify::mean_of(figure.values).mean;
      const Json& error = figures.back()["standard_error"];
      table.columns.push_back({task_name(result.task) + " " + figure.name, true});
      table.rows.front().push_back(fixed_text(100 * value, 2) +
                                   (error.is_null() ? "" : " ± " + fixed_text(100 * error.get<double>(), 2)));
      placed.push_back({table.rows.front().front(), figure.name, task_name(result.task), task_name(result.task), value,
                        FigureKind::share});
    }
    output.body["results"].push_back({{"task", formats::harness_task_name(result.task)},
                                      {"few_shot", result.shots},
                                      {"rows", result.questions.size()},
                                      {"shortened", result.shortened},
                                      {"figures", std::move(figures)},
                                      {"questions", questions_json(result)}});
  }
  output.text("multiple choice by log-likelihood, as lm_eval 0.4.13: " + shots_text(results) + on_device(device) +
              unmerged_text(options.modifiers));
  output.table(std::move(table));
  const bool pass = judge_placed(gates, placed, "task", output);
  output.body["device"] = device_json(device);
  output.body["unmerged"] = options.modifiers.unmerged;
  emit(output, options.common, io);
  return pass ? 0 : 1;
}

}  // namespace

Command eval_command() {
  return make_command("eval", "multiple-choice tasks as lm-evaluation-harness scores them", declare, run_eval);
}

}  // namespace ropewalk::tools
