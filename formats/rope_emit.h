#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "formats/engines/engine.h"
#include "formats/json.h"
#include "lib/model_config.h"

namespace ropewalk::formats {

// Writing a rope so that the engines that will read it compute exactly that rope. Candidates (dialects, contexts,
// spellings of the attention factor, and longrope lists as carriers of any static table) are each read back by the rule
// of every engine (engines/engine.h), and what is right for those asked for is taken.

/// What is wanted: a rope and the tokens served under it.
struct RopeTarget {
  RopeSpec spec;
  int context = 0;
};

/// What an engine makes of the configuration that is written.
struct EngineVerdict {
  EngineReading reading;
  std::string difference;  // the first field that is not as wanted, in words; empty: all is
  bool right() const { return difference.empty(); }
};

struct EmittedRope {
  Json config;                          // config.json as a whole
  std::string dialect;                  // in words: "transformers 4 and 5, as longrope lists"
  std::vector<EngineVerdict> verdicts;  // of the engines asked for, or of the newest of each
};

/// The first way in which `reading` departs from `target`, empty if none: frequencies (3 units in the last place of the
/// engine's own float32 arithmetic of the wanted spec), attention factor, tokens served. A dynamic rope of transformers
/// has no limit of its own: its nominal context is that of the formula.
std::string first_difference(const RopeTarget& target, const EngineReading& reading);

/// `preferred` (config_with_rope's output, which every other command writes) if it is right for all `engines`, or, where
/// none is named, for half of the newest of each engine. Else the candidate that is right for all of them: one that names
/// the method before longrope lists, then the one right for most of the newest; where none is named, the one right for
/// most of the newest, of these one that the newest transformers loads. Keys that have nothing to do with the rope stay
/// as they stand in `preferred`.
/// Error(unsupported) if no candidate is right for all `engines`, or, where none is named, for any of the newest; it names
/// the difference, and who could.
EmittedRope emit_rope(const Json& preferred, const ModelConfig& model, const RopeTarget& target,
                      std::span<const EngineVersion> engines);
/// The newest engines that some config.json makes run `target`: "transformers 5.23.0", ...
std::vector<std::string> engines_that_run(const ModelConfig& model, const RopeTarget& target);

}  // namespace ropewalk::formats
