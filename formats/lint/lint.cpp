#include "formats/lint/lint.h"

#include <algorithm>
#include <tuple>

#include "formats/config_file.h"
#include "formats/hf_folder.h"
#include "formats/lint/linter.h"
#include "lib/error.h"
#include "lib/file.h"

namespace ropewalk::formats {
namespace {

Finding unreadable(const std::string& path, const Error& error) {
  Finding finding;
  finding.rule = "R00";
  finding.severity = Severity::error;
  finding.file = path;
  finding.line = error.where().line.value_or(1), finding.column = error.where().column.value_or(1);
  finding.message = error.problem();
  finding.fix = error.fix();
  return finding;
}

std::optional<LintFile> read_file(const std::filesystem::path& path, LintInput& input) {
  std::string text = read_text_file(path, JsonLimits{}.max_bytes);
  try {
    return parse_lint_file(path.string(), std::move(text));
  } catch (const Error& error) {
    input.unreadable.push_back(unreadable(path.string(), error));
    return std::nullopt;
  }
}

}  // namespace

const char* severity_name(Severity severity) {
  switch (severity) {
    case Severity::info: return "info";
    case Severity::warning: return "warning";
    case Severity::error: return "error";
  }
  return "";
}

LintFile parse_lint_file(const std::string& path, std::string text) {
  PythonJson read = parse_python_json(path, std::move(text));
  LintFile file{path, std::move(read.text), std::move(read.json), std::move(read.not_finite)};
  if (!file.json.is_object())
    throw Error(ErrorKind::bad_input, {.path = path, .line = 1, .column = 1}, "is no JSON object",
                "check that this is the right file");
  return file;
}

LintInput read_lint_input(const std::filesystem::path& path) {
  LintInput input;
  const bool folder = is_folder(path);
  if (!folder && path.extension() == ".gguf") {
    input.gguf = read_gguf(path);
    input.gguf_path = path.string();
    return input;
  }
  const std::filesystem::path config = folder ? path / "config.json" : path;
  if (!is_there(config))
    throw Error(ErrorKind::bad_input, {.path = path.string()},
                folder ? "there is no config.json in the folder" : "there is no such file",
                "give a model's folder, a config.json or a .gguf");
  input.config = read_file(config, input);
  if (input.config) require_model_config(input.config->path, input.config->json);
  if (!folder && config.filename() != "config.json") return input;  // its neighbours belong to other models
  for (const auto& [name, slot] : {std::pair{"tokenizer_config.json", &input.tokenizer_config},
                                   std::pair{"generation_config.json", &input.generation_config}})
    if (const std::filesystem::path beside = config.parent_path() / name; is_there(beside))
      *slot = read_file(beside, input);
  if (folder && has_hf_weights(path)) try {
      for (const TensorPtr& tensor : read_hf_files(path).tensors)
        input.tensors.push_back({tensor->name(), tensor->info().shape});
    } catch (const Error&) {
      // weights that do not open are not this command's concern: inspect says what is wrong with them
    }
  return input;
}

std::vector<Finding> lint(const LintInput& input, const LintOptions& options) {
  std::vector<Finding> findings = input.unreadable;
  const auto append = [&](std::vector<Finding> more) {
    findings.insert(findings.end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
  };
  if (input.gguf) append(linting::gguf_rules(input, options));
  if (input.config) {
    linting::Linter linter(input, options);
    linting::parse_rules(linter);
    linting::head_rules(linter);
    linting::number_rules(linter);
    linting::length_rules(linter);
    linting::yarn_rules(linter);
    linting::context_rules(linter);
    linting::meaning_rules(linter);
    linting::engine_rules(linter);
    linting::refused_rope(linter);
    append(linter.take());
  }
  // config.json first; the order of the rules within a line
  std::stable_sort(findings.begin(), findings.end(), [&](const Finding& a, const Finding& b) {
    const auto rank = [&](const Finding& one) { return input.config && one.file == input.config->path ? 0 : 1; };
    return std::tuple(rank(a), a.file, a.line, a.column, a.rule) <
           std::tuple(rank(b), b.file, b.line, b.column, b.rule);
  });
  return findings;
}

}  // namespace ropewalk::formats
