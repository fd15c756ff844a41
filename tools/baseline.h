#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tools/verdict.h"

namespace ropewalk::tools {

/// An earlier verify's --json, which a new one may not be much worse than.
struct Baseline {
  std::string path, corpus_sha256;
  int context = 0;
  std::uint64_t tokens = 0;  // compared
  double kl_mean = 0, kl_p999 = 0, top1 = 0, perplexity = 0;
};
/// Error(bad_input) if it is no verify that compared logits, or has a figure that is not finite.
Baseline read_baseline(const std::string& path);

/// "baseline kl_mean", "baseline kl_p999", "baseline perplexity": at most `worse` (a share) above the earlier one, KL with
/// what rounding alone causes added; "baseline top1": at most that share below. Values against values: the text is the
/// same, so what chance did to one it did to the other. Error(bad_input) if it is not the same.
std::vector<verify::Gate> baseline_gates(const Baseline& baseline, double worse, const LogitsVerdict& logits,
                                         const std::string& corpus_sha256, int context);

}  // namespace ropewalk::tools
