#include <algorithm>
#include <filesystem>
#include <sstream>

#include "formats/hub_cache.h"
#include "formats/lint/lint_fix.h"
#include "formats/source.h"
#include "lib/ascii_case.h"
#include "lib/error.h"
#include "lib/nearest_word.h"
#include "tools/commands.h"
#include "tools/common_options.h"
#include "tools/lint_formats.h"
#include "tools/one_line.h"
#include "tools/units.h"

namespace ropewalk::tools {
namespace {

namespace fs = std::filesystem;
using formats::Finding;
using formats::LintRule;
using formats::Severity;

struct LintCommandOptions {
  std::vector<std::string> sources, engines, select, ignore;
  std::optional<int> context;
  std::optional<std::string> explain, format;
  bool list_rules = false, fix = false, dry_run = false, no_sync = false;
  CommonOptions common;
};

void declare(CommandLine& line, LintCommandOptions& options) {
  line.positionals(options.sources, reads("SOURCE"),
                   "a model's folder, a config.json, a GGUF, or org/name in the Hub cache", 0);
  line.group("What counts");
  line.option(
      "--engine,--target", options.engines, "ENGINE[@VERSION]|all",
      "what hurts this engine is an error (default: the newest of each is asked, and only what hurts all of them "
      "is one). Repeatable");
  line.context_option("-c,--context,--ctx-size", options.context, "N",
                      "the context that is to be served (default: what the file declares)");
  line.option("--select", options.select, "RULES", "only these: R08,R2 (all that begin so),remote-code. Repeatable");
  line.option("--ignore", options.ignore, "RULES", "all but these. Repeatable");
  line.group("Output");
  line.option("--format", options.format, "text|github|sarif", "what standard output gets");
  line.option("--explain", options.explain, "RULE", "what a rule is about, and where it was seen; no SOURCE is needed");
  line.flag("--list-rules", options.list_rules, "all rules, a line each");
  line.group("Fixing");
  line.flag(
      "--fix", options.fix,
      "write the fixes after which no engine, of any known version, reads the files worse; never in the Hub cache");
  line.flag("--dry-run", options.dry_run, "with --fix: show the changes, write nothing");
  line.flag("--no-sync", options.no_sync, "with --fix: do not wait for the disk");
  declare_common(line, options.common);
  line.example("ropewalk lint ./Qwen2.5-7B-Instruct", "what engines of today make of its rope, and where they part");
  line.example("ropewalk lint config.json --engine vllm@0.10 --engine llama.cpp -c 128k",
               "for these two at that length");
  line.example("ropewalk lint . --format github", "annotations in a workflow; the exit code is 1 on errors");
  line.example("ropewalk lint ./model --fix --dry-run", "the safe fixes as a diff");
}

[[noreturn]] void usage(const std::string& problem, const std::string& fix) {
  throw Error(ErrorKind::usage, {}, problem, fix);
}

/// Ids that begin, in either case, with one of the words, or whose name it is.
std::vector<std::string_view> chosen(const std::vector<std::string>& lists, const char* option) {
  std::vector<std::string_view> ids;
  for (const std::string& list : lists)
    for (const std::string& word : split_list(list)) {
      const std::size_t before = ids.size();
      std::vector<std::string> known;
      for (const LintRule& rule : formats::lint_rules()) {
        if (!word.empty() && (rule.id.starts_with(upper_case(word)) || rule.name == word)) ids.push_back(rule.id);
        known.emplace_back(rule.id), known.emplace_back(rule.name);
      }
      if (ids.size() > before) continue;
      const std::optional<std::string> near = nearest_word(word, known);
      usage(
          std::string(option) + " has '" + word + "', which is no rule" + (near ? "; did you mean " + *near + "?" : ""),
          "lint --list-rules shows them");
    }
  return ids;
}

void filter(std::vector<Finding>& findings, const LintCommandOptions& options) {
  const std::vector<std::string_view> select = chosen(options.select, "--select"),
                                      ignore = chosen(options.ignore, "--ignore");
  const auto none_left = [&](std::string_view id) {
    return std::find(ignore.begin(), ignore.end(), id) != ignore.end();
  };
  if (!select.empty() && std::all_of(select.begin(), select.end(), none_left))
    usage("--ignore names every rule that --select does, and none is left", "leave one of them out");
  std::erase_if(findings, [&](const Finding& finding) {
    const auto in = [&](const std::vector<std::string_view>& ids) {
      return std::find(ids.begin(), ids.end(), finding.rule) != ids.end();
    };
    return (!options.select.empty() && !in(select)) || in(ignore);
  });
}

Json rule_json(const LintRule& rule) {
  return {{"id", rule.id},
          {"name", rule.name},
          {"severity", formats::severity_name(rule.severity)},
          {"by_engine", rule.by_engine},
          {"summary", rule.summary},
          {"why", rule.why},
          {"sources", rule.sources}};
}

int explain(const LintCommandOptions& options, Io& io) {
  const std::vector<std::string_view> ids = chosen({*options.explain}, "--explain");
  Output output{.command = "lint"};
  Json rules = Json::array();
  for (const std::string_view id : ids) {
    const LintRule& rule = *formats::find_lint_rule(id);
    rules.push_back(rule_json(rule));
    std::string text = std::string(rule.id) + " " + std::string(rule.name) + " (" +
                       formats::severity_name(rule.severity) + (rule.by_engine ? ", by who is hurt" : "") +
                       "): " + std::string(rule.summary) + "\n\n" + std::string(rule.why);
    if (!rule.sources.empty()) text += "\n\nseen in: " + std::string(rule.sources);
    output.text(text + "\n");
  }
  output.body = {{"context", nullptr},        {"engines", Json::array()}, {"errors", 0},   {"notes", 0}, {"warned", 0},
                 {"findings", Json::array()}, {"fixed", Json::array()},   {"rules", rules}};
  emit(output, options.common, io);
  return 0;
}

int list_rules(const LintCommandOptions& options, Io& io) {
  Output output{.command = "lint"};
  Table table{{{"rule"}, {"name"}, {"severity"}, {"what"}}, {}};
  Json rules = Json::array();
  for (const LintRule& rule : formats::lint_rules()) {
    rules.push_back(rule_json(rule));
    table.rows.push_back({std::string(rule.id), std::string(rule.name),
                          std::string(formats::severity_name(rule.severity)) + (rule.by_engine ? ", by engine" : ""),
                          std::string(rule.summary)});
  }
  output.body = {{"context", nullptr},        {"engines", Json::array()}, {"errors", 0},   {"notes", 0}, {"warned", 0},
                 {"findings", Json::array()}, {"fixed", Json::array()},   {"rules", rules}};
  output.table(std::move(table));
  emit(output, options.common, io);
  return 0;
}

/// Inside a Hub cache, ours or any other: its files are shared by every program of the machine.
bool in_hub_cache(const fs::path& file, const fs::path& hub_cache) {
  std::error_code ignored;
  for (const fs::path& path : {fs::absolute(file, ignored).lexically_normal(), fs::weakly_canonical(file, ignored)}) {
    for (const fs::path& part : path)
      if (part.string().starts_with("models--")) return true;
    if (hub_cache.empty()) continue;
    const fs::path root = fs::weakly_canonical(hub_cache, ignored);
    const auto [end, at] = std::mismatch(root.begin(), root.end(), path.begin(), path.end());
    if (end == root.end()) return true;
  }
  return false;
}

/// Makes the safe fixes and reads the files again, or shows them.
Json fix(const fs::path& path, const LintCommandOptions& options, const formats::LintOptions& asked,
         formats::LintInput& input, std::vector<Finding>& findings, Output& output, const Io& io) {
  for (const auto& file : {input.config, input.tokenizer_config, input.generation_config})
    if (file && in_hub_cache(file->path, io.hub_cache))
      throw Error(ErrorKind::io, {.path = file->path}, "the file is in the Hub cache, which other programs share",
                  "copy the folder and fix the copy");
  const formats::LintFixes fixes = formats::safe_fixes(input, asked, findings);
  Json list = Json::array();
  for (const formats::LintFix& one : fixes.fixes) {
    list.push_back({{"rule", one.rule},
                    {"file", one.file},
                    {"pointer", one.pointer},
                    {"change", one.what},
                    {"made", one.rejected.empty() && !options.dry_run},
                    {"rejected", one.rejected.empty() ? Json(nullptr) : Json(one.rejected)}});
    output.text(std::string(one.rejected.empty() ? (options.dry_run ? "would fix" : "fixed") : "left") + "[" +
                std::string(one.rule) + "]: " + one.file + ": " + one.what +
                (one.rejected.empty() ? "" : ": " + one.rejected));
  }
  if (fixes.fixes.empty()) output.text("nothing here has a fix that is safe to make by itself");
  for (const formats::FixedFile& file : fixes.files) {
    if (options.dry_run) output.text(formats::unified_diff(file.path, file.before, file.after));
    else write_file(file.path, file.after, {.overwrite = true, .sync = !options.no_sync});
  }
  if (!options.dry_run && !fixes.files.empty()) {
    input = formats::read_lint_input(path);
    findings = formats::lint(input, asked);
    filter(findings, options);
  }
  return list;
}

/// Wrong combinations, before any file is read.
void check(const LintCommandOptions& options) {
  const bool rules_alone = options.explain || options.list_rules;
  check_reports(options.common, {.table = !options.explain, .sarif = !rules_alone});
  if (rules_alone && (!options.sources.empty() || options.fix))
    usage("--explain and --list-rules take no SOURCE and fix nothing", "leave one out");
  if (options.explain && options.list_rules)
    usage("--explain and --list-rules both say what is shown", "leave one out");
  if (rules_alone && (options.format || options.context || !options.engines.empty() || !options.select.empty() ||
                      !options.ignore.empty()))
    usage("--explain and --list-rules look at no model: --engine, -c, --select, --ignore and --format do nothing there",
          "leave them out; --json gives the rules as JSON");
  if (!rules_alone && options.sources.empty()) usage("SOURCE is missing", "usage: ropewalk lint [options] SOURCE");
  if (options.sources.size() > 1) usage("unexpected argument '" + options.sources[1] + "'", "lint takes one SOURCE");
  if ((options.dry_run || options.no_sync) && !options.fix)
    usage("--dry-run and --no-sync belong to --fix", "add --fix");
  const std::string format = options.format.value_or("text");
  if (format != "text" && format != "github" && format != "sarif")
    usage("--format is '" + format + "'", "give text, github or sarif");
  if (options.format && options.common.json)
    usage("--format and --json both say what standard output gets", "give one of them");
  if (options.fix && format != "text") usage("--fix reports in text or JSON", "run --format " + format + " afterwards");
}

/// Every form of the findings; what is told of fixes stands in `output` already.
void report(const std::vector<Finding>& findings, const Json& fixed, const formats::LintOptions& asked,
            Output& output) {
  Table table{{{"place"}, {"severity"}, {"rule"}, {"message"}, {"fix"}}, {}};
  for (const Finding& finding : findings) {
    output.text(finding_text(finding));
    const std::string place =
        finding.line > 0 ? finding.file + ":" + std::to_string(finding.line) + ":" + std::to_string(finding.column)
                         : finding.file + ": " + finding.pointer;
    table.rows.push_back(
        {place, formats::severity_name(finding.severity), std::string(finding.rule), finding.message, finding.fix});
    output.checks.push_back(
        {std::string(finding.rule) + " " + place, finding.severity != Severity::error, finding.message});
  }
  output.text(summary_text(findings));
  output.csv = std::move(table);
  output.sarif = sarif_log(findings);
  const auto count = [&](Severity severity) {
    return std::count_if(findings.begin(), findings.end(),
                         [&](const Finding& one) { return one.severity == severity; });
  };
  Json engines = Json::array();
  for (const formats::EngineVersion& engine : asked.engines) engines.push_back(engine.title());
  output.body = {{"context", asked.context ? Json(*asked.context) : Json(nullptr)},
                 {"engines", engines},
                 {"errors", count(Severity::error)},
                 {"notes", count(Severity::info)},
                 {"warned", count(Severity::warning)},
                 {"findings", findings_json(findings)},
                 {"fixed", fixed},
                 {"rules", Json::array()}};
}

std::string no_verdict(const LintCommandOptions& options) {
  return options.explain ? "lint --explain" : options.list_rules ? "lint --list-rules" : "";
}

int run_lint(const LintCommandOptions& options, Io& io) {
  check(options);
  if (options.explain) return explain(options, io);
  if (options.list_rules) return list_rules(options, io);

  formats::LintOptions asked;
  for (const std::string& engine : options.engines) {
    if (engine == "all") asked.engines = formats::newest_engines();
    else asked.engines.push_back(formats::parse_engine(engine));
  }
  asked.context = options.context;
  if (formats::parse_source(options.sources[0]).rope)
    usage("lint reads what lies on disk, and '" + options.sources[0].substr(0, 200) + "' has +rope=",
          "leave it out, or write the folder first: ropewalk extend MODEL -o NEW --rope SPEC");
  const fs::path path = formats::path_or_hub(options.sources[0], "model", io.hub_cache);
  formats::LintInput input = formats::read_lint_input(path);
  if (options.fix && input.gguf)
    throw Error(ErrorKind::unsupported, {.path = input.gguf_path}, "--fix changes JSON files in place, never a GGUF",
                "write a corrected copy: ropewalk extend MODEL.gguf --rope SPEC -o FIXED.gguf");
  std::vector<Finding> findings = formats::lint(input, asked);
  filter(findings, options);
  Output output{.command = "lint", .source = options.sources[0]};
  for (const formats::EngineVersion& engine : asked.engines)
    if (!engine.notice.empty()) {
      output.warnings.push_back(engine.notice);
      warn(engine.notice, options.common, io);
    }
  const Json fixed = options.fix ? fix(path, options, asked, input, findings, output, io) : Json::array();
  report(findings, fixed, asked, output);

  const std::string format = options.format.value_or("text");
  if (format == "text") {
    emit(output, options.common, io);
  } else {
    io.out << (format == "github" ? github_lines(findings) : json_text(*output.sarif));
    std::ostringstream unused;
    Io beside{io.in, unused, io.err, io.err_is_terminal, io.color, io.hub_cache};
    emit(output, options.common, beside);  // the reports
    io.out << std::flush;
  }
  const bool errors =
      std::any_of(findings.begin(), findings.end(), [](const Finding& one) { return one.severity == Severity::error; });
  return errors ? 1 : 0;
}

}  // namespace

Command lint_command() {
  return make_command("lint", "what is wrong with a model's rope and context, and for which engines", declare, run_lint,
                      {.no_verdict = no_verdict});
}

}  // namespace ropewalk::tools
