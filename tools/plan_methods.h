#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "lib/rope_coverage.h"
#include "tools/plan_model.h"

namespace ropewalk::tools {

/// A method worth comparing.
struct Planned {
  std::string method;
  std::string spec;            // for --rope; empty: nothing would be written
  formats::RopeTarget target;  // the rope, and the tokens to serve
  double factor = 0;           // 0: the method has none
  std::vector<formats::EngineVerdict> verdicts;
  RopeCoverage coverage = {};  // against the original context

  long readers() const {
    return std::count_if(verdicts.begin(), verdicts.end(),
                         [](const formats::EngineVerdict& one) { return one.right(); });
  }
};

/// The model as it is, then each method from `original` tokens to the context asked for, and what the engines would make
/// of the file that extend writes.
std::vector<Planned> plan_methods(const PlannedModel& model, const ExtendOptions& options, int original);

}  // namespace ropewalk::tools
