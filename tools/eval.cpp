#include <algorithm>
#include <charconv>
#include <cmath>
#include <iterator>
#include <map>
#include <optional>
#include <set>

#include "formats/harness_tasks.h"
#include "lib/error.h"
#include "lib/sha256.h"
#include "tools/commands.h"
#include "tools/common_options.h"
#include "tools/describe.h"
#include "tools/eval_results.h"
#include "tools/placed_gates.h"
#include "tools/served_context.h"
#include "tools/text_input.h"
#include "tools/units.h"
#include "tools/window_scores.h"

namespace ropewalk::tools {
namespace {

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
  KeptSweeps kept;
  CommonOptions common;
};

void declare(CommandLine& line, EvalOptions& options) {
  line.positional(options.source, reads("SOURCE"), "the model");
  line.positionals(options.files, reads("FILE"),
                   "rows of the tasks, .jsonl or .jsonl.zst; how to export them: docs/eval.md", 1);
  line.option("--tasks", options.tasks, "T[,T...]", "arc, hellaswag, mmlu, truthfulqa (default: all that FILEs hold)");
  line.option(
      "--few-shot,--num-fewshot,--num_fewshot", options.shots, "N|T=N[,T=N...]",
      "examples before each row, of all tasks or by task: arc=25,hellaswag=10,mmlu=5 (default 0; truthfulqa has "
      "its own prompt)");
  line.option(
      "--examples", options.examples, reads("FILE"),
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
  declare_kept_sweeps(line, options.kept);
  declare_common(line, options.common);
  line.example("ropewalk eval model arc-test.jsonl --examples arc-train.jsonl --few-shot 25 --min acc_norm@arc=58%",
               "the row of a model card, as a gate");
  line.example("ropewalk eval model.gguf hellaswag.jsonl.zst truthfulqa.jsonl --limit 500",
               "of a GGUF, the first 500 rows");
}

/// Rows of all files, by task.
struct TaskRows {
  std::map<HarnessTask, std::vector<HarnessRow>> rows;
  Json files = Json::array();
};
TaskRows read_rows(const std::vector<std::string>& files, const Io& io) {
  TaskRows out;
  for (const std::string& file : files) {
    const std::string text = read_text(file, io), hash = sha256(text);
    for (const Json& before : out.files)
      if (before["sha256"] == hash)
        throw Error(ErrorKind::usage, {},
                    "'" + file + "' has the same rows as '" + before["path"].get<std::string>() + "'",
                    "give each file once, or every row of it counts twice");
    formats::HarnessRows read = formats::read_harness_rows(file, text);
    out.files.push_back({{"path", file},
                         {"sha256", hash},
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

/// Error(usage) for a task that --few-shot names and that none of `tasks` is.
void check_shots(const std::string& text, const std::vector<HarnessTask>& tasks) {
  for (const std::string& part : split_list(text)) {
    const std::string name = part.substr(0, part.find('='));
    const auto named = formats::harness_tasks_from_name(name);
    if (named.empty() || std::ranges::find_first_of(named, tasks) != named.end()) continue;
    throw Error(ErrorKind::usage, {}, "--few-shot has '" + part + "', and " + name + " is not evaluated",
                "leave it out, or add a FILE with its rows");
  }
}

/// --few-shot for one task.
std::size_t shots_of(const std::string& text, HarnessTask task) {
  if (is_truthfulqa(task)) return 0;  // the harness ignores --num_fewshot there
  std::size_t shots = 0;
  std::set<std::string> seen;
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
    if (!seen.insert(name).second)
      throw Error(ErrorKind::usage, {}, "--few-shot has '" + name + "' twice", "give each once");
    if (name.empty() || name == task_name(task)) shots = count;
  }
  return shots;
}

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

/// All choices of all tasks in as few sweeps as memory allows; what they have in common but for their last ids once.
void score(std::vector<TaskResult>& results, const Checkpoint& model, SweepDevice& device, const CommonOptions& common,
           const Io& io) {
  verify::ChoiceContexts contexts;
  std::vector<verify::ChoiceContexts::Place> places;  // of all choices in turn
  for (const TaskResult& result : results)
    for (const Question& question : result.questions)
      for (const verify::ChoiceWindow& choice : question.windows) places.push_back(contexts.add(choice));
  std::vector<std::size_t> lengths;
  for (std::size_t at = 0; at < contexts.size(); ++at) lengths.push_back(contexts.window(at).size());
  std::vector<verify::EndedScore> scores;
  sweep_windows(
      model, lengths,
      [&](std::size_t first, std::size_t last, const verify::SweepOptions& options) {
        std::vector<verify::Window> some;
        for (std::size_t at = first; at < last; ++at) some.push_back(contexts.window(at));
        const auto endings = std::span(contexts.endings()).subspan(first, last - first);
        std::ranges::move(verify::score_endings(model, some, endings, options), std::back_inserter(scores));
      },
      device, common, io);
  auto place = places.begin();
  for (TaskResult& result : results)
    for (Question& question : result.questions)
      for (const verify::ChoiceWindow& choice : question.windows) {
        question.log_likelihoods.push_back(verify::log_likelihood(choice, scores[place->window], place->ending));
        ++place;
      }
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

std::string no_verdict(const EvalOptions& options) {
  return options.max.empty() && options.min.empty() ? "eval without --max or --min" : "";
}

int run_eval(const EvalOptions& options, Io& io) {
  check_reports(options.common, {.sarif = true});
  (void)shots_of(options.shots, HarnessTask::arc);  // its spelling, before any byte is read
  SweepDevice device = choose_device(options.device);
  keep_sweeps(options.kept, options.common, device, io);
  const TaskRows rows = read_rows(options.files, io), examples = read_rows(options.examples, io);
  const std::vector<HarnessTask> tasks = asked_tasks(options, rows);
  check_shots(options.shots, tasks);
  const std::vector<PlacedGate> gates = gates_of(options, tasks);
  const formats::Source source = open_source(options.source, to_encode(options.modifiers), options.common, io);
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
    if (const auto n = static_cast<std::size_t>(std::ranges::count_if(result.questions, unjudged))) {
      output.warnings.push_back(
          task_name(result.task) + ": " + plural(n, "row") + " of " + std::to_string(result.questions.size()) +
          " with a log-likelihood that is no number: the task has no figures, the model is damaged");
      warn(output.warnings.back(), options.common, io);
    }
    Json figures = Json::array();
    for (const Figure& figure : figures_of(result)) {
      figures.push_back(figure_json(result, figure));
      const auto [value, error] = mean_of(result, figure);
      table.columns.push_back({task_name(result.task) + " " + figure.name, true});
      table.rows.front().push_back(fixed_text(100 * value, 2) + (error ? " ± " + fixed_text(100 * *error, 2) : ""));
      PlacedFigure& one =
          placed.emplace_back(PlacedFigure{table.rows.front().front(), figure.name, task_name(result.task),
                                           task_name(result.task), value, FigureKind::share});
      one.file = described_by(source);
      if (!error || std::isnan(value)) continue;
      const double half = verify::kNormal95 * *error;
      one.interval = {std::max(0.0, value - half), std::min(1.0, value + half)};
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
  return judge_and_emit({gates, std::move(placed), "task", options.modifiers.unmerged}, device, options.common, io,
                        output);
}

}  // namespace

Command eval_command() {
  return make_command("eval", "multiple-choice tasks as lm-evaluation-harness scores them", declare, run_eval,
                      {.no_verdict = no_verdict});
}

}  // namespace ropewalk::tools
