#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "verify/structure.h"

namespace ropewalk::verify {

/// "1 differs", "4000 differ".
inline std::string differ_text(std::uint64_t n) { return std::to_string(n) + (n == 1 ? " differs" : " differ"); }

/// The part of compare_structure() that is about tokenizers: vocabulary id by id, merges, special ids, `documents`' ids,
/// chat templates. Items and gates are added to `report`.
void compare_tokenizers(const Checkpoint& source, const Checkpoint& candidate, std::span<const std::string> documents,
                        const Sides& sides, StructureReport& report);

}  // namespace ropewalk::verify
