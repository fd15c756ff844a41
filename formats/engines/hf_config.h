#pragma once

#include <optional>
#include <string>
#include <vector>

#include "formats/engines/python.h"

// What AutoConfig of a transformers release makes of config.json: the step that vLLM, SGLang and llama.cpp's converter
// share with transformers itself. Private to this folder.

namespace ropewalk::formats::engines {

/// A release of transformers: of the engine itself, or the one an engine was run with.
struct HfVersion {
  std::vector<int> numbers;
  bool at_least(std::initializer_list<int> other) const;
};

/// The release that an engine of that version loads config.json with: transformers itself, or the one beside vLLM or
/// SGLang when they were run.
HfVersion transformers_of(const EngineVersion& engine);

/// What ropewalk knows of a model class.
struct Family {
  const char* model_type;
  std::initializer_list<int> since;  // first transformers release that has it
  // first one whose rotary embedding takes rope types (before, rope_scaling is ignored or read by its own class)
  std::initializer_list<int> shared;
  double theta;  // class defaults
  int context;
  int head_dim;  // 0: hidden_size / num_attention_heads
  bool known;    // checked against the engines' output
};
/// The class of a model type; for one that is not known, Llama's rules with `known` false.
const Family& family_of(const std::string& model_type);

/// A loaded configuration.
struct HfConfig {
  const Family* family = nullptr;
  bool v5 = false;
  std::optional<Dict> rope;  // 4.x: rope_scaling, absent for None; 5.x: rope_parameters, standardised
  /// 5.x, nested by layer type; no Dict: a layer type without rope.
  std::vector<std::pair<std::string, std::optional<Dict>>> layers;
  Value theta;                    // 4.x: the top level's or the class's; 5.x: in the dictionaries
  Value context;                  // max_position_embeddings
  std::optional<Value> original;  // the top level's original_max_position_embeddings, or the class's (phi3)
};

/// What AutoConfig raises of a class that came after the release: named in its list of 5.23.0 and not in that of 4.57.6,
/// or Olmo 3, which 4.57 has and 4.56.2 has not. Where auto_map names code, that may be run instead.
void require_class(const Walk& walk, const HfVersion& version);
/// Raised where AutoConfig raises. In 5.x the top level's original context reaches the dictionaries when the rotary
/// embedding is built; `as_loaded`: before that, as to_dict() has it.
HfConfig load_hf_config(Walk& walk, const HfVersion& version, bool as_loaded = false);

/// Names that a class has for itself (transformers 5.23.0, run): GPT-NeoX's rotary_pct and rotary_emb_base; a dynamic rope
/// of HunYuan whose alpha stretches the base once for all lengths; Qwen's mrope, in text a plain rope.
bool is_gpt_neox(const std::string& model_type);
bool has_static_alpha(const std::string& model_type);
bool takes_mrope(const std::string& model_type);
/// Such a name stands in the file, and the engine's rule for it is known: not Llama's alone.
bool follows_own_names(const Walk& walk);
/// Not followed: a file with such a name in an engine whose rule for it is not known.
void refuse_legacy_names(const Walk& walk);
/// ChatGLM's rope_ratio in the engines whose sources have it: vLLM and SGLang (models/chatglm.py: get_rope with base
/// 10000 * rope_ratio and rotary_dim head_dim // 2), llama.cpp 0.5 (conversion/chatglm.py). Not run.
bool follows_chatglm(const Walk& walk);
void read_as_chatglm(Walk& walk, EngineReading& reading);
/// Not followed: a class without a rope, or with code of its own. Raised: what transformers says to a file without a
/// model_type.
void refuse_models(const Walk& walk);

/// config.head_dim of the loaded configuration; nullopt if the object has no such attribute. JSON null is None.
std::optional<Value> head_dim_attribute(const Walk& walk, const HfConfig& config, const HfVersion& version);
/// hidden_size // num_attention_heads.
int split_head_dim(const Walk& walk);
/// The rope type in its place: rope_type, else type; nullptr if neither.
const Value* rope_type(const Dict& rope);

}  // namespace ropewalk::formats::engines
