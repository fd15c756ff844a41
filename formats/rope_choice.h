#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "formats/rope_emit.h"

namespace ropewalk::formats {

// Choosing among files that could be written, by what engines read in them: one rope (rope_emit.cpp) and a rope for each
// kind of layer (rope_layers.cpp) are chosen alike.

struct RopeCandidate {
  Json config;
  std::string dialect;
  bool named = true;  // the method stands in it by its own name
};

/// What the engines are to run.
struct WantedReading {
  std::string text;                                             // "YaRN x16 of 4096 (...) at 65536 tokens"
  std::function<std::string(const EngineReading&)> difference;  // empty: as wanted
  int context = 0;                                              // tokens served
  bool converts = true;  // ropewalk writes a GGUF of such a model, which can say more
};

/// emit_rope's choice (rope_emit.h). `candidates`: not empty, the preferred one first.
EmittedRope choose_rope(const std::vector<RopeCandidate>& candidates, const WantedReading& wanted,
                        std::span<const EngineVersion> engines);

}  // namespace ropewalk::formats
