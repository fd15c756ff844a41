#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tools/verdict.h"

namespace ropewalk::tools {

/// What figures are of, beside text and context: a flat object, "run" of the report. Two runs whose objects differ have
/// figures that say nothing of each other. Of the source, so a candidate may be of another type. `rope`: in words.
Json run_identity(const ModelConfig& source, int original_context, const std::string& rope,
                  const std::vector<verify::Window>& windows);

/// A run, as far as another can be held against it.
struct ComparedRun {
  std::string corpus_sha256;
  int context = 0;
  std::uint64_t tokens = 0;  // compared
  std::string read_as;       // the candidate
  bool unmerged = false;     // the source's adapters
  Json identity;             // run_identity()
};

/// Of what is known beside the source: unmerged and identity are the caller's.
ComparedRun compared_run(const Corpus& corpus, int context, const std::vector<verify::Window>& windows,
                         const Checkpoint& candidate);

/// An earlier verify's --json, which a new one may not be much worse than.
struct Baseline {
  std::string path, precision;
  ComparedRun run;
  std::vector<std::string> doubts = {};  // why one may not want to be held to it, a line each
  double kl_mean = 0, kl_p999 = 0, top1 = 0, perplexity = 0, source_perplexity = 0;
};
/// Error(bad_input) if it is no verify that compared logits, does not say what run it is of, or has a figure that is not
/// finite.
Baseline read_baseline(const std::string& path);

/// Error(bad_input) that names what the two runs differ in; known before anything is computed.
void check_same_run(const Baseline& baseline, const ComparedRun& run);

/// "baseline kl_mean", "baseline kl_p999", "baseline perplexity": at most `worse` (a share) above the earlier one, KL with
/// what rounding alone causes added; "baseline top1": at most that share below. Values against values: the text is the
/// same, so what chance did to one it did to the other. Error(bad_input) of another precision.
std::vector<verify::Gate> baseline_gates(const Baseline& baseline, double worse, const verify::LogitsReport& report,
                                         const std::string& precision);
/// A line where the source's perplexity is not what it was: the model has other weights. nullopt: within a thousandth.
std::optional<std::string> other_weights(const Baseline& baseline, const verify::LogitsReport& report);

}  // namespace ropewalk::tools
