#pragma once

#include "formats/engines/rules.h"

// layers/rotary_embedding of vLLM, and SGLang's, which began as a copy of it. Private to this folder.

namespace ropewalk::formats::engines {

/// What tells the releases apart.
struct ServingRules {
  HfVersion transformers;  // that loads config.json
  enum class Partial {
    none,
    llama_top_level,
    dictionary
  } partial = Partial::none;  // where partial_rotary_factor counts
  enum class Attention {
    attn_factor,         // g(s, 1) * attn_factor
    attn_factor_mscale,  // (g(s, mscale) / g(s, mscale_all_dim) if both are given, else g(s, 1)) * attn_factor
    attention_factor     // as transformers from 4.51
  } attention = Attention::attn_factor;
  enum class Proportional { unknown, like_transformers, every_channel } proportional = Proportional::unknown;
  bool alpha = true;  // dynamic with alpha
  bool ntk = false;   // type ntk
  bool truncate = true;
  bool extrapolation_factor = true;
  bool dynamic_is_plain = false;
  bool longrope_by_max_length = false;  // once, by the length served; else per batch
};

/// The rotary embedding of get_rope for one dictionary (nullptr: None). `max_length`: the length served, where the
/// longrope list depends on it.
EngineRope serving_rope(Walk& walk, const ServingRules& rules, const HfConfig& config, const std::string& layer_type,
                        const Dict* rope, const Value& theta, std::optional<int> max_length);

/// llama, mistral, phi3: models that run vLLM's and SGLang's LlamaForCausalLM.
bool runs_llama_class(const HfConfig& config);
/// int(context * factor) as Python has it, with its errors.
int multiplied(double context, const Value& factor);

}  // namespace ropewalk::formats::engines
