#pragma once

#include <string>
#include <vector>

#include "formats/adapters/peft.h"

namespace ropewalk::formats {

/// What PEFT 0.21.2 reads of an adapter_config.json without a word though it may not be what was meant, a line in
/// `warnings` each: a `bias` whose word is of no kind, a field of former versions, keys of alpha_pattern whose order
/// decides and that saving has sorted. (Of rank_pattern the factors tell the rank.) After the targets are settled.
void warn_of_peft_config(const PeftAdapter& adapter, std::vector<std::string>& warnings);

}  // namespace ropewalk::formats
