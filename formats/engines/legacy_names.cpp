// Names of the rope that a class has for itself. What Llama's rules would make of such a file is another rope than the
// engine's.
#include <algorithm>

#include "formats/engines/class_defaults.h"
#include "formats/engines/model_types.h"
#include "formats/engines/rules.h"

namespace ropewalk::formats::engines {
namespace {

struct NamedDictionary {
  std::string pointer;
  const Json* json;
};
/// The file's rope dictionaries that are objects.
std::vector<NamedDictionary> dictionaries(const Walk& walk) {
  std::vector<NamedDictionary> out;
  for (const char* key : {"rope_scaling", "rope_parameters"})
    if (const Json* dict = walk.raw(key); dict && dict->is_object()) out.push_back({walk.pointer_to(key), dict});
  return out;
}

/// A rope type under either spelling, in either dictionary.
bool has_type(const Walk& walk, const char* name) {
  for (const NamedDictionary& dict : dictionaries(walk))
    for (const char* spelling : {"type", "rope_type"})
      if (const auto type = dict.json->find(spelling); type != dict.json->end() && *type == name) return true;
  return false;
}

constexpr const char* kShare = "partial_rotary_factor";
bool says_share(const Walk& walk) {
  const std::vector<NamedDictionary> all = dictionaries(walk);
  return walk.has(kShare) ||
         std::any_of(all.begin(), all.end(), [](const NamedDictionary& one) { return one.json->contains(kShare); });
}

/// A dictionary for a kind of layer that layer_types names.
bool says_kinds(const Walk& walk) {
  const Json* types = walk.raw("layer_types");
  if (!types || !types->is_array()) return false;
  for (const NamedDictionary& dict : dictionaries(walk))
    for (const Json& type : *types)
      if (type.is_string() && dict.json->value(type.get<std::string>(), Json()).is_object()) return true;
  return false;
}

}  // namespace

bool follows_own_names(const Walk& walk) {
  const std::string type = walk.model_type();
  const Engine engine = walk.engine.engine;
  const bool v5 = engine == Engine::transformers && walk.engine.at_least({5});
  const bool serving = engine == Engine::vllm || engine == Engine::sglang;
  if (is_gpt_neox(type)) return v5;
  if (type == "olmo3") return engine == Engine::transformers;
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
  if (walk.engine.engine == Engine::transformers) require_class(walk, transformers_of(walk.engine));
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
  if (walk.engine.engine == Engine::exllamav3 || !rotary || rotary->is_null() || says_share(walk)) return false;
  return !width || *rotary != *width;
}

/// Where a class that was not compared says that a part of each head rotates; empty: all of it does, or the engine asks for
/// the key itself. llama.cpp's converter asks class by class, SGLang's classes look at the top level.
static std::string rotates_a_part(const Walk& walk) {
  const Engine engine = walk.engine.engine;
  if (engine != Engine::llama_cpp && engine != Engine::sglang) return "";
  const auto part = [](const Json* share) { return share && share->is_number() && share->get<double>() != 1; };
  if (engine == Engine::llama_cpp && part(walk.raw(kShare))) return walk.pointer_to(kShare);
  for (const NamedDictionary& dict : dictionaries(walk))
    if (const auto share = dict.json->find(kShare); share != dict.json->end() && part(&*share))
      return dict.pointer + "/" + kShare;
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

/// The key that turns some layers otherwise than Llama's rules read it (5.23.0, run); empty: none. Olmo 3 scales its full
/// layers alone, and transformers is followed there.
static std::string turns_some_layers_otherwise(const Walk& walk) {
  const std::string type = walk.model_type();
  const bool v5 = walk.engine.engine == Engine::transformers && walk.engine.at_least({5});
  for (const char* key : {"compress_rope_theta", "swa_rope_theta", "global_head_dim"}) {
    const Json* value = walk.raw(key);
    if (!value || value->is_null()) continue;
    const bool width = std::string_view(key) == "global_head_dim";
    const bool plain = width && walk.has("head_dim") && *value == *walk.raw("head_dim");
    if (!plain && !(width && v5 && widens_full_layers(type))) return walk.pointer_to(key);
  }
  if (type != "olmo3" || follows_own_names(walk)) return "";
  for (const NamedDictionary& dict : dictionaries(walk))
    if (!dict.json->empty()) return dict.pointer;
  return "";
}

/// The class has ropes for its kinds of layers, and the file, or the engine, is none in which they are followed:
/// transformers 5 is where the file has a dictionary for each, or says it as Gemma 3 does.
static bool hides_kinds(const Walk& walk) {
  const std::string type = walk.model_type();
  const bool transformers = walk.engine.engine == Engine::transformers;
  if (takes_gemma3_names(type)) return !transformers;
  return has_kinds_of_layers(type) && !(transformers && walk.engine.at_least({5}) && says_kinds(walk));
}

void refuse_legacy_names(const Walk& walk) {
  const std::string type = walk.model_type();
  if (family_of(type).known || follows_chatglm(walk)) return;
  const Engine engine = walk.engine.engine;
  const bool v5 = engine == Engine::transformers && walk.engine.at_least({5});
  const bool serving = engine == Engine::vllm || engine == Engine::sglang;
  const std::string which = "the rope of model type '" + type + "' in " + walk.engine.title() + ": ";
  const std::string rules = "Llama's rules, which are used for classes that were not compared, ";
  const auto refuse_at = [&](const std::string& pointer) {
    not_followed(which + pointer.substr(pointer.rfind('/') + 1) + " changes it, and " + rules + "do not have it",
                 pointer);
  };
  const auto refuse = [&](const char* key) { refuse_at(walk.pointer_to(key)); };
  const auto refuse_class = [&](const char* share) {
    not_followed(which + share + " of a head rotates by itself, and " + rules + "rotate all of it",
                 walk.pointer_to("model_type"));
  };
  if (const std::string pointer = rotates_a_part(walk); !pointer.empty()) refuse_at(pointer);
  if (walk.has("rope_ratio")) refuse("rope_ratio");
  if (rotates_less(walk)) refuse("rotary_dim");
  if (type == "chatglm") refuse_class("half");
  if (const std::string pointer = turns_some_layers_otherwise(walk); !pointer.empty()) refuse_at(pointer);
  if (hides_kinds(walk))
    not_followed(which + "its kinds of layers have ropes of their own, and " + rules + "have one",
                 walk.pointer_to("model_type"));
  if (is_gpt_neox(type) && v5) return;
  for (const char* key : {"rotary_pct", "rotary_emb_base"})
    if (walk.has(key)) refuse(key);
  if (is_gpt_neox(type)) refuse_class("a quarter");
  // of classes with a share of their own the converter and SGLang's classes know some
  if ((engine == Engine::llama_cpp || engine == Engine::sglang) && class_rope(type).share != 1 && !says_share(walk))
    refuse_class("a part");
  if (has_static_alpha(type) && has_type(walk, "dynamic") && !v5 && !serving) refuse("rope_scaling");
  if (takes_mrope(type) && has_type(walk, "mrope") && engine == Engine::transformers && !v5) refuse("rope_scaling");
}

}  // namespace ropewalk::formats::engines
