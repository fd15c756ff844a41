#pragma once

#include <string_view>
#include <vector>

#include "formats/adapters/peft.h"
#include "lib/adapters/combinations.h"

namespace ropewalk::formats {

/// "TYPE[,density=D][,rank=R][,sign=total|frequency][,clamp=Q]". Error(usage) for a type that PEFT 0.21.2 does not have,
/// an unknown key and a value out of range.
CombineOptions parse_combination(std::string_view text);

/// The adapters as one, whose scale is 1 (lib/adapters/combinations.h); of a module that some of them lack those that have
/// it are combined. Where PEFT 0.21.2 multiplies the result by the root of its rank, because the first adapter is rsLoRA,
/// it is not done here: weights are weights. Error(unsupported) naming a change that is no low-rank delta.
PeftAdapter combine_adapters(const std::vector<ScaledAdapter>& adapters, const CombineOptions& options);

}  // namespace ropewalk::formats
