#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/engines/flags.h"
#include "formats/rope_config.h"
#include "formats/rope_emit.h"
#include "lib/error.h"

namespace ropewalk::formats {

/// What a SPEC counts from: model_type, rope, context, head_dim and vocabulary are set, and nothing else. Of one rope for
/// all layers.
ModelConfig rope_base_model(const WantedRope& before, const std::string& model_type, int n_vocab);

/// config.json with another rope for all layers, of any class whose one rope is read: what a SPEC makes of it.
struct RewrittenRope {
  ModelConfig base;  // rope_base_model's
  RopeRequest request;
  Json config;        // config_with_rope's
  RopeTarget target;  // the rope as its method says it, and the tokens served under it
};
/// `config`: one without a text_config. `before`: of it (rope_meaning.h), with one rope. Errors as parse_rope_spec.
RewrittenRope rewrite_rope(const Json& config, const WantedRope& before, std::string_view spec);

/// A config.json under a new rope, by that file alone: what extend writes of classes that ropewalk does not take apart,
/// and what rope shows of any.
struct RopeRewrite {
  WantedRope before, after;          // the model's ropes now, and as they shall be
  std::optional<RewrittenRope> one;  // of a model with one rope for all layers
  std::vector<std::string> warnings;
  std::optional<Error> refused;  // why no file of this class is written

  /// The file (rope_emit.h, rope_layers.h). Error(unsupported): `refused`, or that nothing says it to `engines`.
  EmittedRope emit(const Json& config, std::span<const EngineVersion> engines) const;
};
/// Errors as read_rope_meaning, rope_base and parse_rope_spec.
RopeRewrite rope_rewrite(const std::string& path, const std::string& text, const Json& config, const std::string& spec);

/// A class whose rope nobody has compared with what engines compute, so that no file of it is written; nullopt for one
/// that was compared.
std::optional<Error> class_refusal(const std::string& path, const std::string& text, const Json& config);

}  // namespace ropewalk::formats
