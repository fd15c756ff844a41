#pragma once

#include <optional>
#include <string>
#include <vector>

#include "formats/engines/flags.h"
#include "formats/json.h"

namespace ropewalk::formats {

/// What the rope of a config.json is meant to be, whatever engines make of it: linter, `rope` and the flags of both ask
/// this and nothing else.
struct RopeMeaning {
  WantedRope rope;  // spec.attention_factor is always set; context: the longest that the rope is made for
  std::string by;   // "transformers 5.23.0", "the remote code modeling_mistral_yarn"
  std::optional<std::string> remote_code;  // the YaRN repository's, if auto_map names it
  std::vector<std::string> warnings;
};

/// The longest context that a rope is made for, tokens: its own (max_position_embeddings), s L of YaRN where that is more,
/// and s times the length of a dynamic rope. Factors past 65536 and lengths past 2^30 are none.
int context_made_for(const WantedRope& rope, bool dynamic_extends = true);

/// The known remote code's rope, else the newest transformers', of any architecture; but a base that the file has at one
/// place and transformers does not find there is meant all the same (a warning says so). Llama and mistral are read as
/// read_hf_rope does (rope_config.h). Error with file:line:column where nobody can say, and for true where a number is
/// expected.
RopeMeaning read_rope_meaning(const std::string& path, const std::string& text, const Json& config);
/// What transformers makes of it where read_rope_meaning refuses; nullopt where it raises as well.
std::optional<RopeMeaning> lenient_rope_meaning(const Json& config);

}  // namespace ropewalk::formats
