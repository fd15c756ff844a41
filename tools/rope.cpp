#include <algorithm>
#include <filesystem>
#include <set>

#include "lib/error.h"
#include "lib/pending_file.h"
#include "lib/plural.h"
#include "tools/commands.h"
#include "tools/common_options.h"
#include "tools/rope_chart.h"
#include "tools/rope_report.h"
#include "tools/units.h"

namespace ropewalk::tools {
namespace {

struct RopeOptions {
  std::vector<std::string> sources, engines;
  std::optional<int> context, sequence_length;
  bool flags = false, list_engines = false;
  std::optional<std::string> svg;
  CommonOptions common;
};

void declare(CommandLine& line, RopeOptions& options) {
  line.positionals(options.sources, reads("SOURCE"),
                   "a folder, a bare config.json, a GGUF or org/name in the Hub cache", 0);
  line.option("--engine,--target", options.engines, "ENGINE[@VERSION]|all",
              "what this engine makes of it, beside what is meant. Repeatable; all: the newest of each");
  line.context_option("-c,--context,--ctx-size", options.context, "N", "tokens to be served (default: what is meant)");
  line.context_option("--sequence-length", options.sequence_length, "T",
                      "length of the sequence, for ropes that depend on it (default: the context)");
  line.flag("--flags", options.flags,
            "for each engine the flags that make it run the file right as it is, or why none can");
  line.option("--svg", options.svg, writes("FILE"), "draw the frequencies, and where engines part");
  line.flag("--list-engines", options.list_engines, "the engines and versions whose rules are known");
  declare_common(line, options.common);
  line.example("ropewalk rope Yarn-Llama-2-7b-64k", "every pair: wavelength, frequency before and after, band");
  line.example("ropewalk rope config.json --engine all", "what the newest engines make of it, side by side");
  line.example("ropewalk rope Qwen3-8B --engine transformers@4.51.3 --engine vllm@0.24", "versions differ");
  line.example("ropewalk rope Qwen3-8B+rope=yarn,factor=4,original=32k --flags",
               "flags for the file as it is; without --flags: what engines would make of the file extend writes");
  line.example("ropewalk rope model.gguf -c 64k --svg rope.svg", "as llama.cpp reads it, drawn");
}

std::vector<formats::EngineVersion> engines_of(const RopeOptions& options) {
  std::vector<formats::EngineVersion> engines;
  std::set<std::string> seen;
  const auto add = [&](const formats::EngineVersion& engine) {
    if (seen.insert(engine.title()).second) engines.push_back(engine);
  };
  std::vector<std::string> names = options.engines;
  if (names.empty() && options.flags) names = {"all"};
  for (const std::string& name : names) {
    if (name != "all") add(formats::parse_engine(name));
    else
      for (const formats::EngineVersion& engine : formats::newest_engines()) add(engine);
  }
  return engines;
}

void check(const RopeOptions& options) {
  const auto usage = [](const std::string& problem, const std::string& fix) {
    throw Error(ErrorKind::usage, {}, problem, fix);
  };
  if (options.sources.size() > 1)
    usage("rope takes one SOURCE, " + std::to_string(options.sources.size()) + " were given",
          "engines are compared with --engine");
  if (options.list_engines && (!options.sources.empty() || !options.engines.empty() || options.flags || options.svg ||
                               options.context || options.sequence_length))
    usage("--list-engines stands alone", "leave the rest out");
  if (!options.list_engines && options.sources.empty())
    usage("SOURCE is missing", "name a folder, a config.json or a GGUF, or ask for --list-engines");
  check_reports(options.common);
  if (options.svg && std::filesystem::path(*options.svg).extension() != ".svg")
    throw Error(ErrorKind::usage, {}, "--svg '" + *options.svg + "' is no name of a drawing", "give NAME.svg");
  if (options.svg) PendingFile probe(*options.svg, 1, {.overwrite = options.common.overwrite, .sync = false});
}

/// Why nobody can say what is meant, and who reads the file all the same.
Error with_readers(const RopeSource& source) {
  const Error& trouble = *source.trouble;
  std::vector<std::pair<std::string, std::vector<std::string>>> groups;
  for (const formats::EngineVersion& engine : formats::newest_engines()) {
    const formats::EngineReading reading = source.read(engine, {});
    if (reading.error || reading.ropes.empty()) continue;
    const std::string rope = describe(reading.ropes[0].spec);
    auto same = std::find_if(groups.begin(), groups.end(), [&](const auto& one) { return one.first == rope; });
    if (same == groups.end()) same = groups.insert(groups.end(), {rope, {}});
    same->second.push_back(engine.title());
  }
  std::string readers;
  for (const auto& [rope, engines] : groups)
    readers +=
        (readers.empty() ? "" : ", ") + listed(engines) + " " + (engines.size() == 1 ? "reads " : "read ") + rope;
  std::string fix = trouble.fix();
  if (!readers.empty() && fix.find("--engine") == std::string::npos)
    fix += "; --engine all shows what others make of it";
  if (!readers.empty()) fix += ": " + readers;
  else if (fix == "--engine shows what others make of it") fix = "no engine known here reads a rope in it";
  return {trouble.kind(), trouble.where(), trouble.problem(), fix};
}

int run_rope(const RopeOptions& options, Io& io) {
  check(options);
  if (options.list_engines) {
    emit(engine_list(), options.common, io);
    return 0;
  }
  RopeQuestion question;
  question.engines = engines_of(options);
  question.flags = options.flags;
  const RopeSource source = open_rope_source(options.sources[0], options.context, io);
  if (!source.meant && (options.engines.empty() || options.flags)) throw with_readers(source);
  if (source.unwritten && !options.flags) throw *source.unwritten;  // flags are for the file as it is
  question.options.context = options.context;
  question.sequence_length =
      options.sequence_length.value_or(source.meant ? source.meant->context : options.context.value_or(4096));
  if (question.sequence_length < 1)
    throw Error(ErrorKind::usage, {}, "the sequence has no token", "give --sequence-length");
  const std::vector<RopeTarget> targets = ask_engines(source, question);

  Output output{.command = "rope", .source = source.text, .warnings = source.warnings};
  for (const std::string& warning : source.warnings) warn(warning, options.common, io);
  output.body = rope_report_json(source, targets, question);
  if (options.flags) show_flags(output, targets);
  else if (targets.empty()) show_meaning(output, source, question.sequence_length);
  else show_engines(output, source, targets, question);
  if (options.svg)
    write_file(*options.svg,
               rope_chart(rope_readings(source, targets),
                          {source.text, source.declared, question.sequence_length, without_rope(targets)}),
               {.overwrite = options.common.overwrite, .sync = false});
  emit(output, options.common, io);
  return 0;
}

}  // namespace

Command rope_command() {
  return make_command("rope",
                      "what a rope does to every pair, what each engine makes of it, and the flags that mend it",
                      declare, run_rope);
}

}  // namespace ropewalk::tools
