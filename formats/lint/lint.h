#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/engines/engine.h"
#include "formats/gguf.h"
#include "formats/json.h"

namespace ropewalk::formats {

// What is wrong with the rope and the context of a checkpoint, as its files say them: rules with a place, a reason and
// a fix. docs/lint.md lists them.
//
// Severity. A rule about the file alone has its own. A rule about engines goes by who is hurt: where engines were
// named, what hurts one of them is an error; where none was, the newest of each is asked, and what hurts all of them is
// an error, what hurts some a warning that names them; then none goes higher than the rule's own severity.

enum class Severity { info, warning, error };
const char* severity_name(Severity severity);

/// One rule. Texts are lower case without a final stop, `why` excepted.
struct LintRule {
  std::string_view id;       // "R08"
  std::string_view name;     // "remote-code"
  Severity severity;         // its own, or the highest of one about engines while none is named
  bool by_engine;            // goes by who is hurt
  std::string_view summary;  // one line
  std::string_view why;      // what happens, to whom, in sentences
  std::string_view sources;  // issues and pull requests where it was seen: "transformers#38224, vllm#46280"
};
/// By id.
std::span<const LintRule> lint_rules();
/// By id or name; nullptr if there is none.
const LintRule* find_lint_rule(std::string_view id_or_name);

/// A change of a JSON file: the value at `pointer` becomes `value`; a member that is not there is added to its object,
/// after `after` if that is a member.
struct JsonEdit {
  std::string pointer;
  Json value;
  std::string after = {};
};

struct Finding {
  std::string_view rule;  // id
  Severity severity = Severity::info;
  std::string file;          // as the file was given
  int line = 0, column = 0;  // from 1; 0: the file has no lines (GGUF)
  std::string pointer;       // JSON pointer, or a GGUF key or tensor; empty: the file as a whole
  std::string message;
  std::string fix;                   // what to do
  std::vector<std::string> engines;  // who is hurt: "vllm 0.33.0"; empty: a rule about the file
  /// What repairs it on an engine's command line, where anything does.
  struct Flags {
    std::string engine, line;  // "vllm 0.33.0", "--max-model-len 65536"
  };
  std::vector<Flags> flags;
  int length = 0;                // tokens that `fix` says to write for the context; 0: it names no length
  bool doubts_original = false;  // of the original context, from which lengths to be served follow
  std::vector<JsonEdit> edits;   // the fix as changes of `file`, where it may be safe; lint_fix.h checks that
};

/// A text file of the checkpoint. Python's JSON has NaN and Infinity, which `json` cannot hold: they stand in it as 0
/// and 1.79e308, and their offsets in not_finite.
struct LintFile {
  std::string path, text;
  Json json;
  std::vector<std::size_t> not_finite;
};
/// Error(bad_input) with line and column for what Python's parser would refuse too, and for keys that stand twice.
LintFile parse_lint_file(const std::string& path, std::string text);

struct LintInput {
  std::optional<LintFile> config;  // config.json; or
  std::optional<GgufFile> gguf;
  std::string gguf_path;
  std::optional<LintFile> tokenizer_config, generation_config;
  struct Stored {
    std::string name;
    std::vector<std::uint64_t> shape;
  };
  std::vector<Stored> tensors;      // of the folder's weights, where there are any
  std::vector<Finding> unreadable;  // files of the folder that did not parse (rule R00)
};
/// `path`: a folder with config.json, a config.json under any name, or a GGUF. A file that does not parse is a finding
/// of its own, one that is not there or no JSON object Error(bad_input).
LintInput read_lint_input(const std::filesystem::path& path);

struct LintOptions {
  std::vector<EngineVersion> engines;  // named ones; empty: the newest of each
  std::optional<int> context;          // tokens that are to be served; nullopt: what the file declares
};
/// All findings, by file, line and rule. Never throws for what the files say.
std::vector<Finding> lint(const LintInput& input, const LintOptions& options);

}  // namespace ropewalk::formats
