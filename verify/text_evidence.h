#pragma once

#include <cstdint>
#include <span>

#include "verify/sweep.h"

namespace ropewalk::verify {

/// How much of the windows says something of its own. Intervals (verify/confidence.h) take every block of positions for a
/// new one; a text that repeats itself shows one thing many times, and a damaged model may well do that thing.
struct TextEvidence {
  std::uint64_t positions = 0;
  std::uint64_t distinct_tokens = 0,
                tokens_needed = 0;            // of all ids; 32, or a quarter of positions or vocabulary if fewer
  int run_length = 0;                         // ids of a run: 8, or a shorter window's
  std::uint64_t runs = 0, distinct_runs = 0;  // runs lie within a window, one from every position that has one

  double distinct_share() const { return runs > 0 ? double(distinct_runs) / double(runs) : 0; }
  bool enough_tokens() const { return distinct_tokens >= tokens_needed; }
  bool enough_runs() const { return distinct_share() >= kRunsNeeded; }
  bool enough() const { return enough_tokens() && enough_runs(); }
  static constexpr double kRunsNeeded = 0.5;  // of them distinct
};
TextEvidence text_evidence(std::span<const Window> windows, int n_vocab);

}  // namespace ropewalk::verify
