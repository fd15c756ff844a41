#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "formats/source.h"
#include "lib/pending_file.h"
#include "tools/command_line.h"
#include "tools/io.h"
#include "tools/render.h"

namespace ropewalk::tools {

/// Every command has these.
struct CommonOptions {
  bool json = false, quiet = false, overwrite = false;
  std::vector<std::string> reports;
  int threads = 0;   // 0: all the process may use
  NamedPaths named;  // no option: what the command line reads and writes
};
void declare_common(CommandLine& line, CommonOptions& options);

/// Commands that write models.
struct WriterOptions {
  bool no_sync = false, dry_run = false;
};
void declare_writer(CommandLine& line, WriterOptions& options);
WriteOptions write_options(const CommonOptions& common, const WriterOptions& writer);

/// How a SOURCE is to be opened, where it may carry adapters.
struct SourceOptions {
  std::vector<std::string> adapters;  // -a DIR[:SCALE]
  std::optional<std::string> rope;    // --rope SPEC
  std::optional<std::string> dtype;   // of the merge
  bool saturate = false;
  std::optional<std::string> combine;  // --combine TYPE,...
  std::optional<int> seed;             // of its draws
  std::string tokenizer = "auto";
  std::optional<std::string> qlora_base;  // original (the default) or nf4
  bool unmerged = false;
  std::optional<DType> blocks = std::nullopt;  // no option: OpenOptions::blocks, of commands that write folders
  // no options: what the command does with them
  formats::TokenizerUse tokenizer_use = formats::TokenizerUse::carried;
  formats::ModelUse model_use = formats::ModelUse::running;
};
/// -a and --rope: shorthand for the '+' form of the command's one SOURCE.
void declare_modifiers(CommandLine& line, SourceOptions& options);
/// For commands that compare several: -a and --rope are an error that shows the '+' form.
void declare_no_modifiers(CommandLine& line);
/// --dtype, --saturate, --combine, --seed, --qlora-base, --tokenizer.
void declare_merge(CommandLine& line, SourceOptions& options);
/// --unmerged, of commands that compute: adapters beside the weights instead of in them.
void declare_unmerged(CommandLine& line, SourceOptions& options);
/// Error(usage) if --unmerged was given and `source` has no adapter.
void check_unmerged(const SourceOptions& options, const formats::Source& source);
/// "; adapters not merged" for the lines that say what was computed; empty without --unmerged.
std::string unmerged_text(const SourceOptions& options);
/// The same of a command that encodes text: a tokenizer that is not read is an error, with its reason. `needed` false:
/// as they are, because ids were given.
SourceOptions to_encode(SourceOptions options, bool needed = true);
formats::OpenOptions open_options(const SourceOptions& options);

/// Opens SOURCE text with the shorthand applied; its warnings go to standard error (unless quiet).
formats::Source open_source(const std::string& text, const SourceOptions& options, const CommonOptions& common,
                            const Io& io);
/// The same of a command that looks at nothing but the tokenizer: where formats::open_tokenizer does, without the weights.
formats::Source open_tokenizer(const std::string& text, const CommonOptions& common, const Io& io);
/// The SOURCE's text in the '+' form, shorthand included: what tables and JSON call it.
std::string source_text(const std::string& text, const SourceOptions& options);

/// Error(io) if something that is written beside the work (a report, a drawing) would replace a file that models have:
/// --overwrite means older reports.
/// One that a model's folder is opened by, beside its weights, or they themselves: by its name.
bool is_model_file(const std::filesystem::path& file);
void refuse_model_file(const std::filesystem::path& report);
/// Of this program, by how it begins: what stands there may be anything else.
bool is_report(const std::filesystem::path& file);
/// Error(io) if one of the command line's outputs would replace one of these, which it reads without naming them.
void refuse_inputs(const CommonOptions& common, const std::vector<std::filesystem::path>& inputs,
                   const std::string& as);
/// Error(io) if `output`, which the command line does not name as it stands, would replace what it reads.
void refuse_output(const CommonOptions& common, const std::filesystem::path& output, const std::string& as);
/// What a command's result can be beside what every result can.
struct ReportKinds {
  bool table = true;      // a command without one has nothing to put into a .csv, and refuses it
  bool sarif = false;     // fills Output::sarif
  bool drawings = false;  // fills Output::drawings: .svg
};
/// Checks --report files: kinds known, nothing overwritten. Before any work.
void check_reports(const CommonOptions& common, const ReportKinds& kinds = {});
/// Standard output (text or JSON) and every --report file. Where one cannot be written, the Error says which outputs are
/// in place all the same.
void emit(const Output& output, const CommonOptions& common, const Io& io);
/// The command failed: every --report file that can say so (.json, .xml, .html, .md) gets `error`, as far as it can be
/// written, but for one it names. One that is there is replaced only under --overwrite, and only if it is a report.
void report_error(const Output& error, const CommonOptions& common) noexcept;
void warn(const std::string& warning, const CommonOptions& common, const Io& io);

}  // namespace ropewalk::tools
