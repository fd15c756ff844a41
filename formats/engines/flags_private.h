#pragma once

#include "formats/engines/flags.h"

// What the files of engine_flags share. Private to this folder.

namespace ropewalk::formats::engines {

/// True where config.json is read by transformers 5: rope_parameters with the base inside.
bool reads_rope_parameters(const EngineVersion& engine);
/// Whether an override can change a part of text_config; the others replace it whole.
bool reaches_text_config(const EngineVersion& engine);
/// Whether a keyword rope_scaling does nothing: up to transformers 4.57, of a class without that attribute.
bool drops_rope_scaling(const EngineVersion& engine, const Json& model);
/// Engines whose flags replace keys of config.json.
bool takes_overrides(const EngineVersion& engine);

/// config.json with the overrides in it. `merged`: a rope dictionary is merged into the file's instead of replacing it,
/// as SGLang from 0.5.15 does it, and vLLM inside text_config.
Json with_overrides(const EngineVersion& engine, const Json& config, const FlagSet& flags, bool merged);
/// Whether the engine merges, as far as known.
bool merges(const EngineVersion& engine, const FlagSet& flags);
/// Overrides reach the configuration after it was loaded: what the file alone makes the loader raise.
std::optional<EngineError> load_error(const EngineVersion& engine, const Json& config, const EngineOptions& options);

/// Flags that may do, without those that say nothing. The empty set and a context alone come first.
std::vector<FlagSet> candidates(const EngineVersion& engine, const FlagsSource& source, const WantedRope& wanted);

/// Those of engines that have a switch for each number.
std::vector<FlagSet> llama_cpp_candidates(const EngineVersion& engine, const WantedRope& wanted);
std::vector<FlagSet> exllama_candidates(const EngineVersion& engine, const WantedRope& wanted);
/// A dynamic rope as it is at one length: plain, with the base of that length.
void hold_still(RopeSpec& spec, int context);
/// A float32 as a double with few digits: what came through a GGUF's f32 is written as people would.
double shortest(double value);
/// A number as people write it: 16, 10000, 0.934878.
std::string number_text(double value);

}  // namespace ropewalk::formats::engines
