#pragma once

#include <string>

#include "formats/saved_reference.h"
#include "formats/source.h"
#include "tools/sweep_options.h"
#include "tools/verdict.h"

namespace ropewalk::tools {

/// What --save-reference keeps of a source.
struct ReferenceRun {
  const formats::Source& source;
  const Corpus& corpus;
  std::vector<std::vector<std::int32_t>> documents;  // the text in the source's ids
  std::vector<verify::Window> windows;
  int context = 0;
  bool unmerged = false;
};
/// Runs the source over the windows and writes `path`; what is printed about it.
Output save_reference(const std::string& path, const ReferenceRun& run, SweepDevice& device,
                      const CommonOptions& common, const Io& io);

/// Reads what --reference names, and Error(bad_input) if it was made of another text, Error(usage) if `context` was asked
/// for and is another.
formats::SavedReference open_reference(const std::string& path, const Corpus& corpus, std::optional<int> context);

/// Error(bad_input) if the windows are not what --save-reference cuts from the text: one is missing before the last,
/// there twice, changed. `ids`: the text's by `candidate`'s rules, or as given; where they are not the source's, the
/// tokenizer gate says so, and nothing is known of the windows.
void check_windows(const formats::SavedReference& reference, const std::string& path, const Corpus& corpus,
                   const Checkpoint& candidate);

/// The logits level against a reference.
LogitsVerdict judge_by_reference(const formats::SavedReference& reference, const std::string& path,
                                 const Checkpoint& candidate, SweepDevice& device, const CommonOptions& common,
                                 const Io& io);

}  // namespace ropewalk::tools
