#include <algorithm>
#include <map>
#include <ostream>
#include <set>
#include <sstream>

#include "formats/hub_cache.h"
#include "formats/source.h"
#include "lib/error.h"
#include "lib/file.h"
#include "lib/pending_file.h"
#include "lib/plural.h"
#include "lib/sha256.h"
#include "tools/commands.h"
#include "tools/common_options.h"
#include "tools/content_hash.h"
#include "tools/exit_code.h"
#include "tools/recipe.h"
#include "tools/text_input.h"

namespace ropewalk::tools {
namespace {

namespace fs = std::filesystem;

struct RunOptions {
  std::string recipe;
  bool dry_run = false, rerun_gates = false;
  CommonOptions common;
};

void declare(CommandLine& line, RunOptions& options) {
  line.positional(options.recipe, reads("RECIPE.json"),
                  "sources, outputs and gates; // comments allowed (docs/recipes.md)");
  line.flag("--dry-run", options.dry_run, "say what would be run and why, and do nothing");
  line.flag("--rerun-gates", options.rerun_gates,
            "judge again, whatever the manifest says of gates (it is a note of what was done, not a proof)");
  declare_common(line, options.common);
  line.example("ropewalk run release.json --dry-run", "what is up to date, and what is not and why");
  line.example("ropewalk run release.json --report summary.md --report junit.xml", "makes and judges a release in CI");
}

/// A path that a command reads or wrote, and what stood there.
struct Recorded {
  std::string path;
  Content content;
};
/// A step as the manifest has it. One that began and did not end has no exit code, and the outputs of before.
struct Record {
  std::string version, key;
  std::vector<Recorded> inputs, outputs;
  std::optional<int> exit;

  bool ended_well() const { return exit == 0; }
};

/// What became of a step, or would.
struct StepState {
  std::string state;   // "up to date", "done", "failed", "not run", "would run", "would be refused"
  std::string reason;  // why it is not up to date
  Record record;
  std::string text;                      // what it printed
  std::vector<std::string> failed = {};  // gates that did, or the error it ended with
};

/// Everything the command reads that its words name, but for what it writes. `made`: outputs of steps before, which need
/// not be there yet.
std::vector<std::string> inputs_of(const RecipeStep& step, const std::set<std::string>& made, const Io& io) {
  std::vector<std::string> inputs;
  for (const NamedFile& file : step.files) {
    if (file.role != Role::reads && file.role != Role::adapter) continue;
    for (std::string& path : made.contains(file.value) ? std::vector{file.value} : paths_read(file, io.hub_cache)) {
      if (path == file.value && file.role == Role::reads && is_there(fs::path(path) / "adapter_config.json") &&
          !is_there(fs::path(path) / "config.json"))
        throw Error(ErrorKind::bad_input, {.path = path},
                    "is an adapter alone, whose base a recipe would not see change",
                    "write BASE+ADAPTER in step '" + step.name + "'");
      if (std::ranges::find(inputs, path) == inputs.end()) inputs.push_back(std::move(path));
    }
  }
  return inputs;
}

/// Error(io) where something is written over what is read: by the run itself, or by a step over what it or one
/// before it reads. What a later one reads it has made.
void refuse_shared_paths(const Recipe& recipe, const CommonOptions& common, const Io& io) {
  NamedPaths all = common.named;  // the recipe and the reports
  all.writes.push_back({"the manifest", recipe.manifest});
  std::vector<NamedPath> made;
  for (const RecipeStep& step : recipe.steps) {
    for (NamedPath& input : named_paths(step.files, io.hub_cache).reads) {
      input.as += " of step '" + step.name + "'";
      all.reads.push_back(std::move(input));
    }
    for (const std::string& path : step.written) {
      made.push_back({"the output of step '" + step.name + "'", path});
      for (const NamedPath& input : all.reads) refuse_input(made.back(), input);
    }
  }
  refuse_shared(all);
  all.reads.clear();
  all.writes.insert(all.writes.end(), made.begin(), made.end());
  refuse_shared(all);
}

std::string key_of(const RecipeStep& step, const std::vector<Recorded>& inputs) {
  Json all = {{"version", ROPEWALK_VERSION}, {"command", step.command}, {"outputs", step.outputs}};
  for (const Recorded& input : inputs) all["inputs"].push_back({input.path, input.content.sha256});
  return sha256(all.dump());
}

Json recorded_json(const std::vector<Recorded>& list) {
  Json out = Json::array();
  for (const Recorded& one : list)
    out.push_back({{"path", one.path}, {"sha256", one.content.sha256}, {"bytes", one.content.bytes}});
  return out;
}

Json manifest_json(const Recipe& recipe, const std::map<std::string, Record>& records) {
  Json steps = Json::array();
  for (const RecipeStep& step : recipe.steps) {
    const auto found = records.find(step.name);
    if (found == records.end()) continue;
    const Record& record = found->second;
    steps.push_back({{"name", step.name},
                     {"gate", step.is_gate},
                     {"ropewalk", record.version},
                     {"command", step.command},
                     {"key", record.key},
                     {"inputs", recorded_json(record.inputs)},
                     {"outputs", recorded_json(record.outputs)},
                     {"exit", record.exit ? Json(*record.exit) : Json(nullptr)}});
  }
  return {{"ropewalk", ROPEWALK_VERSION},
          {"manifest", 1},
          {"recipe", {{"path", recipe.path}, {"sha256", recipe.sha256}}},
          {"steps", std::move(steps)}};
}

/// The steps of an earlier run. Error(bad_input) for a file that is no manifest: it would be replaced.
std::map<std::string, Record> read_manifest(const std::string& path) {
  std::map<std::string, Record> records;
  const char* fix = "name another in the recipe, or remove it and give --overwrite: every step is then made anew";
  Json json;
  try {
    if (!is_there(path)) return records;
    json = formats::read_json(path);
  } catch (const Error& error) {
    throw Error(error.kind(), error.where(), "the recipe's manifest cannot be read: " + error.problem(), fix);
  }
  try {
    if (json.at("manifest") != 1)
      throw Error(ErrorKind::bad_input, {.path = path}, "is a recipe's manifest of another version", fix);
    const auto list = [](const Json& items) {
      std::vector<Recorded> out;
      for (const Json& item : items)
        out.push_back({item.at("path").get<std::string>(),
                       {item.at("sha256").get<std::string>(), item.at("bytes").get<std::uint64_t>()}});
      return out;
    };
    for (const Json& step : json.at("steps"))
      records[step.at("name").get<std::string>()] = {
          step.at("ropewalk").get<std::string>(), step.at("key").get<std::string>(), list(step.at("inputs")),
          list(step.at("outputs")),
          step.at("exit").is_null() ? std::nullopt : std::optional(step.at("exit").get<int>())};
  } catch (const Json::exception&) {
    throw Error(ErrorKind::bad_input, {.path = path}, "is no manifest of a recipe, and would be replaced by it", fix);
  }
  return records;
}

/// Why the step has to run, empty if it is up to date. inputs: as they are now.
std::string why_run(const RecipeStep& step, const std::vector<Recorded>& inputs, const Record* before,
                    ContentHashes& hashes) {
  if (!before) return "has not run";
  if (!before->exit) return "was interrupted";
  if (before->version != ROPEWALK_VERSION) return "ropewalk was " + before->version;
  for (const Recorded& input : inputs) {
    const auto old = std::ranges::find(before->inputs, input.path, &Recorded::path);
    if (old == before->inputs.end()) return "'" + input.path + "' is new to it";
    if (old->content != input.content) return "'" + input.path + "' has changed";
  }
  if (before->key != key_of(step, inputs)) return "its command has changed";
  for (const std::string& path : step.written) {
    if (!is_there(path)) return "'" + path + "' is not there";
    const auto old = std::ranges::find(before->outputs, path, &Recorded::path);
    if (old == before->outputs.end() || old->content != hashes.of(path)) return "'" + path + "' has changed";
  }
  if (!before->ended_well()) return step.is_gate ? "it failed" : "it ended with " + std::to_string(*before->exit);
  return "";
}

struct Refusal {
  std::string path, problem;
};
/// Outputs that stand there and are not what this recipe wrote. A step that was interrupted began with none such, so what
/// stands there is its own.
std::vector<Refusal> foreign(const RecipeStep& step, const Record* before, const RunOptions& options,
                             ContentHashes& hashes) {
  std::vector<Refusal> found;
  if (before && !before->exit) return found;
  for (const std::string& path : step.written) {
    if (options.common.overwrite || !is_there(path)) continue;
    const Recorded* old = nullptr;
    if (before)
      for (const Recorded& one : before->outputs)
        if (one.path == path) old = &one;
    if (!old || old->content != hashes.of(path))
      found.push_back(
          {path, old ? "has been changed since this recipe wrote it" : "exists, and this recipe did not write it"});
  }
  return found;
}

/// The folder that `path` is to stand in; empty: the working directory.
fs::path folder_of(const std::string& path) {
  fs::path folder(path);
  if (!folder.has_filename()) folder = folder.parent_path();  // "merged/"
  return folder.parent_path();
}
/// Error(io) where no folder can be made for `path`: what stands above it is a file. Makes nothing.
void check_folders(const std::string& path) {
  for (fs::path above = folder_of(path); !above.empty() && above != above.parent_path(); above = above.parent_path()) {
    std::error_code unreadable;
    if (!is_there(above)) continue;
    if (fs::is_directory(above, unreadable)) return;
    throw Error(ErrorKind::io, {.path = path}, "'" + above.string() + "' is not a folder, and this is to stand in it",
                "correct the path in the recipe, or move the file away");
  }
}
void make_folders(const std::string& path) {
  const fs::path folder = folder_of(path);
  if (folder.empty()) return;
  std::error_code error;
  fs::create_directories(folder, error);
  if (error)
    throw Error(ErrorKind::io, {.path = path}, "its folder cannot be made: " + error.message(),
                "make it, or correct the path in the recipe");
}

/// Runs a step's command in this process. What it prints is kept.
void execute(const RecipeStep& step, StepState& state, ContentHashes& hashes, const RunOptions& options, const Io& io) {
  std::vector<std::string> words = step.command;
  // what stands there is the recipe's own, or given up by --overwrite
  const bool replaces =
      std::ranges::any_of(step.written, [](const std::string& path) { return is_there(path); }) ||
      std::ranges::any_of(step.files, [](const NamedFile& f) { return f.role == Role::keeps && is_there(f.value); });
  if (replaces) words.emplace_back("--overwrite");
  if (options.common.quiet && std::ranges::find(words, "--quiet") == words.end() &&
      std::ranges::find(words, "-q") == words.end())
    words.emplace_back("--quiet");
  std::ostringstream out;
  Io inner{io.in, out, io.err, io.err_is_terminal, io.color, io.hub_cache, {}, {}};
  for (const std::string& path : step.written) make_folders(path);
  if (!options.common.quiet) io.err << "run: " << step.name << "\n";
  state.record.exit = run_cli(words, inner);
  state.text = out.str();
  state.failed = std::move(inner.failed);
  while (state.text.ends_with('\n')) state.text.pop_back();
  state.state = state.record.ended_well() ? "done" : "failed";
  state.record.outputs.clear();  // of one that failed: what it wrote, and what it left as it was
  for (const std::string& path : step.written) {
    hashes.forget(path);
    if (!is_there(path)) {
      if (!state.record.ended_well()) continue;
      throw Error(ErrorKind::bad_input, {.path = path}, "step '" + step.name + "' ended well and did not write it",
                  "correct the output's path in the recipe");
    }
    state.record.outputs.push_back({path, hashes.of(path)});
  }
}

std::string shell_text(const std::vector<std::string>& words) {
  std::string out = "ropewalk";
  for (const std::string& word : words) {
    const bool plain = !word.empty() && word.find_first_not_of(
                                            "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                            "0123456789_-+=:,./@%") == word.npos;
    std::string quoted;
    for (const char c : word) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
    out += " " + (plain ? word : "'" + quoted + "'");
  }
  return out;
}

/// Goes through the steps in order; the manifest is written after each.
std::vector<StepState> go_through(const Recipe& recipe, const RunOptions& options, const Io& io) {
  std::map<std::string, Record> records = read_manifest(recipe.manifest);
  ContentHashes hashes;
  std::set<std::string> made, anew;  // outputs of steps before; of those that would run
  std::vector<StepState> states;
  bool stopped = false;
  check_folders(recipe.manifest);
  for (const RecipeStep& step : recipe.steps)
    for (const std::string& path : step.written) check_folders(path);
  for (const RecipeStep& step : recipe.steps) {
    StepState& state = states.emplace_back();
    const auto found = records.find(step.name);
    const Record* before = found == records.end() ? nullptr : &found->second;
    state.record.version = ROPEWALK_VERSION;
    if (stopped) {
      state.state = "not run", state.reason = "a step before it failed";
      continue;
    }
    for (const std::string& path : inputs_of(step, made, io)) {
      if (anew.contains(path)) state.reason = "'" + path + "' is made anew";
      else state.record.inputs.push_back({path, hashes.of(path)});
    }
    made.insert(step.written.begin(), step.written.end());
    if (state.reason.empty()) state.reason = why_run(step, state.record.inputs, before, hashes);
    if (state.reason.empty() && step.is_gate && options.rerun_gates) state.reason = "--rerun-gates";
    if (state.reason.empty()) {
      state.state = "up to date", state.record = *before;
      continue;
    }
    const std::vector<Refusal> refused = foreign(step, before, options, hashes);
    if (!options.dry_run && !refused.empty())
      throw Error(ErrorKind::io, {.path = refused.front().path}, refused.front().problem,
                  "move it away, or give --overwrite to replace it");
    if (options.dry_run) {
      state.state = refused.empty() ? "would run" : "would be refused";
      if (!refused.empty()) state.reason.clear();
      for (const Refusal& one : refused)
        state.reason += (state.reason.empty() ? "'" : "; '") + one.path + "' " + one.problem;
      anew.insert(step.written.begin(), step.written.end());
      continue;
    }
    make_folders(recipe.manifest);
    state.record.key = key_of(step, state.record.inputs);
    if (before) state.record.outputs = before->outputs;
    const auto record = [&] {
      records[step.name] = state.record;
      write_file(recipe.manifest, json_text(manifest_json(recipe, records)), {.overwrite = true});
    };
    record();
    execute(step, state, hashes, options, io);
    stopped = !state.record.ended_well() && !step.is_gate;
    record();
  }
  return states;
}

Output output_of(const Recipe& recipe, const std::vector<StepState>& states) {
  Output output{.command = "run"};
  output.body = {{"recipe", recipe.path}, {"manifest", recipe.manifest}, {"steps", Json::array()}};
  Table table{{{"step"}, {"state"}, {"why"}}, {}};
  for (std::size_t i = 0; i < states.size(); ++i) {
    const RecipeStep& step = recipe.steps[i];
    const StepState& state = states[i];
    if (!state.text.empty()) output.text(shell_text(step.command) + "\n\n" + state.text);
    else if (state.state.starts_with("would")) output.text(shell_text(step.command));
    table.rows.push_back({step.name, state.state, state.reason});
    const bool ran = state.state == "done" || state.state == "failed" || state.state == "up to date";
    output.body["steps"].push_back({{"name", step.name},
                                    {"gate", step.is_gate},
                                    {"state", state.state},
                                    {"reason", state.reason.empty() ? Json(nullptr) : Json(state.reason)},
                                    {"command", step.command},
                                    {"inputs", recorded_json(state.record.inputs)},
                                    {"outputs", recorded_json(state.record.outputs)},
                                    {"exit", ran ? Json(*state.record.exit) : Json(nullptr)}});
    std::string why = ran ? "exit " + std::to_string(*state.record.exit) : state.state;
    for (const std::string& one : state.failed) why += (&one == &state.failed.front() ? ": " : "; ") + one;
    output.checks.push_back({step.name, ran && state.record.ended_well(), why});
  }
  output.csv = table;
  output.table(std::move(table));
  return output;
}

int run_run(const RunOptions& options, Io& io) {
  check_reports(options.common);
  const Recipe recipe = parse_recipe(options.recipe, read_text(options.recipe, io));
  refuse_shared_paths(recipe, options.common, io);
  const std::vector<StepState> states = go_through(recipe, options, io);
  int exit = 0;  // of the first output that failed, else 1 if a gate did
  for (std::size_t i = 0; i < states.size(); ++i)
    if (states[i].state == "failed" && exit == 0) exit = *states[i].record.exit;
  if (std::ranges::find(states, "would be refused", &StepState::state) != states.end())
    exit = exit_code(ErrorKind::io);  // as the run itself would end
  Output output = output_of(recipe, states);
  output.body["pass"] = exit == 0 && !options.dry_run;
  if (options.dry_run) output.checks.clear();
  emit(output, options.common, io);
  return exit;
}

}  // namespace

Command run_command() {
  return make_command("run", "makes and judges what a recipe says, skipping what is up to date", declare, run_run);
}

}  // namespace ropewalk::tools
