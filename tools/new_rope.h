#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "formats/gguf_rope.h"
#include "formats/hf_writer.h"
#include "formats/engines/flags.h"
#include "formats/rope_config.h"
#include "formats/rope_emit.h"
#include "formats/source.h"
#include "tools/command_line.h"
#include "tools/render.h"

// A SOURCE's new rope (+rope=SPEC, --rope), written for the engines that will read it: what extend, merge and convert
// share.

namespace ropewalk::tools {

/// --engine, for commands that write a rope.
void declare_engines(CommandLine& line, std::vector<std::string>& engines);
/// Those of --engine; none was asked for: none. Error(usage) for a name or a version that is not known.
std::vector<formats::EngineVersion> parse_engines(const std::vector<std::string>& engines);

/// --sliding-window, likewise.
void declare_sliding_window(CommandLine& line, std::optional<std::string>& window);
/// Error(usage) unless it is absent, "none" or a number of tokens.
void check_sliding_window(const std::optional<std::string>& window);
/// The window that a model of `before` has once --sliding-window was heard (nullopt: none). Error(usage) for a kind of
/// model that has no window.
std::optional<int> asked_sliding_window(const std::optional<std::string>& window, const ModelConfig& before);

/// What else was asked beside a new rope.
struct NewRopeOptions {
  std::vector<std::string> engines;
  std::optional<std::string> sliding_window;
  std::vector<std::string> allowed_losses = {};
};
/// Error(usage) for --engine and --sliding-window beside a source whose rope stays as it is.
void refuse_without_rope(const NewRopeOptions& options, const formats::Source& source);

/// What +rope asks for.
struct NewRope {
  ModelConfig before;          // the model without it
  Json old_config;             // config.json as it lies on disk, of a folder
  formats::RopeTarget target;  // as its method says it, whatever carries it, and the tokens served
  formats::TrainedRope trained;
};
/// nullopt if the source's rope is its own.
std::optional<NewRope> new_rope(const formats::Source& source);

/// What is written into a folder beside the weights, and what is left out of it.
struct FolderPlan {
  Json config;
  std::string rope_text;  // for the card, where the model's one rope does not say it
  formats::HfChanges changes;
  std::vector<std::string> notes;  // a line for each thing that changes
  std::vector<formats::EngineVerdict> verdicts;
  std::vector<formats::Loss> losses;  // those that were allowed
};
/// Error(unsupported) where no config.json makes all of the engines run it (without engines: what most of the newest
/// read alike), and where a sliding window shorter than the context stays without a word about it.
FolderPlan plan_folder(const formats::Source& source, const NewRope& rope, const NewRopeOptions& options);
/// The same of a model of which config.json alone is understood: what was chosen for it (formats/rope_layers.h,
/// rope_rewrite.h). Windows stay as they are.
FolderPlan plan_folder(const formats::Source& source, const formats::WantedRope& before,
                       const formats::WantedRope& after, formats::EmittedRope emitted);

/// The same of a GGUF, whose folder is made anew (formats/gguf_folder.h); `rope`: the new one, if there is one. What a
/// GGUF does not say is a loss; Error(unsupported) for one that changes ids and was not allowed.
FolderPlan plan_gguf_folder(const formats::Source& source, const std::optional<NewRope>& rope,
                            const NewRopeOptions& options);

/// Error(usage) unless every engine reads GGUFs.
void check_gguf_engines(const std::vector<formats::EngineVersion>& engines);
/// What llama.cpp reads out of a GGUF that was written: each of `engines` that is one, the newest if there is none.
std::vector<formats::EngineVerdict> written_verdicts(const std::string& path, const formats::RopeTarget& target,
                                                     const std::vector<formats::EngineVersion>& engines);

/// What engines make of a configuration: a table engine | reads | attention | context | as wanted, and below it the
/// first difference of each that does not read it as wanted. The same as JSON.
void show_verdicts(Output& output, const std::vector<formats::EngineVerdict>& verdicts);
Json engines_json(const std::vector<formats::EngineVerdict>& verdicts);

}  // namespace ropewalk::tools
