#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "formats/rope_emit.h"
#include "tools/common_options.h"

namespace ropewalk::tools {

/// What `ropewalk extend` was asked for.
struct ExtendOptions {
  std::string source, output;
  std::optional<std::string> rope, like, sliding_window;
  std::optional<int> context;
  std::vector<std::string> engines;
  bool plan = false, link = false;
  std::string rope_encoding = "auto";
  std::vector<std::string> allowed_losses;
  WriterOptions writer;
  CommonOptions common;
};

/// --plan: methods compared at a context, nothing written.
int run_extend_plan(const ExtendOptions& options, const Io& io);

/// The engines of --engine; those are that were asked for, none: none.
std::vector<formats::EngineVersion> asked_engines(const ExtendOptions& options);

/// What is written into a folder beside the weights, and what is left out of it.
struct FolderPlan {
  Json config;
  std::map<std::string, std::string> texts;  // by name, instead of the source's
  std::set<std::string> left_out;            // remote code that nothing names any more
};
/// `notes`: a line for each thing that changes.
FolderPlan plan_extended_folder(const formats::HfFolder& hf, const Json& old_config, Json config, int old_context,
                                int context, std::vector<std::string>& notes);

struct ExtendWritten {
  std::vector<std::string> files;
  std::string weights;  // how they came there
  std::vector<std::string> warnings;
};
ExtendWritten write_extended_folder(const formats::Source& source, const FolderPlan& plan, const ExtendOptions& options,
                                    const WriteOptions& write);

/// The arithmetic of a new rope, a line each: "4096 x 16 = 65536 tokens", "A = 0.1 ln 16 + 1 = 1.27726", where YaRN's
/// ramp lies. `before` is the model's rope until now.
std::vector<std::string> rope_arithmetic(const RopeSpec& before, const RopeSpec& rope, int context);

/// Table and JSON of what engines make of a configuration: engine | reads | context | first difference.
Table engine_table(const std::vector<formats::EngineVerdict>& verdicts);
Json engines_json(const std::vector<formats::EngineVerdict>& verdicts);

}  // namespace ropewalk::tools
