// How each engine applies what its command line says about config.json.
// vLLM: vllm/config/model.py, _apply_dict_overrides (a dictionary replaces the attribute; inside text_config it is merged);
// before that, PretrainedConfig.update. SGLang 0.5.23: python/sglang/srt/utils/hf_transformers/config.py, get_config (a rope
// dictionary is merged; a text_config is updated). transformers: PretrainedConfig.from_dict, setattr for every keyword (run:
// 5.23.0). All three after the configuration class has read the file, so what that raises no flag can avoid.
#include "formats/config_file.h"
#include "formats/engines/flags_private.h"
#include "formats/engines/hf_config.h"

namespace ropewalk::formats {
namespace engines {

bool takes_overrides(const EngineVersion& engine) {
  return engine.engine == Engine::transformers || engine.engine == Engine::vllm || engine.engine == Engine::sglang;
}

bool reaches_text_config(const EngineVersion& engine) {
  return (engine.engine == Engine::vllm && engine.at_least({0, 12})) ||
         (engine.engine == Engine::sglang && engine.at_least({0, 5, 15}));
}

bool reads_rope_parameters(const EngineVersion& engine) {
  return takes_overrides(engine) && transformers_of(engine).at_least({5});
}

bool merges(const EngineVersion& engine, const FlagSet& flags) {
  if (engine.engine == Engine::vllm) return flags.in_text_config;
  return engine.engine == Engine::sglang && engine.at_least({0, 5, 15}) && !flags.in_text_config;
}

namespace {

/// transformers 5 completes the dictionaries while it loads the file: an original context that they lack is the file's
/// max_position_embeddings, whatever that is set to afterwards (run: 5.23.0).
void keep_loaded_original(Json& model) {
  if (!model.contains("max_position_embeddings") || model.contains("original_max_position_embeddings")) return;
  const Json loaded = model["max_position_embeddings"];
  const auto complete = [&](Json& dict) {
    const Json type = dict.value("rope_type", dict.value("type", Json()));
    const bool has_original = type == "yarn" || type == "longrope" || type == "llama3";
    if (has_original && !dict.contains("original_max_position_embeddings"))
      dict["original_max_position_embeddings"] = loaded;
  };
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    if (!model.contains(key) || !model[key].is_object()) continue;
    complete(model[key]);
    for (auto& item : model[key].items())
      if (item.value().is_object()) complete(item.value());
  }
}

}  // namespace

/// Up to 4.57 a keyword counts only if the configuration has such an attribute: Mistral's class has no rope_scaling of
/// its own (run: 4.57.6), nor have those that are not known, unless the file gives them one.
bool drops_rope_scaling(const EngineVersion& engine, const Json& model) {
  if (engine.engine != Engine::transformers || reads_rope_parameters(engine) || model.contains("rope_scaling"))
    return false;
  const Json type = model.is_object() ? model.value("model_type", Json()) : Json();
  const Family& family = family_of(type.is_string() ? type.get<std::string>() : "");
  return !family.known || std::string_view(family.model_type) == "mistral";
}

Json with_overrides(const EngineVersion& engine, const Json& config, const FlagSet& flags, bool merged) {
  Json changed = config;
  if (!changed.is_object()) return changed;
  Json& model = flags.in_text_config ? changed["text_config"] : changed;
  if (reads_rope_parameters(engine) && model.is_object()) keep_loaded_original(model);
  for (const auto& item : flags.overrides.items()) {
    const bool rope = item.key() == "rope_parameters" || item.key() == "rope_scaling";
    if (item.key() == "rope_scaling" && drops_rope_scaling(engine, model)) continue;
    if (!rope || !reads_rope_parameters(engine)) {
      model[item.key()] = item.value();
      continue;
    }
    Json dict = Json::object();  // one attribute under two names
    for (const char* key : {"rope_scaling", "rope_parameters"})
      if (merged && dict.empty() && model.contains(key) && model[key].is_object()) dict = model[key];
    for (const auto& entry : item.value().items()) dict[entry.key()] = entry.value();
    model.erase("rope_scaling");
    model["rope_parameters"] = std::move(dict);
  }
  return changed;
}

std::optional<EngineError> load_error(const EngineVersion& engine, const Json& config, const EngineOptions& options) {
  Walk walk(engine, config, options);
  try {
    load_hf_config(walk, transformers_of(engine));
  } catch (const Raised& raised) {
    return raised.error;
  }
  if (engine.engine != Engine::vllm) return std::nullopt;
  // patch_rope_parameters sees the file's own dictionary before the overrides come
  const std::optional<EngineError> error = read_as(engine, config, options).error;
  if (error && (error->text.find("conflicts between") != std::string::npos ||
                error->text.find("should have a 'rope_type' key") != std::string::npos))
    return error;
  return std::nullopt;
}

namespace {

/// --override-kv ARCH.context_length=int:N of llama.cpp: the length by default, and YaRN's original context where
/// neither the file nor a flag has one (load_hparams of src/llama-model.cpp).
void override_length(const EngineReading& without, const FlagSet& flags, EngineOptions& told) {
  const int length = flags.overrides.at("context_length").get<int>();
  if (!told.context) told.context = length;
  if (told.llama_cpp.original_context || without.ropes.empty()) return;
  for (const RopeProvenance& from : without.ropes[0].spec.provenance)
    if (from.field == "original_context" && from.pointer.find("original") == std::string::npos)
      told.llama_cpp.original_context = length;
}

}  // namespace
}  // namespace engines

std::optional<FlagSet> also_override(const EngineVersion& engine, const Json& config, FlagSet flags,
                                     const std::string& key, const Json& value) {
  const bool nested = model_part(config).nested();
  if (!engines::takes_overrides(engine) || (nested && !engines::reaches_text_config(engine))) return std::nullopt;
  flags.overrides[key] = value;
  flags.in_text_config = nested;
  return flags;
}

EngineReading read_with_flags(const EngineVersion& engine, const FlagsSource& source, const FlagSet& flags,
                              const EngineOptions& options) {
  EngineOptions told = options;
  if (flags.context) told.context = flags.context;
  told.llama_cpp = flags.llama_cpp;
  told.exllamav2 = flags.exllamav2;
  told.allow_longer_context = flags.allow_longer_context;
  if (engine.engine == Engine::llama_cpp && flags.overrides.contains("context_length")) {
    FlagSet rest = flags;
    rest.overrides = Json::object();
    engines::override_length(read_with_flags(engine, source, rest, options), flags, told);
  }
  if (const auto* gguf = std::get_if<FlagsGguf>(&source)) return read_as(engine, *gguf->file, gguf->path, told);
  const Json& config = *std::get<const Json*>(source);
  if (flags.overrides.empty() || !engines::takes_overrides(engine)) return read_as(engine, config, told);
  if (const std::optional<EngineError> error = engines::load_error(engine, config, told)) {
    EngineReading reading;
    reading.engine = engine;
    reading.error = error;
    return reading;
  }
  return read_as(engine, engines::with_overrides(engine, config, flags, engines::merges(engine, flags)), told);
}

}  // namespace ropewalk::formats
