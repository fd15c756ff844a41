#pragma once

#include <optional>
#include <string>
#include <vector>

#include "verify/perplexity.h"
#include "verify/sweep.h"

namespace ropewalk::verify {

/// One bound on one figure. A NaN never passes.
struct Gate {
  std::string name;         // "kl_mean", "kl_p999", "kl_growth", "top1", "ppl_ratio", "tokenizer", ...
  int from = 0, to = 0;     // positions; 0, 0: all
  double value = 0;
  std::string bound;        // "max" or "min"
  double limit = 0;
  bool pass = false;
};

struct PairBucket {
  int from = 0, to = 0;
  double kl_mean = 0, top1 = 0, nll_difference = 0;
  std::uint64_t tokens = 0;
};
struct LogitsReport {
  double kl_mean = 0, kl_median = 0, kl_p999 = 0, kl_max = 0;
  double kl_growth = 1;     // mean KL at positions >= original context over mean KL below it; 1 if one side is empty
  double top1 = 1;
  double perplexity_source = 0, perplexity_candidate = 0, ppl_ratio = 1;
  std::vector<PairBucket> positions;
  std::vector<double> layers;
  std::optional<int> parts_at;  // first position of the first bucket whose gate fails
};
LogitsReport summarise_pair(const PairResult& result, int original_context, int context);

/// --max/--min NAME[@FROM:TO]=V from the command line, and the defaults by encoding ("f32", "f16", "bf16", "q8_0").
struct GateRequest {
  std::string name, bound;
  int from = 0, to = 0;
  double limit = 0;
};
GateRequest parse_gate(const std::string& bound, std::string_view text);  // Error(usage)
std::vector<GateRequest> default_gates(std::string_view encoding);
/// Mean gates without a range are applied to the whole and to the worst bucket.
std::vector<Gate> apply_gates(const std::vector<GateRequest>& requests, const LogitsReport& report);

}  // namespace ropewalk::verify
