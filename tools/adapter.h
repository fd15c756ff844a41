#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "formats/adapters/made_adapter.h"
#include "tools/cli.h"
#include "tools/common_options.h"

// `adapter`: its parts, one file each, and what they share.

namespace ropewalk::tools {

Command adapter_extract_command();
Command adapter_rerank_command();
Command adapter_rescale_command();
Command adapter_convert_command();

/// f32, f16 or bf16, by either spelling; Error(usage) for another.
DType adapter_dtype(const std::string& text);

/// What was asked for, as the output says it.
struct AdapterRun {
  std::string operation;       // "extract"
  std::string source, output;  // `source`: as written
  Json base = nullptr;         // of extract and convert
  Json rank = nullptr, scale = nullptr;
  std::vector<std::filesystem::path> inputs = {};  // what the target must not replace
  std::vector<std::string> warnings = {};
};
/// Error(usage) without a name, or one that is not a folder's; Error(io) for a target that is or holds an input, exists
/// without --overwrite or cannot be written. Before any work.
void check_adapter_folder(const AdapterRun& run, const CommonOptions& common);
/// Writes the folder (unless it is a dry run) and says what was made of each module.
void write_adapter_folder(const AdapterRun& run, const formats::MadeAdapter& made, const WriterOptions& writer,
                          const CommonOptions& common, const Io& io);
/// The keys that every part's --json has.
Json adapter_body(const AdapterRun& run, const std::vector<formats::MadeModule>& modules,
                  const std::vector<std::string>& written, const std::vector<std::string>& notes, bool dry_run);

}  // namespace ropewalk::tools
