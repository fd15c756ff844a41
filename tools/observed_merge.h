#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "formats/source.h"
#include "lib/merge_report.h"
#include "tools/convert_targets.h"

namespace ropewalk::tools {

/// Tensors by name, measured while they are written.
using Observed = std::map<std::string, std::shared_ptr<const ObservedMerge>>;
struct MergeChanges {
  Observed merged;  // by adapters
  Observed recast;  // no adapter changes them, but --dtype rounds them
};

/// Replaces each tensor that is to be changed by one that measures itself.
MergeChanges observe_merge(formats::Source& source, bool saturate);
/// Replaces each tensor that adapters change by one that measures, on some of its rows, what the rounding of the first of
/// `targets` that is no mix takes: one pass serves all of them, and a mix costs what it costs without adapters.
Observed observe_targets(formats::Source& source, const std::vector<Target>& targets, bool saturate);

/// What rounding took of the adapters' deltas, if that is nine tenths of their norm or more, of all of them or of some
/// weight; empty: less. A rounding on the grid the weights came from either keeps a change or takes it whole, and what it
/// takes adds up in squares: of nine tenths taken, at most 1 - 0.9^2, a fifth of the delta's energy, is left.
std::string eaten_by_rounding(const Observed& observed);
/// What encoding changed weights in the blocks of their file again took of the deltas; empty: none was.
std::string encoded_again(const Observed& observed);

/// A share as people write it: "12 %", "99.99 %", "0.0000072 %"; "-" if it is not finite.
std::string share_text(double share);

}  // namespace ropewalk::tools
