#pragma once

#include <string>
#include <string_view>

#include "formats/engines/hf_config.h"

// Shared by hf_config.cpp (4.x, and what is the same in all releases) and hf_config_v5.cpp.

namespace ropewalk::formats::engines {

/// The class's model type.
bool is(const HfConfig& config, std::string_view model_type);

/// KeyError for what a rope type needs and the dictionary does not have. `v5`: by the rules of 5.x.
void require_keys(const Dict& rope, const std::string& type, bool v5);
/// configuration_phi3.py: short_factor and long_factor are lists of numbers, half as many as channels rotate. `name`:
/// of the dictionary, in errors. `partial`: the part of a head that rotates.
void check_lists(const Walk& walk, const Dict& rope, const HfVersion& version, const char* name, double partial);
/// What the class takes where the file has no dictionary; nullopt: a plain rope.
std::optional<Dict> class_rope_dictionary(const Walk& walk);

/// layer_types is a field of the class, and no attribute it does not know: its dictionaries are nested by it when they
/// are converted.
bool has_layer_types_field(const HfConfig& config);
/// The strict classes of 5.x: layer_types is a list of texts, or None.
void check_layer_types_field(const Walk& walk, const HfConfig& config);
/// Known kinds, one for each layer. Of classes that were run.
void check_layer_types(const Walk& walk, const HfConfig& config, bool v5);

/// rope_parameters of 5.x: standardised, completed and validated; nested ones in `config.layers`.
void load_v5(Walk& walk, HfConfig& config, const HfVersion& version, bool as_loaded);

}  // namespace ropewalk::formats::engines
