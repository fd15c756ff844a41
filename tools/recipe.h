#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "tools/named_files.h"

namespace ropewalk::tools {

/// A command of a recipe, what stands for names put in.
struct RecipeStep {
  std::string name;
  bool is_gate = false;
  std::vector<std::string> command;       // the words after "ropewalk"
  std::vector<std::string> outputs;       // paths
  std::vector<NamedFile> files = {};      // what the command's grammar makes of its words
  std::vector<std::string> written = {};  // outputs, and what else those words say that it writes: its reports
};

/// {
///   "sources": {NAME: SOURCE or path, ...},                    // optional
///   "outputs": [{"name": NAME, "output": PATH or [PATH, ...], "command": [WORD, ...]}, ...],
///   "gates": [{"name": NAME, "command": [WORD, ...]}, ...],    // either may be left out
///   "manifest": PATH                                           // optional: RECIPE without .json, .manifest.json
/// }
/// with // and /* */ comments. In a word ${NAME} is a source or the one output of a step before, ${output} the step's
/// own (of several ${output1}, ${output2}, ...). Paths are relative to the working directory, as on the command line.
struct Recipe {
  std::string path, sha256, manifest;
  std::vector<RecipeStep> steps;  // outputs, then gates, each in order
};
/// Error(bad_input) with line and column for whatever is not as above: unknown keys and names, a command that does not
/// exist or would not be understood, an output that its command does not name, a path that two steps write, a gate that
/// judges nothing.
Recipe parse_recipe(const std::string& path, const std::string& text);

}  // namespace ropewalk::tools
