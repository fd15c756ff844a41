#include "tools/common_options.h"

#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <limits>
#include <ostream>

#include "formats/adapters/combine.h"
#include "formats/hf_folder.h"
#include "lib/error.h"
#include "lib/executor.h"
#include "lib/temporary.h"
#include "tools/one_line.h"
#include "tools/output_plan.h"

namespace ropewalk::tools {

void declare_common(CommandLine& line, CommonOptions& options) {
  line.group("Common options");
  line.flag("--json", options.json, "one JSON object on standard output (docs/schema); failures too");
  line.option(
      "--report", options.reports, writes("FILE"),
      "also write the result to FILE: .json, .md, .html, .csv, .xml (JUnit), and .svg and .sarif where the command has "
      "them. Repeatable");
  line.option("-t,--threads", options.threads, 1, 4096, "N", "threads (default: all this process may use)");
  line.flag("-q,--quiet", options.quiet, "no progress and no warnings on standard error");
  line.flag("--overwrite,--force", options.overwrite, "replace outputs and reports that exist");
}

void declare_writer(CommandLine& line, WriterOptions& options) {
  line.group("Writing");
  line.flag("--dry-run", options.dry_run, "check everything and print the plan, write nothing");
  line.flag("--no-sync", options.no_sync, "do not wait for the disk. An interrupted machine may then lose the output");
}

WriteOptions write_options(const CommonOptions& common, const WriterOptions& writer) {
  return {.overwrite = common.overwrite, .sync = !writer.no_sync};
}

void declare_modifiers(CommandLine& line, SourceOptions& options) {
  line.group("Source");
  line.option("-a,--adapter,--lora", options.adapters, {"DIR[:SCALE]", Role::adapter},
              "apply this adapter to SOURCE; the same as SOURCE+DIR[:SCALE]. Repeatable");
  line.option(
      "--rope", options.rope, "SPEC",
      "replace the rope: METHOD[,key=value]..., e.g. yarn,factor=8 or yarn,to=64k. The same as SOURCE+rope=SPEC");
}

void declare_no_modifiers(CommandLine& line) {
  line.refused_option("-a,--adapter,--lora", [](const std::string& value) {
    return std::pair("-a belongs to commands with one SOURCE", "write it to the one it is for: SOURCE+" + value);
  });
  line.refused_option("--rope", [](const std::string& value) {
    return std::pair("--rope belongs to commands with one SOURCE",
                     "write it to the one it is for: SOURCE+rope=" + value);
  });
}

void declare_merge(CommandLine& line, SourceOptions& options) {
  line.group("Merging");
  line.option("--dtype", options.dtype, "TYPE",
              "dtype every float tensor is rounded to, once, merged or not (default: each base tensor's own)");
  line.flag("--saturate", options.saturate, "clamp what overflows float16 instead of refusing it");
  line.option(
      "--combine", options.combine, "TYPE[,density=D][,rank=R][,sign=frequency][,clamp=Q]",
      "adapters as one, whose scales are weights: linear, cat, svd, ties, dare_linear, dare_ties, magnitude_prune "
      "(and each of the last four with _svd), as PEFT's add_weighted_adapter; one adapter alone is linear (default: "
      "one "
      "after the other, their weighted sum)");
  line.option("--seed", options.seed, 0, std::numeric_limits<int>::max(), "N",
              "of what dare drops (default 0; not torch's numbers)");
  line.option("--qlora-base", options.qlora_base, "original|nf4",
              "what adapters are merged into: the base as it is (default), or its linear layers through NF4 and back, "
              "bit for bit as bitsandbytes: what a QLoRA was trained on");
  line.option("--tokenizer", options.tokenizer, reads("auto|base|adapter|DIR"),
              "which tokenizer the result carries (auto: the adapter's if it has one whose ids fit)");
}

void declare_unmerged(CommandLine& line, SourceOptions& options) {
  line.flag("--unmerged", options.unmerged,
            "compute with adapters unmerged, W x + scale B (A x), as PEFT does before merge_and_unload (default: with "
            "the weights that a merge would write)");
}

void check_unmerged(const SourceOptions& options, const formats::Source& source) {
  if (options.unmerged && source.adapters.empty())
    throw Error(ErrorKind::usage, {}, "--unmerged was given, and '" + source.spec.text + "' has no adapter",
                "leave it out, or name the adapter: SOURCE+ADAPTER");
}

std::string unmerged_text(const SourceOptions& options) { return options.unmerged ? "; adapters not merged" : ""; }

SourceOptions to_encode(SourceOptions options, bool needed) {
  if (needed) options.tokenizer_use = formats::TokenizerUse::encoding;
  return options;
}

formats::OpenOptions open_options(const SourceOptions& options) {
  formats::OpenOptions open;
  if (options.dtype) {
    open.merge_dtype = dtype_from_name(*options.dtype);
    if (open.merge_dtype != DType::f32 && open.merge_dtype != DType::f16 && open.merge_dtype != DType::bf16)
      throw Error(ErrorKind::usage, {}, "--dtype is '" + *options.dtype + "'", "give f32, f16 or bf16");
  }
  if (options.qlora_base && *options.qlora_base != "original" && *options.qlora_base != "nf4")
    throw Error(ErrorKind::usage, {}, "--qlora-base is '" + *options.qlora_base + "'", "give original or nf4");
  open.nf4_base = options.qlora_base == "nf4";
  open.qlora_advice = !options.qlora_base;
  open.saturate = options.saturate;
  open.blocks = options.blocks;
  open.unmerged = options.unmerged;
  if (options.combine) {
    open.combine = formats::parse_combination(*options.combine);
    open.combine->seed = std::uint64_t(options.seed.value_or(0));
  } else if (options.seed) {
    throw Error(ErrorKind::usage, {}, "--seed was given without --combine", "leave it out");
  }
  open.tokenizer_use = options.tokenizer_use;
  open.model_use = options.model_use;
  using Choice = formats::OpenOptions::TokenizerChoice;
  if (options.tokenizer == "auto") open.tokenizer = Choice::automatic;
  else if (options.tokenizer == "base") open.tokenizer = Choice::base;
  else if (options.tokenizer == "adapter") open.tokenizer = Choice::adapter;
  else open.tokenizer = Choice::folder, open.tokenizer_folder = options.tokenizer;
  return open;
}

std::string source_text(const std::string& text, const SourceOptions& options) {
  const formats::SourceSpec own = formats::parse_source(text);
  if (options.rope && own.rope)
    throw Error(ErrorKind::usage, {}, "'" + text + "' has a rope of its own and --rope gives another",
                "give one of them");
  const std::string rope = own.rope ? "+rope=" + *own.rope : options.rope ? "+rope=" + *options.rope : "";
  std::string whole = own.rope ? text.substr(0, text.size() - rope.size()) : text;  // a rope stands last
  for (const std::string& adapter : options.adapters) whole += "+" + adapter;
  return whole + rope;
}

void warn(const std::string& warning, const CommonOptions& common, const Io& io) {
  if (!common.quiet && io.warned.insert(warning).second)
    io.err << (io.color ? "\033[33mwarning:\033[0m " : "warning: ") << one_line(warning) << "\n";
}

void refuse_inputs(const CommonOptions& common, const std::vector<std::filesystem::path>& inputs,
                   const std::string& as) {
  for (const NamedPath& output : common.named.writes)
    for (const std::filesystem::path& input : inputs) refuse_input(output, {as, input.string()});
}

void refuse_output(const CommonOptions& common, const std::filesystem::path& output, const std::string& as) {
  for (const NamedPath& input : common.named.reads) {
    refuse_input({as, output.string()}, input);
    if (holds(output.string(), input.path))
      throw Error(ErrorKind::io, {.path = output.string()},
                  as + " would replace the folder of '" + input.path + "', which is read as " + input.as,
                  "write it elsewhere");
  }
}

formats::Source open_source(const std::string& text, const SourceOptions& options, const CommonOptions& common,
                            const Io& io) {
  const formats::SourceSpec spec = formats::parse_source(source_text(text, options));
  formats::Source source = formats::open_source(spec, open_options(options), io.hub_cache);
  refuse_inputs(common, weight_files(source), "a file of '" + spec.text + "'");
  for (const std::string& warning : source.checkpoint.warnings) warn(warning, common, io);
  return source;
}

formats::Source open_tokenizer(const std::string& text, const CommonOptions& common, const Io& io) {
  std::optional<formats::Source> source = formats::open_tokenizer(formats::parse_source(text), io.hub_cache);
  if (!source) return open_source(text, to_encode({}), common, io);
  for (const std::string& warning : source->checkpoint.warnings) warn(warning, common, io);
  return std::move(*source);
}

namespace {

std::string report_text(const std::string& extension, const Output& output) {
  if (extension == ".json") return json_text(output.error ? Json{{"error", *output.error}} : envelope(output));
  if (extension == ".md") return render_markdown(output);
  if (extension == ".csv") return render_csv(output);
  if (extension == ".sarif") return json_text(*output.sarif);
  if (extension == ".html") return render_html(output);
  if (extension == ".svg") return render_svg(output);
  return render_junit(output);
}

}  // namespace

bool is_model_file(const std::filesystem::path& file) {
  std::error_code ignored;
  const std::string name = file.filename().string();
  return (name == "README.md" && std::filesystem::exists(file.parent_path() / "config.json", ignored)) ||
         name.ends_with("config.json") || name.ends_with(".index.json") || name.ends_with(".gguf") ||
         name.ends_with(".safetensors") || formats::is_tokenizer_file(name);
}

void refuse_model_file(const std::filesystem::path& report) {
  std::error_code ignored;
  if (!std::filesystem::exists(report, ignored) || !is_model_file(report)) return;
  throw Error(ErrorKind::io, {.path = report.string()}, "is a file of a model, and a report would replace it",
              "give the report another name");
}

void check_reports(const CommonOptions& common, const ReportKinds& kinds) {
  for (const std::string& report : common.reports) {
    const std::string extension = std::filesystem::path(report).extension().string();
    const bool known = extension == ".json" || extension == ".md" || extension == ".html" || extension == ".csv" ||
                       extension == ".xml" || (extension == ".sarif" && kinds.sarif) ||
                       (extension == ".svg" && kinds.drawings);
    if (!known)
      throw Error(ErrorKind::usage, {}, "--report '" + report + "' has an unknown kind '" + extension + "'",
                  "use .json, .md, .html, .csv" + std::string(kinds.drawings ? ", .svg" : "") +
                      (kinds.sarif ? ", .sarif" : "") + " or .xml (JUnit)");
    if (extension == ".csv" && !kinds.table)
      throw Error(ErrorKind::usage, {}, "--report '" + report + "': this command's result is no table",
                  "use .json, .md, .html or .xml (JUnit)");
    std::error_code ignored;
    if (!common.overwrite && std::filesystem::exists(report, ignored))
      throw Error(ErrorKind::io, {.path = report}, "the report exists", "give another name or --overwrite");
    refuse_model_file(report);
    const std::filesystem::path whole = std::filesystem::absolute(report, ignored);
    if (::access(whole.parent_path().c_str(), W_OK | X_OK) != 0) throw_output_error(report, "write the report", errno);
  }
}

bool is_report(const std::filesystem::path& file) {
  std::string head(512, '\0');
  std::ifstream in(file, std::ios::binary);
  in.read(head.data(), static_cast<std::streamsize>(head.size()));
  head.resize(static_cast<std::size_t>(in.gcount()));
  return head.find("ropewalk") != std::string::npos || head.starts_with("{\n  \"error\": {");
}

void report_error(const Output& error, const CommonOptions& common) noexcept {
  for (const std::string& report : common.reports) try {
      const std::string extension = std::filesystem::path(report).extension().string();
      if (extension != ".json" && extension != ".xml" && extension != ".html" && extension != ".md") continue;
      if (error.error && error.error->at("path") == report) continue;  // it is what was refused
      if (std::filesystem::exists(report) && !(common.overwrite && is_report(report))) continue;
      refuse_model_file(report);
      write_file(report, report_text(extension, error), {.overwrite = common.overwrite, .sync = false});
    } catch (const std::exception&) {  // the error itself is what is told
    }
}

namespace {

void print_and_report(const Output& output, const CommonOptions& common, const Io& io) {
  io.out << (common.json ? json_text(envelope(output)) : render_text(output)) << std::flush;
  if (!io.out) throw unwritable_output();
  for (const std::string& report : common.reports) {
    const std::string text = report_text(std::filesystem::path(report).extension().string(), output);
    write_file(report, text, {.overwrite = common.overwrite, .sync = false});
  }
}

}  // namespace

void emit(const Output& output, const CommonOptions& common, const Io& io) {
  for (const Check& check : output.checks)
    if (!check.pass) io.failed.push_back(check.name + " " + check.message);
  try {
    print_and_report(output, common, io);
  } catch (const Error& error) {
    if (output.written.empty()) throw;
    std::string names;
    for (const std::string& name : output.written) names += (names.empty() ? "'" : ", '") + name + "'";
    throw Error(error.kind(), error.where(),
                error.problem() + ", but what was to be written is complete and in place: " + names, error.fix());
  }
}

}  // namespace ropewalk::tools
