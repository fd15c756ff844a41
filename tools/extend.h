#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tools/common_options.h"
#include "tools/new_rope.h"

namespace ropewalk::tools {

/// What `ropewalk extend` was asked for.
struct ExtendOptions {
  std::string source, output;
  std::optional<std::string> rope, like, sliding_window;
  std::optional<int> context, original;
  std::vector<std::string> engines;
  bool plan = false, link = false;
  std::string rope_encoding = "auto";
  std::vector<std::string> allowed_losses;
  WriterOptions writer;
  CommonOptions common;
};

/// --plan: methods compared at a context, nothing written.
int run_extend_plan(const ExtendOptions& options, const Io& io);

/// A folder whose kinds of layers have, or are given, ropes of their own, or whose class ropewalk does not run: config.json
/// is rewritten, the rest carried. nullopt: one rope, of a llama or mistral.
std::optional<int> run_extend_layers(const ExtendOptions& options, const std::string& rope, const Io& io);

struct ExtendWritten {
  std::vector<std::string> files;
  std::string weights;  // how they came there
  std::vector<std::string> warnings;
};
ExtendWritten write_extended_folder(const formats::Source& source, const FolderPlan& plan, const ExtendOptions& options,
                                    const WriteOptions& write);

/// What the new rope counts from and who says so: a line, empty where the SPEC says it; {"tokens", "from"}, null where it
/// counts from nothing.
std::string trained_text(const formats::TrainedRope& trained);
Json trained_json(const formats::TrainedRope& trained);

/// The arithmetic of a new rope, a line each: "4096 x 16 = 65536 tokens", "A = 0.1 ln 16 + 1 = 1.27726", where YaRN's
/// ramp lies. `before` is the model's rope until now.
std::vector<std::string> rope_arithmetic(const RopeSpec& before, const RopeSpec& rope, int context);

}  // namespace ropewalk::tools
