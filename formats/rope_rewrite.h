#pragma once

#include <string>
#include <string_view>

#include "formats/engines/flags.h"
#include "formats/rope_config.h"
#include "formats/rope_emit.h"

namespace ropewalk::formats {

/// What a SPEC counts from: model_type, rope, context and head_dim are set, and nothing else. Of one rope for all layers.
ModelConfig rope_base_model(const WantedRope& before, const std::string& model_type);

/// config.json with another rope for all layers, of any class whose one rope is read: what a SPEC makes of it.
struct RewrittenRope {
  ModelConfig base;  // rope_base_model's
  RopeRequest request;
  Json config;        // config_with_rope's
  RopeTarget target;  // the rope as its method says it, and the tokens served under it
};
/// `config`: one without a text_config. `before`: of it (rope_meaning.h), with one rope. Errors as parse_rope_spec.
RewrittenRope rewrite_rope(const Json& config, const WantedRope& before, std::string_view spec);

}  // namespace ropewalk::formats
