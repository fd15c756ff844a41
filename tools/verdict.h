#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tools/render.h"
#include "tools/sweep_options.h"
#include "tools/text_input.h"
#include "verify/gates.h"
#include "verify/structure.h"
#include "verify/text_evidence.h"
#include "verify/weights.h"

namespace ropewalk::tools {

/// Where the source was a saved reference: what KL was estimated from (verify/reference.h).
struct ReferenceFigures {
  std::string path;
  int top = 0;          // tokens known of each position
  double kl_least = 0;  // mean KL is at least this
  double outside = 0;   // mean probability of all other tokens
};

/// What the sweep over both models found.
struct LogitsVerdict {
  verify::LogitsReport report;
  std::vector<verify::Gate> gates;
  std::size_t windows = 0;
  std::uint64_t tokens = 0;  // of the whole text
  verify::TextEvidence evidence;
  std::optional<ReferenceFigures> reference = {};
};

/// A level that did not run, and why.
struct NotJudged {
  std::string level, why;
};

/// Everything one `verify` found, level by level.
struct Verdict {
  int context = 0;
  std::string file;                       // of the candidate, where reports point
  bool unmerged = false;                  // the source's adapters
  Json run;                               // run_identity() (tools/baseline.h)
  int original_context = 0;               // the source's, 0: not known
  RopeTable source_rope, candidate_rope;  // at that context
  verify::StructureReport structure;
  std::optional<std::vector<verify::WeightDifference>> weights;  // nullopt: the level did not run
  std::optional<LogitsVerdict> logits;
  std::vector<std::string> notices;         // printed and warned of, deciding nothing
  std::string logits_not_compared;          // why, where the level was reached
  std::vector<NotJudged> not_judged;        // what no gate speaks of
  std::vector<verify::Gate> gates;          // of all levels that ran
  std::string level;                        // the last one that ran
  std::optional<std::string> failed_level;  // the first one of which a gate failed

  void add(const std::string& of_level, const std::vector<verify::Gate>& more);
  bool pass() const { return verify::all_pass(gates); }
};

/// The verdict for people, programs and CI. `beyond`: what either side serves less than `verdict.context`.
Output verdict_output(const Verdict& verdict, const Checkpoint& source, const Checkpoint& candidate,
                      const Corpus& corpus, const SweepDevice& device, const std::vector<std::string>& beyond);

/// [{"name", "pass", "detail"}]; pass null: reported, does not decide.
Json structure_json(const std::vector<verify::StructureItem>& items);

}  // namespace ropewalk::tools
