#pragma once

#include <string_view>

#include "formats/engines/flags.h"
#include "formats/rope_emit.h"

namespace ropewalk::formats {

/// config.json with another rope for all layers, of any class whose one rope is read: what a SPEC makes of it.
struct RewrittenRope {
  ModelConfig base;   // what the SPEC counts from: model_type, rope, context, head_dim are set and nothing else
  Json config;        // config_with_rope's
  RopeTarget target;  // the rope as its method says it, and the tokens served under it
};
/// `before`: of `config` (rope_meaning.h), with one rope. Errors as parse_rope_spec.
RewrittenRope rewrite_rope(const Json& config, const WantedRope& before, std::string_view spec);

}  // namespace ropewalk::formats
