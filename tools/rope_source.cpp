#include "tools/rope_source.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>

#include "formats/config_file.h"
#include "formats/hub_cache.h"
#include "formats/lint/lint.h"
#include "formats/rope_config.h"
#include "formats/rope_fields.h"
#include "formats/rope_meaning.h"
#include "formats/rope_rewrite.h"
#include "formats/sliding_layers.h"
#include "formats/synthetic.h"
#include "lib/error.h"
#include "lib/file.h"
#include "lib/rope_bands.h"
#include "tools/one_line.h"

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
  return formats::tokenizer_limit(
      formats::parse_python_json(path.string(), read_text_file(path, formats::JsonLimits{}.max_bytes)).json);
}

/// The file as Python reads it; NaN and Infinity are refused where the rope is made of them.
Json read_config(RopeSource& source) {
  formats::PythonJson read = formats::parse_python_json(source.config_path, source.config_text);
  formats::refuse_not_finite(source.config_path, read);
  if (!read.not_finite.empty())
    source.warnings.push_back(
        "the file holds NaN or Infinity, which Python writes and JSON does not have; the rope is "
        "not made of them");
  source.config_text = std::move(read.text);
  return std::move(read.json);
}

void take_meaning(RopeSource& source) {
  source.read_as = formats::newest(formats::Engine::transformers).title();
  formats::RopeMeaning meaning = formats::read_rope_meaning(source.config_path, source.config_text, source.config);
  source.read_as = meaning.by;
  source.meant = std::move(meaning.rope);
  source.warnings.insert(source.warnings.end(), meaning.warnings.begin(), meaning.warnings.end());
}

/// Llama's and mistral's rope can be read of files that their own library stops at for another reason.
void warn_of_refusal(RopeSource& source) {
  const EngineReading reading = source.read(formats::newest(formats::Engine::transformers), {});
  if (source.read_as != reading.engine.title() || !reading.error || reading.error->kind == formats::kNotFollowed)
    return;
  source.warnings.push_back(source.read_as + " itself does not load this file: " + reading.error->kind + ": " +
                            one_line(reading.error->text.substr(0, 200)));
}

/// Of none and ntk, which are written as a plain rope: what was trained stands in the SPEC and its base alone.
void take_unscaled_spec(RopeSource& source, const formats::TrainedRope& trained) {
  RopeSpec& spec = source.meant->layers.at(0).spec;
  if (!std::holds_alternative<RopeUnscaled>(spec.scaling) || trained.context < 1) return;
  source.declared = trained.context;
  if (!trained.alpha) return;
  spec.theta = trained.theta;
  spec.scaling = RopeNtk{*trained.alpha};
}

void take_request(RopeSource& source, const formats::RopeRequest& request) {
  source.meant = formats::wanted_rope(request.spec, request.served);
  source.declared = request.served;
  for (RopeProvenance& one : source.meant->layers.at(0).spec.provenance)
    if (one.field == "original_context" && request.trained.from != formats::kSpecSays)
      one.source = request.trained.from;
  take_unscaled_spec(source, request.trained);
}

void follow_limit(RopeSource& source, int before) {
  source.written_limit = source.tokenizer_limit;
  if (source.tokenizer_limit && formats::limit_follows(*source.tokenizer_limit, before, source.meant->context))
    source.written_limit = source.meant->context;
}

/// The SPEC over a config.json, as extend would write it. What is meant is the SPEC's alone.
void rewrite_file(RopeSource& source) {
  const formats::RopeRewrite rewrite =
      formats::rope_rewrite(source.config_path, source.config_text, source.config, *source.spec);
  source.read_as = "+rope=" + *source.spec;
  if (rewrite.one) {
    take_request(source, rewrite.one->request);
  } else {
    source.meant = rewrite.after;
    source.declared = rewrite.after.context;
  }
  follow_limit(source, rewrite.before.context);
  try {
    source.rewritten = rewrite.emit(source.config, {}).config;
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::unsupported) throw;
    source.unwritten.emplace(error);
    return;
  }
  if (!rewrite.one) return;
  try {
    source.warnings = formats::read_rope_meaning(source.config_path, "", source.rewritten).warnings;
  } catch (const Error&) {  // a class that refuses the method does so in the row of its engine
  }
}

int vocabulary(const formats::GgufFile& file) {
  const formats::GgufArray* tokens = file.array("tokenizer.ggml.tokens");
  return tokens && tokens->size() <= 0x7fffffff ? int(tokens->size()) : 0;
}

void rewrite_gguf(RopeSource& source) {
  if (source.meant->layers.size() > 1)
    throw Error(ErrorKind::unsupported, {source.gguf_path},
                "the layers have different ropes, and one SPEC cannot replace them", "leave +rope= out");
  source.read_as = "+rope=" + *source.spec;
  const int before = source.meant->context;
  take_request(source, formats::parse_rope_spec(
                           *source.spec, formats::rope_base_model(*source.meant, "llama", vocabulary(*source.gguf))));
  follow_limit(source, before);
}

/// The reader of llama's and mistral's files has said it in its own words.
bool said_already(const RopeSource& source, const formats::Finding& finding) {
  struct Words {
    std::string_view rule, words;
  };
  static constexpr std::array kWords = {Words{"R01", "has a factor but no rope_type"},
                                        Words{"R02", "but type is"},
                                        Words{"R05", "both rope_scaling and rope_parameters"},
                                        Words{"R07", "and exllama the first"},
                                        Words{"R09", "4.51 to 4.57 the second"},
                                        Words{"R20", "below 1: the context shrinks"}};
  return std::any_of(kWords.begin(), kWords.end(), [&](const Words& one) {
    return one.rule == finding.rule &&
           std::any_of(source.warnings.begin(), source.warnings.end(),
                       [&](const std::string& warning) { return warning.find(one.words) != std::string::npos; });
  });
}

/// What lint calls an error of the rope, or two ropes in one file: numbers are shown all the same, and not in silence. What
/// engines make of it is for --engine to show. Nothing of a file that a SPEC replaces and that is not written: what lies
/// there is not meant.
void warn_of_findings(RopeSource& source) {
  if (source.spec && (source.gguf || source.unwritten)) return;
  formats::LintInput input;
  if (source.gguf) {
    input.gguf = std::move(*source.gguf);
    input.gguf_path = source.gguf_path;
  } else {
    input.config = formats::LintFile{
        source.config_path, source.spec ? source.rewritten.dump() : source.config_text, source.rewritten, {}};
  }
  std::vector<std::string> warnings;
  for (const formats::Finding& finding : formats::lint(input, {})) {
    const bool of_the_rope =
        finding.rule[0] == 'G' || (finding.rule[0] == 'R' && finding.rule < "R40") || finding.rule == "R49";
    const bool always = finding.rule == "R05" || finding.rule == "R10" || finding.rule == "R49";
    if (!of_the_rope || (finding.severity != formats::Severity::error && !always) || said_already(source, finding))
      continue;
    const bool placed = !source.spec && !finding.pointer.empty();
    const std::string place = placed ? place_of(source, {"", "", finding.pointer}) + ": " : "";
    warnings.push_back(place + one_line(finding.message) + " (lint " + std::string(finding.rule) + ")");
  }
  if (source.gguf) *source.gguf = std::move(*input.gguf);
  source.warnings.insert(source.warnings.end(), warnings.begin(), warnings.end());
}

}  // namespace

formats::FlagsSource RopeSource::on_disk() const {
  if (gguf) return formats::FlagsGguf{gguf.get(), gguf_path};
  return &config;
}

EngineReading RopeSource::read(const formats::EngineVersion& engine, formats::EngineOptions options) const {
  options.tokenizer_limit = written_limit;
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
    source.config = source.rewritten = read_config(source);
    formats::require_model_config(source.config_path, source.config);
    source.tokenizer_limit = source.written_limit = tokenizer_limit_in(config.parent_path());
  }
  try {
    if (source.spec && !source.gguf) {
      rewrite_file(source);
    } else if (source.gguf) {
      const EngineReading reading = source.read(formats::newest(formats::Engine::llama_cpp), {});
      source.read_as = reading.engine.title();
      if (reading.error) throw Error(ErrorKind::bad_input, {source.gguf_path}, reading.error->text, "correct the file");
      source.meant = formats::wanted_rope(reading, 0);
      for (const formats::WantedLayer& layer : source.meant->layers)
        if (const auto fault = formats::rope_fault(layer.spec))
          throw Error(ErrorKind::bad_input, {source.gguf_path},
                      formats::pointer_of(layer.spec, fault->field) + ": " + fault->problem, fault->fix);
      source.meant->context = formats::context_made_for(*source.meant);
    } else {
      take_meaning(source);
      warn_of_refusal(source);
    }
    if (!source.spec || source.gguf) source.declared = source.meant->context;
    if (source.spec && source.gguf) rewrite_gguf(source);
    warn_of_findings(source);
    if (context) source.meant->context = *context;
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::usage || error.kind() == ErrorKind::io) throw;
    source.meant.reset();
    source.trouble = error;
  }
  return source;
}

int trained_on(const RopeSource& source, const formats::WantedLayer& layer) {
  return trained_context(layer.spec, source.declared);
}

int reach_of(const RopeSource& source, const formats::WantedLayer& layer) {
  const int context = source.meant->context;
  if (layer.layer_type != "sliding_attention") return context;
  if (source.gguf) {
    const std::string arch = source.gguf->string("general.architecture").value_or("");
    const auto window = source.gguf->integer(arch + ".attention.sliding_window");
    return window && *window > 0 ? int(std::min<std::int64_t>(*window, context)) : context;
  }
  const Json& model = *formats::model_part(source.config).json;
  const auto sliding = formats::sliding_layers(source.config_path, model, formats::stated_layers(model));
  return sliding ? std::min(sliding->window, context) : context;
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
