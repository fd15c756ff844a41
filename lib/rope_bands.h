#pragma once

#include <vector>

#include "lib/rope.h"

namespace ropewalk {

/// What a method does to one pair.
enum class RopeBand {
  untouched,     // extrapolated: as fast as without the method
  blended,       // between
  interpolated,  // slower by the whole factor
  still          // does not turn at all
};
const char* rope_band_name(RopeBand band);

struct RopePair {
  double wavelength = 0;         // tokens per turn before the method
  double turns = 0;              // of the original context, before the method
  double before = 0, after = 0;  // radians per token
  RopeBand band = RopeBand::untouched;
  double ratio() const { return before > 0 ? after / before : 1; }
};

/// The same rope without its method: its base, every pair turning.
RopeSpec unscaled_rope(const RopeSpec& spec);
/// The context that the method scales: its own where it says so, for linear the context by the factor, else the context.
int trained_context(const RopeSpec& spec, int context);
/// Pair by pair, in a sequence of that many tokens. Equal means within 3 units in the last place of float32. longrope's
/// factor is that of its contexts, and its lists may go beyond: slower by more than the factor is interpolated too.
std::vector<RopePair> rope_pairs(const RopeSpec& spec, int original_context, int sequence_length);

}  // namespace ropewalk
