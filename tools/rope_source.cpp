#include "tools/rope_source.h"

#include <algorithm>
#include <cmath>

#include "formats/config_file.h"
#include "formats/hub_cache.h"
#include "formats/rope_config.h"
#include "formats/rope_fields.h"
#include "formats/rope_layers.h"
#include "formats/synthetic.h"
#include "lib/error.h"
#include "lib/file.h"

namespace ropewalk::tools {
namespace {

namespace fs = std::filesystem;
using formats::EngineReading;
using formats::Json;

/// The configuration of a folder, an index or a .safetensors; a .json that is none of these is one itself.
fs::path config_beside(const fs::path& path) {
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) return path / "config.json";
  const std::string name = path.filename().string();
  if (name.ends_with(".safetensors") || name.ends_with(".index.json")) return path.parent_path() / "config.json";
  return path;
}

std::optional<int> tokenizer_limit_in(const fs::path& folder) {
  const fs::path path = folder / "tokenizer_config.json";
  std::error_code ignored;
  if (!fs::is_regular_file(path, ignored)) return std::nullopt;
  return formats::tokenizer_limit(formats::read_json(path));
}

/// The longest context that a rope is made for.
int meant_context(const formats::WantedRope& meant) {
  int longest = 1;
  for (const formats::WantedLayer& layer : meant.layers) {
    longest = std::max(longest, layer.spec.context);
    const std::optional<int> original = rope_original_context(layer.spec);
    const double scaled = original ? *original * rope_factor(layer.spec).value_or(1) : 0;
    // a ratio of the contexts says nothing about how long the rope may be
    if (scaled < 1 << 30) longest = std::max(longest, int(std::lround(scaled)));
  }
  return longest;
}

[[noreturn]] void refuse(const RopeSource& source, const formats::EngineError& error) {
  throw Error(ErrorKind::bad_input, formats::json_place(source.config_path, source.config_text, error.pointer),
              error.kind == formats::kNotFollowed
                  ? "not followed: " + error.text.substr(0, 300)
                  : source.read_as + " raises " + error.kind + ": " + error.text.substr(0, 300),
              "correct the file; --engine shows what others make of it");
}

/// Llama and Mistral by ropewalk's own reader, which knows the YaRN repository's remote code; others by the rules of the
/// newest transformers.
formats::WantedRope read_meaning(RopeSource& source, const Json& config, const std::string& text) {
  formats::require_model_config(source.config_path, config);
  const Json* type = config.is_object() && config.contains("model_type") ? &config.at("model_type") : nullptr;
  const auto code = config.is_object() ? formats::yarn_remote_code(config) : std::nullopt;
  const EngineReading reading = formats::read_as(formats::newest(formats::Engine::transformers), config);
  source.read_as = code ? "the remote code " + *code : reading.engine.title();
  const bool own = type && (*type == "llama" || *type == "mistral");
  if (!own || (reading.ropes.size() > 1 && !code)) {
    if (reading.error) refuse(source, *reading.error);
    for (const formats::EngineNotice& notice : reading.notices)
      if (notice.pointer.ends_with("/model_type")) source.warnings.push_back(notice.text);
    return formats::wanted_rope(reading, 0);
  }
  // the geometry is the engine's; where it has none, what fails says where
  formats::RopeGeometry geometry;
  const auto whole = [&](const char* key) {
    const Json value = config.value(key, Json());
    return value.is_number_integer() && value > 0 && value < 1 << 20 ? value.get<int>() : 0;
  };
  if (!config.value("head_dim", Json()).is_null()) geometry.head_dim = whole("head_dim");
  else if (whole("num_attention_heads") > 0) geometry.head_dim = whole("hidden_size") / whole("num_attention_heads");
  const Json context = config.value("max_position_embeddings", Json());
  constexpr int kMostChannels = 1 << 16;  // the engines' rules follow no wider head
  if (geometry.head_dim < 2 || geometry.head_dim > kMostChannels || geometry.head_dim % 2 != 0 ||
      !context.is_number_integer() || context < 1 || context > 2147483647) {
    if (reading.error) refuse(source, *reading.error);
    return formats::wanted_rope(reading, 0);
  }
  geometry.context = context.get<int>();
  return formats::wanted_rope(formats::read_hf_rope(source.config_path, text, config, geometry, source.warnings), 0);
}

ModelConfig base_of(const formats::WantedRope& meant, const Json& config) {
  ModelConfig base;
  base.model_type = config.is_object() ? config.value("model_type", "llama") : "llama";
  base.rope = meant.layers.at(0).spec;
  base.context = base.rope.context;
  base.head_dim = base.rope.rotary_dim;
  return base;
}

void take_spec(RopeSource& source) {
  if (source.gguf && source.meant->layers.size() > 1)
    throw Error(ErrorKind::unsupported, {source.gguf_path},
                "the layers have different ropes, and one SPEC cannot replace them", "leave +rope= out");
  if (const auto layers = source.gguf ? std::nullopt : formats::layer_ropes(source.config, *source.spec)) {
    source.meant = formats::parse_layer_ropes(*source.spec, *layers, source.config);
    source.rewritten = formats::emit_layer_ropes(source.config, *source.meant, {}).config;
    source.warnings.clear();
    source.read_as = "+rope=" + *source.spec;
    return;
  }
  const ModelConfig base = base_of(*source.meant, source.config);
  const formats::RopeRequest request = formats::parse_rope_spec(*source.spec, base);
  Json config = source.config;
  if (source.gguf)
    config = {{"model_type", "llama"},
              {"head_dim", base.head_dim},
              {"hidden_size", base.head_dim},
              {"num_attention_heads", 1},
              {"max_position_embeddings", base.context},
              {"rope_theta", base.rope.theta},
              {"rope_scaling", nullptr}};
  source.rewritten = formats::config_with_rope(config, request, base);
  source.warnings.clear();
  source.meant = read_meaning(source, source.rewritten, "");
  if (request.meant) source.meant = formats::wanted_rope(*request.meant, 0);
  source.read_as = "+rope=" + *source.spec;
}

}  // namespace

formats::FlagsSource RopeSource::on_disk() const {
  if (gguf) return formats::FlagsGguf{gguf.get(), gguf_path};
  return &config;
}

EngineReading RopeSource::read(const formats::EngineVersion& engine, const formats::EngineOptions& options) const {
  return gguf ? formats::read_as(engine, *gguf, gguf_path, options) : formats::read_as(engine, rewritten, options);
}

RopeSource open_rope_source(const std::string& text, std::optional<int> context, const Io& io) {
  const formats::SourceSpec spec = formats::parse_source(text);
  RopeSource source;
  source.text = text;
  source.spec = spec.rope;
  const auto synthetic = formats::synthetic_config(spec.model);
  const fs::path path = synthetic ? *synthetic : formats::path_or_hub(spec.model, "model", io.hub_cache);
  if (formats::is_adapter_alone(path))
    throw Error(ErrorKind::usage, {path.string()}, "this is an adapter, and adapters say nothing about the rope",
                "name its base model");
  if (path.extension() == ".gguf") {
    source.gguf = std::make_unique<formats::GgufFile>(formats::read_gguf(path));
    source.gguf_path = path.string();
  } else {
    const fs::path config = config_beside(path);
    source.config_path = config.string();
    source.config_text = read_text_file(config, formats::JsonLimits{}.max_bytes);
    source.config = source.rewritten = formats::parse_json(source.config_path, source.config_text);
    source.tokenizer_limit = tokenizer_limit_in(config.parent_path());
  }
  try {
    if (source.gguf) {
      const EngineReading reading = source.read(formats::newest(formats::Engine::llama_cpp), {});
      source.read_as = reading.engine.title();
      if (reading.error) throw Error(ErrorKind::bad_input, {source.gguf_path}, reading.error->text, "correct the file");
      source.meant = formats::wanted_rope(reading, 0);
    } else {
      source.meant = read_meaning(source, source.config, source.config_text);
    }
    if (source.spec) take_spec(source);
    source.meant->context = context.value_or(meant_context(*source.meant));
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::usage || error.kind() == ErrorKind::io) throw;
    source.meant.reset();
    source.trouble = error;
  }
  return source;
}

std::string place_of(const RopeSource& source, const RopeProvenance& from) {
  if (source.spec) return from.source == "config.json" ? "+rope=" + *source.spec : from.source;
  if (from.pointer.empty()) return from.source;
  if (source.gguf) return from.pointer;
  const formats::TextPosition place = formats::locate(source.config_text, from.pointer);
  const std::string name = fs::path(source.config_path).filename().string();
  if (place.line == 0) return name + " " + from.pointer;
  return name + ":" + std::to_string(place.line) + ":" + std::to_string(place.column) + " " + from.pointer;
}

}  // namespace ropewalk::tools
