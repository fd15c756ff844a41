#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "formats/adapters/peft.h"
#include "lib/adapters/combinations.h"

namespace ropewalk::formats {

/// "TYPE[,density=D][,rank=R][,sign=total|frequency][,clamp=Q]". Error(usage) for a type that PEFT 0.21.2 does not have,
/// an unknown key and a value out of range.
CombineOptions parse_combination(std::string_view text);

/// The adapters as one, whose scale is 1 (lib/adapters/combinations.h); of a module that some of them lack those that have
/// it are combined. As PEFT 0.21.2: an embedding's factors are added as they were trained, the rank of an svd type is the
/// largest of all adapters', rank_pattern included, and one adapter alone is linear, which a note says of types that differ
/// from it. Where PEFT multiplies the result by the root of its rank, because the first adapter is rsLoRA, it is not done
/// here, weights are weights, and a note says so. Error(unsupported) naming a change that is no low-rank delta.
PeftAdapter combine_adapters(const std::vector<ScaledAdapter>& adapters, const CombineOptions& options,
                             std::vector<std::string>& notes);

}  // namespace ropewalk::formats
