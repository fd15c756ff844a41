#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "formats/engines/flags.h"
#include "formats/rope_emit.h"

namespace ropewalk::formats {

// A rope for each kind of layer: transformers 5's rope_parameters {"full_attention": {...}, "sliding_attention": {...}},
// and what Gemma 3 says with rope_scaling, rope_theta and rope_local_base_freq (docs/rope-dialects.md).

/// The rope of each kind of layer as the newest transformers builds them; with `spec` an object that names kinds of
/// layers, also of a file that gives all of them one. nullopt: one rope is all there is and all that is asked for, or
/// transformers does not read the file.
std::optional<WantedRope> layer_ropes(const Json& config, std::string_view spec = {});

/// `spec` over these: "{"full_attention": {...}, ...}" replaces the kinds it names; any other SPEC (rope_config.h) is for
/// full_attention, the layers that see the whole context. Other kinds keep what they have. Error(usage) for a kind that
/// the model does not have, and as parse_rope_spec.
WantedRope parse_layer_ropes(std::string_view spec, const WantedRope& base, const Json& config);

/// The first way in which `reading` departs from `wanted`, empty if none; as first_difference (rope_emit.h), of every
/// kind of layer.
std::string first_difference(const WantedRope& wanted, const EngineReading& reading);

/// config.json with these ropes, chosen as emit_rope chooses (rope_emit.h). Where no engine is named, among the
/// files that the newest transformers runs as wanted. Error(unsupported) if no file makes all `engines` run them, or
/// that one.
EmittedRope emit_layer_ropes(const Json& config, const WantedRope& wanted, std::span<const EngineVersion> engines);

/// "full_attention YaRN x4 of 8192 (...), sliding_attention plain (...)".
std::string describe(const WantedRope& wanted);

}  // namespace ropewalk::formats
