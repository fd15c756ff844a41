// transformers. Which rotary embedding a class has, and those from before modeling_rope_utils.py: modeling_llama.py,
// modeling_mistral.py, modeling_qwen2.py, modeling_phi3.py of 4.31.0, 4.37.2, 4.42.4 and, where a class kept its own,
// 4.43.4 to 4.47.1 (all run; 4.32.1 read).
#include <algorithm>

#include "formats/engines/class_defaults.h"
#include "formats/engines/model_types.h"
#include "formats/engines/rules.h"

namespace ropewalk::formats::engines {
namespace {

bool is(const HfConfig& config, std::string_view model_type) { return config.family->model_type == model_type; }

/// MistralConfig and its attention read head_dim from 4.43; the other early classes split the width.
Value own_head_dim(const Walk& walk, const HfConfig& config, const HfVersion& version) {
  if (is(config, "mistral") && version.at_least({4, 43}))
    if (const Json* given = walk.raw("head_dim"); given && !given->is_null()) return walk.get("head_dim", nullptr);
  return walk.defaulted(split_head_dim(walk));
}

void own_llama_scaling(Draft& draft, Walk& walk, const HfConfig& config, const HfVersion& version) {
  const Dict& rope = *config.rope;
  record_method(draft, walk, rope);
  const double s = record_number(draft, "factor", item(rope, "factor"), kTimesFloat);
  if (item(rope, "type").json == "linear") {
    draft.spec().scaling = RopeLinear{s};
    draft.rope.position_divisor = s;
    return;
  }
  draft.record("original_context", config.context);
  draft.spec().scaling = RopeDynamic{s, draft.spec().context};
  if (!version.at_least({4, 38})) draft.rope.arithmetic = EngineArithmetic::torch_double;
  walk.notice("after a prompt beyond the original context the rotation stays as it was then, in shorter ones too");
}

/// Phi3SuScaledRotaryEmbedding, Phi3YarnScaledRotaryEmbedding (4.41, 4.42), Phi3LongRoPEScaledRotaryEmbedding (4.43 -
/// 4.47).
void own_phi3_scaling(Draft& draft, Walk& walk, const HfConfig& config) {
  const Dict& rope = *config.rope;
  record_method(draft, walk, rope);
  RopeLongrope longrope;
  read_lists(draft, rope, longrope);
  longrope.original_context = tokens(*config.original, "unsupported operand type(s) for /: 'int' and '{type}'");
  draft.record("original_context", *config.original);
  const double s = double(draft.spec().context) / longrope.original_context;
  draft.spec().attention_factor = item(rope, "type").json == "yarn"
                                      ? yarn_attention_factor(s)
                                      : longrope_attention_factor(s, longrope.original_context);
  draft.spec().scaling = std::move(longrope);
}

HfVersion version_of(const Walk& walk) { return {walk.engine.numbers}; }

/// gemma3 of 4.50 - 4.57 and Olmo 3 of 4.57 build two: the scaled one, and a plain one of another base or the same.
std::vector<EngineRope> two_ropes_v4(Walk& walk, const HfConfig& config, const HfVersion& version,
                                     const Value& local_theta) {
  std::vector<EngineRope> ropes = {shared_rope_v4(walk, config, version, config.theta)};
  ropes[0].layer_type = "full_attention";
  HfConfig local = config;
  local.rope.reset();
  ropes.push_back(shared_rope_v4(walk, local, version, local_theta));
  ropes[1].layer_type = "sliding_attention";
  return ropes;
}

std::vector<EngineRope> ropes_v5(Walk& walk, const HfConfig& config, const HfVersion& version) {
  std::vector<EngineRope> ropes;
  // of the classes known here one alone builds a rotary embedding per layer type; the others ask the whole dictionary
  if (!config.layers.empty() && config.family->known && !is(config, "gemma3_text"))
    raise("KeyError", "'rope_type'", config.rope ? config.rope->pointer : "");
  if (config.layers.empty()) ropes.push_back(shared_rope_v5(walk, config, version, "", *config.rope));
  for (const auto& [layer, rope] : config.layers)
    if (rope) ropes.push_back(shared_rope_v5(walk, config, version, layer, *rope));
  return ropes;
}

}  // namespace

EngineRope own_rope_v4(Walk& walk, const HfConfig& config, const HfVersion& version) {
  Draft draft(walk);
  const bool knows_theta = version.at_least({4, 33});
  set_theta(draft, knows_theta ? config.theta : walk.defaulted(10000.0));
  if (!knows_theta && walk.has("rope_theta"))
    walk.notice(walk.engine.title() + " has no rope_theta: 10000 whatever the file says",
                walk.pointer_to("rope_theta"));
  draft.spec().context = tokens(config.context, "'>' not supported between instances of 'int' and '{type}'");
  set_rotary_dim(draft, own_head_dim(walk, config, version), std::nullopt);
  if (config.rope && is(config, "phi3")) own_phi3_scaling(draft, walk, config);
  else if (config.rope && (is(config, "llama") || !config.family->known))
    own_llama_scaling(draft, walk, config, version);
  else
    draft.record(
        "method",
        walk.defaulted(
            "default"));  // mistral before 4.48, qwen2 before 4.45: rope_scaling is an attribute that nobody reads
  return draft.finish();
}

std::vector<EngineRope> transformers_ropes(Walk& walk, const HfConfig& config, const HfVersion& version) {
  if (config.v5) return ropes_v5(walk, config, version);
  if (!version.at_least(config.family->shared)) return {own_rope_v4(walk, config, version)};
  if (takes_gemma3_names(walk.model_type()))
    return two_ropes_v4(walk, config, version, walk.get("rope_local_base_freq", 10000.0));
  if (walk.model_type() == "olmo3" && walk.engine.engine == Engine::transformers)
    return two_ropes_v4(walk, config, version, config.theta);
  return {shared_rope_v4(walk, config, version, config.theta)};
}

namespace {

/// A base that no file says and no table of classes has.
bool guesses_base(const Walk& walk, const EngineReading& reading) {
  if (reading.ropes.empty() || transformers_knows(walk.model_type())) return false;
  const std::vector<RopeProvenance>& all = reading.ropes[0].spec.provenance;
  return std::any_of(all.begin(), all.end(),
                     [](const RopeProvenance& from) { return from.field == "theta" && from.pointer.empty(); });
}

}  // namespace

void read_as_transformers(Walk& walk, EngineReading& reading) {
  const HfVersion version = version_of(walk);
  const HfConfig config = load_hf_config(walk, version);
  reading.ropes = transformers_ropes(walk, config, version);
  reading.context = reading.ropes.empty() ? tokens(config.context, "") : reading.ropes[0].spec.context;
  if (config.family->known || follows_own_names(walk)) return;
  std::string notice = "the rotary embedding of model type '" + walk.model_type() +
                       "' was not compared with transformers: Llama's rules are used";
  if (walk.unknown_class())
    notice += "; " + newest(Engine::transformers).title() + " has no such class, and no auto_map names its code";
  if (guesses_base(walk, reading)) notice += "; the file has no rope_theta, and 10000 is a guess";
  walk.notice(notice, walk.has("model_type") ? walk.pointer_to("model_type") : "");
}

}  // namespace ropewalk::formats::engines
