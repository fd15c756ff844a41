#pragma once

#include <optional>

#include "formats/json.h"
#include "lib/rope.h"

namespace ropewalk::formats {

/// The dictionary (transformers 5 keys, rope_theta among them) that says `spec`, read back as the same spec; nullopt if
/// none does: NTK-by-parts, dynamic YaRN, divisors, an attention factor under a method that has no key for one.
std::optional<Json> rope_dictionary(const RopeSpec& spec);

/// Any static rope as a longrope whose two lists are equal, with attention_factor: each frequency the one `spec` has in
/// torch's float32 arithmetic, to three roundings (3 x 2^-24).
/// `original`: what to write as the original context. It selects nothing here, but vLLM and SGLang take longrope's
/// attention factor from max_position_embeddings over it unless short_mscale and long_mscale say one, which are then
/// written too. nullopt for a rope that depends on the length, that turns only part of the head, or has pairs that stand still.
std::optional<Json> longrope_dictionary(const RopeSpec& spec, int context, int original);

}  // namespace ropewalk::formats
