#include "tools/plan_model.h"

#include <algorithm>

#include "formats/config_file.h"
#include "formats/gguf_model.h"
#include "formats/hf_config.h"
#include "formats/hf_folder.h"
#include "formats/hub_cache.h"
#include "formats/rope_base.h"
#include "formats/rope_meaning.h"
#include "formats/rope_rewrite.h"
#include "formats/sliding_layers.h"
#include "formats/synthetic.h"
#include "lib/error.h"
#include "lib/file.h"

namespace ropewalk::tools {
namespace {

namespace fs = std::filesystem;

/// What planning needs of a class whose rope was compared, by config.json alone.
void read_other_class(const std::string& path, const formats::PythonJson& read, PlannedModel& out) {
  const formats::ModelPart part = formats::model_part(read.json);
  const Json& model = *part.json;
  formats::refuse_not_finite(path, read);
  formats::RopeMeaning meaning = formats::read_rope_meaning(path, read.text, read.json);
  const auto count = [&](const char* key, const char* otherwise) {
    for (const char* name : {key, otherwise})
      if (const Json value = model.value(name, Json()); value.is_number_integer() && value > 0 && value < 1 << 24)
        return value.get<int>();
    throw Error(ErrorKind::bad_input, {.path = path}, std::string("there is no ") + key, "give a model's config.json");
  };
  ModelConfig& config = out.config;
  config.model_type = model.value("model_type", Json("")).get<std::string>();
  const formats::WantedLayer* whole = &meaning.rope.layers.at(0);
  for (const formats::WantedLayer& layer : meaning.rope.layers)
    if (layer.layer_type == "full_attention") whole = &layer;
  config.rope = whole->spec;
  config.context = whole->spec.context;
  config.n_layers = count("num_hidden_layers", "num_hidden_layers");
  config.n_kv_heads = count("num_key_value_heads", "num_attention_heads");
  config.head_dim = model.value("head_dim", Json()).is_number_integer()
                        ? count("head_dim", "head_dim")
                        : std::max(config.rope.rotary_dim, count("hidden_size", "hidden_size") /
                                                               count("num_attention_heads", "num_attention_heads"));
  config.n_vocab = model.value("vocab_size", Json()).is_number_integer() ? count("vocab_size", "vocab_size") : 0;
  if (const auto sliding = formats::sliding_layers(path, model, config.n_layers)) {
    config.sliding_window = sliding->window;
    out.sliding_layers = sliding->count();
  }
  out.warnings.insert(out.warnings.end(), meaning.warnings.begin(), meaning.warnings.end());
  out.ropes = std::move(meaning.rope);
  out.hf_config = read.json;
}

}  // namespace

PlannedModel open_planned_model(const ExtendOptions& options, const Io& io) {
  const formats::SourceSpec spec = formats::parse_source(options.source);
  PlannedModel model{spec.text, {}, {}, "config.json", {}};
  const auto synthetic = formats::synthetic_config(spec.model);
  fs::path path = synthetic ? *synthetic : formats::path_or_hub(spec.model, "model", io.hub_cache);
  const std::string name = path.filename().string();
  std::error_code ignored;
  const bool shard = name.ends_with(".safetensors") || name.ends_with(".index.json");
  const bool bare = synthetic || shard || path.extension() == ".json" || fs::is_directory(path, ignored);
  if (!bare && path.extension() == ".gguf" && !spec.rope && spec.adapters.empty()) {
    const formats::GgufFile header = formats::read_gguf_header(path);
    model.config = formats::read_gguf_config(header, path.string());
    model.place = "the GGUF's";
    model.warnings = header.warnings;
    for (const std::string& warning : model.warnings) warn(warning, options.common, io);
    return model;
  }
  if (!bare || spec.rope || !spec.adapters.empty() || formats::is_adapter_alone(path)) {
    const formats::Source source = open_source(options.source, {}, options.common, io);
    model.config = source.checkpoint.config;
    model.warnings = source.checkpoint.warnings;
    if (source.hf) model.hf_config = source.hf->config;
    else model.place = "the GGUF's";
    return model;
  }
  if (shard) path = path.parent_path().empty() ? "." : path.parent_path();
  const fs::path file = fs::is_directory(path, ignored) ? path / "config.json" : path;
  const formats::PythonJson read =
      formats::parse_python_json(file.string(), read_text_file(file, formats::JsonLimits{}.max_bytes));
  formats::require_model_config(file.string(), read.json);
  const Json type = read.json.value("model_type", Json());
  if (formats::compared_model_type(read.json) && type != "llama" && type != "mistral") {
    read_other_class(file.string(), read, model);
    for (const std::string& warning : model.warnings) warn(warning, options.common, io);
    return model;
  }
  if (type.is_string() && type != "llama" && type != "mistral") {
    formats::read_rope_meaning(file.string(), read.text, read.json);
    throw *formats::class_refusal(file.string(), read.text, read.json);
  }
  const formats::HfFiles files = formats::read_synthetic_config(path);
  formats::RopeBase base{files.hf.config, std::nullopt};
  if (formats::rope_contradictions(base.config).empty())  // which of two is planned from is in the rows' SPECs
    base = formats::rope_base(files.config_path, files.hf.config_text, base.config,
                              options.original ? "yarn,original=" + std::to_string(*options.original) : "native");
  model.config = formats::read_hf_config(files.config_path, files.hf.config_text, base.config, model.warnings);
  if (base.warning) model.warnings.push_back(*base.warning);
  model.unread = base.warning && options.original;
  model.hf_config = files.hf.config;
  for (const std::string& warning : model.warnings) warn(warning, options.common, io);
  return model;
}

KvCache kv_cache(const PlannedModel& model, int tokens) {
  const ModelConfig& config = model.config;
  const int windowed = model.sliding_layers >= 0 ? std::min(model.sliding_layers, config.n_layers) : config.n_layers;
  const std::uint64_t kept =
      std::uint64_t(windowed) * std::uint64_t(std::min(tokens, config.sliding_window.value_or(tokens))) +
      std::uint64_t(config.n_layers - windowed) * std::uint64_t(tokens);  // over all layers
  const std::uint64_t values = 2 * kept * std::uint64_t(config.n_kv_heads) * std::uint64_t(config.head_dim);
  return {2 * values, values / 32 * 34};  // q8_0: 32 values and their scale in 34 bytes
}

}  // namespace ropewalk::tools
