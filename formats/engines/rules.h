#pragma once

#include "formats/engines/hf_config.h"

// The rules, one function per engine and range of versions, and what they share. Private to this folder.

namespace ropewalk::formats::engines {

// Each fills ropes, context, context_error and notices, and raises what the engine raises.
void read_as_transformers(Walk& walk, EngineReading& reading);
void read_as_vllm(Walk& walk, EngineReading& reading);
void read_as_sglang(Walk& walk, EngineReading& reading);
void read_as_llama_cpp(Walk& walk, EngineReading& reading);
void read_as_exllamav2(Walk& walk, EngineReading& reading);
void read_as_exllamav3(Walk& walk, EngineReading& reading);

/// The rotary embedding of transformers for one layer type: ROPE_INIT_FUNCTIONS (4.43 and later; 5.x).
EngineRope shared_rope_v4(Walk& walk, const HfConfig& config, const HfVersion& version, const Value& theta);
EngineRope shared_rope_v5(Walk& walk, const HfConfig& config, const HfVersion& version, const std::string& layer_type,
                          const Dict& rope);
/// 4.31 to 4.42, and classes that kept their own rotary embedding for longer.
EngineRope own_rope_v4(Walk& walk, const HfConfig& config, const HfVersion& version);
/// All of a model's ropes as transformers builds them.
std::vector<EngineRope> transformers_ropes(Walk& walk, const HfConfig& config, const HfVersion& version);

// Pieces --------------------------------------------------------------------------------------------------------------

/// Python's a * b for a missing or ill-typed a.
inline constexpr const char* kTimesFloat = "unsupported operand type(s) for *: '{type}' and 'float'";
inline constexpr const char* kCompared = "'<=' not supported between instances of '{type}' and 'int'";

/// rope[key]; KeyError if it is not there.
const Value& item(const Dict& rope, const std::string& key);
/// rope.get(key): nullptr if absent or None.
const Value* given(const Dict& rope, const std::string& key);
/// Records the method; nullptr is the default.
void record_method(Draft& draft, Walk& walk, const Dict& rope);
/// theta from a value, recorded.
void set_theta(Draft& draft, const Value& theta);
/// int(head_dim * partial), recorded.
void set_rotary_dim(Draft& draft, const Value& head_dim, const std::optional<Value>& partial);
/// `factor`, recorded as such.
double record_number(Draft& draft, const char* field, const Value& value, const std::string& type_error);

/// short_factor and long_factor as lists of numbers.
void read_lists(Draft& draft, const Dict& rope, RopeLongrope& longrope);
/// lib's, with Python's error where ln L is 0.
double longrope_attention_factor(double factor, int original_context);
/// low_freq_factor, high_freq_factor, factor and original_max_position_embeddings of a llama3 dictionary.
RopeLlama3 read_llama3(Draft& draft, const Dict& rope);
/// get(beta_fast) or 32, get(beta_slow) or 1 (transformers).
void read_betas_or_default(Draft& draft, Walk& walk, const Dict& rope, RopeYarn& yarn);
/// Raises what math.log and math.floor of find_correction_range raise at betas they cannot take: 0, below 0, past what
/// a double holds. Once betas, original context and truncate are read.
void check_ramp(const RopeYarn& yarn, const Dict& rope);
/// A notice where the model's latent attention scales the softmax by g(s, mscale_all_dim)^2 beside the rope (transformers:
/// yarn_apply_mscale of DeepSeek's classes).
void notice_softmax_scale(Walk& walk, const HfConfig& config, const Dict& rope, double factor);
/// attention_factor, else g(s, mscale) / g(s, mscale_all_dim) if neither is 0, else g(s, 1) (transformers from 4.51,
/// vLLM from 0.31).
void set_attention_factor(Draft& draft, const Dict& rope, double factor);

}  // namespace ropewalk::formats::engines
