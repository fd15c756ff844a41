// SGLang. Run: 0.4.6.post5, 0.5.3, 0.5.10, 0.5.23; read at their boundaries: 0.5.14, 0.5.18. Files:
// python/sglang/srt/hf_transformers_utils.py (get_context_length),
// python/sglang/srt/models/{llama,qwen2,qwen3,gpt_oss,gemma3_causal}.py.
#include "formats/engines/serving.h"

namespace ropewalk::formats::engines {
namespace {

ServingRules rules_of(const EngineVersion& version) {
  ServingRules rules;
  rules.transformers = transformers_of(version);
  rules.partial = ServingRules::Partial::llama_top_level;
  rules.alpha = version.at_least({0, 5});
  rules.truncate = version.at_least({0, 5, 4});
  if (version.at_least({0, 5, 15})) {
    rules.attention = ServingRules::Attention::attn_factor_mscale;
    rules.proportional = ServingRules::Proportional::every_channel;
  }
  return rules;
}

/// get_context_length: the first of the length keys, times the factor unless the dictionary has an original context.
int derived_length(Walk& walk, const HfConfig& config, const Dict* rope) {
  Value length = config.context;
  for (const char* key :
       {"max_position_embeddings", "model_max_length", "max_seq_len", "seq_length", "max_sequence_length"})
    if (const Json* value = walk.raw(key); value && !value->is_null()) length = walk.get(key, nullptr);
  const Value* factor = rope ? rope->find("factor") : nullptr;
  const Value* type = rope ? rope_type(*rope) : nullptr;
  if (!factor || rope->contains("original_max_position_embeddings") || (type && type->json == "llama3"))
    return tokens(length, "int() argument must be a string, a bytes-like object or a real number, not '{type}'");
  return multiplied(number(length, "can't multiply sequence by non-int of type 'float'"), *factor);
}

/// ModelConfig: --context-length may not exceed it unless an environment variable allows that
/// (python/sglang/srt/configs/model_config.py).
void serve(const Walk& walk, EngineReading& reading, int derived) {
  const std::optional<int> asked = walk.options.context;
  reading.context = asked.value_or(derived);
  if (asked && *asked > derived && !walk.options.allow_longer_context)
    reading.context_error =
        EngineError{"ValueError",
                    "User-specified context_length (" + std::to_string(*asked) +
                        ") is greater than the derived context_length (" + std::to_string(derived) + ")",
                    ""};
}

}  // namespace

void read_as_sglang(Walk& walk, EngineReading& reading) {
  const ServingRules rules = rules_of(walk.engine);
  HfConfig config = load_hf_config(walk, rules.transformers);
  if (!config.family->known && !follows_own_names(walk))
    walk.notice("model type '" + walk.model_type() + "' was not compared with sglang: Llama's rules are used",
                walk.has("model_type") ? walk.pointer_to("model_type") : "");
  // the length comes first, from the flat dictionary; where it fails the engine does not get as far as the rope
  const bool nested = !config.layers.empty();
  try {
    serve(walk, reading, derived_length(walk, config, config.rope && !nested ? &*config.rope : nullptr));
  } catch (const Raised& raised) {
    reading.context_error = raised.error;
    throw;
  }
  if (std::string_view(config.family->model_type) == "gemma3_text") {
    walk.notice(
        "sglang's gemma3 has a rotary embedding of its own, which was not compared: that of transformers is used");
    reading.ropes = transformers_ropes(walk, config, rules.transformers);
    return;
  }
  // llama.py takes config.head_dim where there is one, and transformers 4.52 to 4.57 leave Mistral's at None
  if (const std::optional<Value> head = head_dim_attribute(walk, config, rules.transformers);
      head && head->json.is_null() && std::string_view(config.family->model_type) == "mistral" && !config.v5)
    raise("TypeError", "unsupported operand type(s) for *: 'int' and 'NoneType'",
          walk.has("head_dim") ? walk.pointer_to("head_dim") : "");
  if (!nested) {
    if (config.rope && runs_llama_class(config) && config.original && truthy(config.original->json))
      config.rope->set("original_max_position_embeddings", *config.original);
    const Value theta = config.v5 ? *config.rope->find("rope_theta") : config.theta;
    reading.ropes.push_back(
        serving_rope(walk, rules, config, "", config.rope ? &*config.rope : nullptr, theta, reading.context));
    return;
  }
  for (const auto& [layer, rope] : config.layers)
    if (rope)
      reading.ropes.push_back(
          serving_rope(walk, rules, config, layer, &*rope, *rope->find("rope_theta"), reading.context));
}

}  // namespace ropewalk::formats::engines
