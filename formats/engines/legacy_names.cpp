// Names of the rope that a class has for itself. What Llama's rules would make of such a file is another rope than the
// engine's.
#include <algorithm>

#include "formats/engines/model_types.h"
#include "formats/engines/rules.h"

namespace ropewalk::formats::engines {
namespace {

/// A rope type under either spelling, in either dictionary.
bool has_type(const Walk& walk, const char* name) {
  for (const char* key : {"rope_scaling", "rope_parameters"})
    if (const Json* dict = walk.raw(key); dict && dict->is_object())
      for (const char* spelling : {"type", "rope_type"})
        if (const auto type = dict->find(spelling); type != dict->end() && *type == name) return true;
  return false;
}

}  // namespace

bool follows_own_names(const Walk& walk) {
  const std::string type = walk.model_type();
  const Engine engine = walk.engine.engine;
  const bool v5 = engine == Engine::transformers && walk.engine.at_least({5});
  const bool serving = engine == Engine::vllm || engine == Engine::sglang;
  if (is_gpt_neox(type) || type == "olmo3") return v5;
  if (has_static_alpha(type) && has_type(walk, "dynamic")) return v5 || serving;
  return takes_mrope(type) && has_type(walk, "mrope") && (v5 || serving);
}

bool is_gpt_neox(const std::string& model_type) { return model_type == "gpt_neox"; }
bool has_static_alpha(const std::string& model_type) {
  return model_type == "hunyuan_v1_dense" || model_type == "hunyuan_v1_moe";
}
bool takes_mrope(const std::string& model_type) {
  for (const char* one : {"qwen2_vl", "qwen2_vl_text", "qwen2_5_vl", "qwen2_5_vl_text"})
    if (model_type == one) return true;
  return false;
}

void refuse_models(const Walk& walk) {
  const std::string type = walk.model_type(), pointer = walk.pointer_to("model_type");
  if (has_no_rope(type)) not_followed("model type '" + type + "' has no rotary embedding", pointer);
  if (has_rope_of_its_own(type))
    not_followed("model type '" + type + "' rotates with code and keys of its own, for which there is no rule",
                 pointer);
  if (walk.engine.engine != Engine::transformers || !type.empty()) return;
  const Json* given = walk.raw("model_type");
  if (!given && !walk.nested())
    raise("ValueError", "Unrecognized model. Should have a `model_type` key in its config.json.");
  if (!given || given->is_string()) return;
  raise("ValueError",
        "The checkpoint you are trying to load has model type `" + python_str(*given) +
            "` but Transformers does not recognize this architecture",
        pointer);
}

/// MiniMax M2 and its like: rotary_dim of head_dim channels rotate, and nothing but that key says so. A share beside it
/// says the same and is read.
static bool rotates_less(const Walk& walk) {
  const Json *rotary = walk.raw("rotary_dim"), *width = walk.raw("head_dim");
  if (walk.engine.engine == Engine::exllamav3 || !rotary || rotary->is_null() || walk.has("partial_rotary_factor"))
    return false;
  for (const char* key : {"rope_scaling", "rope_parameters"})
    if (const Json* dict = walk.raw(key); dict && dict->is_object() && dict->contains("partial_rotary_factor"))
      return false;
  return !width || *rotary != *width;
}

/// Where a class that was not compared says that a part of each head rotates; empty: all of it does, or the engine asks for
/// the key itself. llama.cpp's converter asks class by class, SGLang's classes look at the top level.
static std::string rotates_a_part(const Walk& walk) {
  const Engine engine = walk.engine.engine;
  if (engine != Engine::llama_cpp && engine != Engine::sglang) return "";
  const char* key = "partial_rotary_factor";
  const auto part = [](const Json* share) { return share && share->is_number() && share->get<double>() != 1; };
  if (engine == Engine::llama_cpp && part(walk.raw(key))) return walk.pointer_to(key);
  for (const char* name : {"rope_scaling", "rope_parameters"})
    if (const Json* dict = walk.raw(name); dict && dict->is_object())
      if (const auto share = dict->find(key); share != dict->end() && part(&*share))
        return walk.pointer_to(name) + "/" + key;
  return "";
}

bool follows_chatglm(const Walk& walk) {
  const EngineVersion& engine = walk.engine;
  const bool current = engine.engine == Engine::llama_cpp && engine.at_least({2025, 12});
  return walk.model_type() == "chatglm" &&
         (engine.engine == Engine::vllm || engine.engine == Engine::sglang || current);
}

void read_as_chatglm(Walk& walk, EngineReading& reading) {
  Draft draft(walk);
  const Value ratio = walk.get("rope_ratio", 1.0);
  draft.record("theta", ratio);
  draft.spec().theta = 10000 * number(ratio, "unsupported operand type(s) for *: 'int' and '{type}'");
  const Value length = walk.get("seq_length", 8192);
  draft.spec().context = tokens(length, "'>' not supported between instances of 'int' and '{type}'");
  int head = split_head_dim(walk);
  const bool converted = walk.engine.engine == Engine::llama_cpp;
  if (converted && walk.has("attention_dim")) head = walk.positive_int("attention_dim");
  set_rotary_dim(draft, walk.defaulted(head / 2), std::nullopt);
  draft.record("method", walk.defaulted("default"));
  const int served = draft.spec().context, asked = walk.options.context.value_or(served);
  reading.ropes = {draft.finish()};
  reading.context = asked;
  if (asked > served && !converted && !walk.options.allow_longer_context)
    reading.context_error = {"ValueError",
                             "the length asked for (" + std::to_string(asked) + ") is greater than seq_length (" +
                                 std::to_string(served) + ")",
                             walk.has("seq_length") ? walk.pointer_to("seq_length") : ""};
  walk.notice(
      walk.engine.title() +
          " was not run on chatglm: rope_ratio multiplies the base, neighbours of the first half "
          "of a head rotate, by its source. The model's own code of ChatGLM2 divides positions by rope_ratio instead",
      walk.has("rope_ratio") ? walk.pointer_to("rope_ratio") : "");
}

/// What turns some layers otherwise than the keys that Llama's rules read (5.23.0, run): a key, else "model_type" where the
/// class has the numbers itself; empty: nothing. Olmo 3 scales its full layers alone, and transformers 5 is followed there.
static std::string turns_some_layers_otherwise(const Walk& walk) {
  for (const char* key : {"compress_rope_theta", "swa_rope_theta", "global_head_dim"})
    if (const Json* value = walk.raw(key); value && !value->is_null()) {
      const bool plain =
          std::string_view(key) == "global_head_dim" && walk.has("head_dim") && *value == *walk.raw("head_dim");
      if (!plain) return key;
    }
  const std::string type = walk.model_type();
  for (const char* name : {"deepseek_v4", "mimo_v2_flash", "step3p5", "step3p7"})
    if (type == name) return "model_type";
  if (type != "olmo3" || follows_own_names(walk)) return "";
  for (const char* key : {"rope_scaling", "rope_parameters"})
    if (const Json* dict = walk.raw(key); dict && dict->is_object() && !dict->empty()) return key;
  return "";
}

void refuse_legacy_names(const Walk& walk) {
  const std::string type = walk.model_type();
  if (family_of(type).known || follows_chatglm(walk)) return;
  const bool v5 = walk.engine.engine == Engine::transformers && walk.engine.at_least({5});
  const auto refuse_at = [&](const std::string& pointer) {
    not_followed(
        "the rope of model type '" + type + "' in " + walk.engine.title() + ": " +
            pointer.substr(pointer.rfind('/') + 1) +
            " changes it, and Llama's rules, which are used for classes that were not compared, do not have it",
        pointer);
  };
  const auto refuse = [&](const char* key) { refuse_at(walk.pointer_to(key)); };
  if (const std::string pointer = rotates_a_part(walk); !pointer.empty()) refuse_at(pointer);
  if (walk.has("rope_ratio")) refuse("rope_ratio");
  if (rotates_less(walk)) refuse("rotary_dim");
  const auto refuse_class = [&](const char* share) {
    not_followed("the rope of model type '" + type + "' in " + walk.engine.title() + ": " + share +
                     " of a head rotates by itself, and Llama's rules, which are used for classes that were not "
                     "compared, rotate all of it",
                 walk.pointer_to("model_type"));
  };
  if (type == "chatglm") refuse_class("half");
  if (const std::string key = turns_some_layers_otherwise(walk); key == "model_type")
    not_followed(
        "model type '" + type + "' in " + walk.engine.title() +
            ": its kinds of layers have ropes of their own, and Llama's rules, which are used for classes that "
            "were not compared, have one",
        walk.pointer_to("model_type"));
  else if (!key.empty()) refuse(key.c_str());
  if (is_gpt_neox(type) && v5) return;
  for (const char* key : {"rotary_pct", "rotary_emb_base"})
    if (walk.has(key)) refuse(key);
  if (is_gpt_neox(type)) refuse_class("a quarter");
  const bool serving = walk.engine.engine == Engine::vllm || walk.engine.engine == Engine::sglang;
  if (has_static_alpha(type) && has_type(walk, "dynamic") && !v5 && !serving) refuse("rope_scaling");
  if (takes_mrope(type) && has_type(walk, "mrope") && walk.engine.engine == Engine::transformers && !v5)
    refuse("rope_scaling");
}

}  // namespace ropewalk::formats::engines
