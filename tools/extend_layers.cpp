// extend of a model of which config.json alone is understood, and everything else is carried: kinds of layers with
// ropes of their own (Gemma 3), and classes that ropewalk does not run (Qwen, Phi-3, gpt-oss).
#include <algorithm>

#include "formats/config_file.h"
#include "formats/hf_folder.h"
#include "formats/hub_cache.h"
#include "formats/named_model.h"
#include "formats/rope_layers.h"
#include "formats/rope_meaning.h"
#include "formats/rope_rewrite.h"
#include "formats/sliding_layers.h"
#include "formats/synthetic.h"
#include "lib/error.h"
#include "lib/file.h"
#include "tools/describe.h"
#include "tools/extend.h"
#include "tools/losses.h"
#include "tools/one_line.h"
#include "tools/output_plan.h"

namespace ropewalk::tools {
namespace {

namespace fs = std::filesystem;

/// The folder that SOURCE names; nullopt for a GGUF, a synthetic model or one with adapters.
std::optional<fs::path> folder_of(const formats::SourceSpec& spec, const Io& io) {
  if (formats::synthetic_config(spec.model) || !spec.adapters.empty()) return std::nullopt;
  const fs::path path = formats::path_or_hub(spec.model, "model", io.hub_cache);
  const std::string name = path.filename().string();
  std::error_code ignored;
  const bool file = name.ends_with(".safetensors") || name.ends_with(".index.json");
  const fs::path folder = file ? path.parent_path() : path;
  return fs::is_regular_file(folder / "config.json", ignored) ? std::optional(path) : std::nullopt;
}

void refuse_options(const ExtendOptions& options) {
  if (options.sliding_window)
    throw Error(ErrorKind::usage, {},
                "--sliding-window is given, and of this model config.json's rope alone is rewritten",
                "leave it out: windows stay");
  if (options.rope_encoding != "auto")
    throw Error(ErrorKind::usage, {}, "--rope-encoding is about GGUFs, and a Hugging Face folder is to be written",
                "leave it out");
}

/// What the card and the report say of a model that is not taken apart.
void describe_model(formats::Source& source, const formats::WantedRope& ropes) {
  const Json& model = *formats::model_part(source.hf->config).json;
  ModelConfig& config = source.checkpoint.config;
  config.model_type = model.value("model_type", Json("")).get<std::string>();
  config.context = ropes.context;
  config.rope = ropes.layers.at(0).spec;
  source.checkpoint.tensors = source.base_tensors;
}

std::vector<std::string> arithmetic(const formats::WantedRope& before, const formats::WantedRope& after) {
  std::vector<std::string> lines;
  for (std::size_t i = 0; i < after.layers.size(); ++i) {
    const formats::WantedLayer &old = before.layers.at(i), &layer = after.layers[i];
    const std::string same = describe(layer.spec);
    const std::string kind = layer.layer_type.empty() ? "" : layer.layer_type + ": ";
    if (same == describe(old.spec)) {
      lines.push_back(kind + same + ", as it was");
      continue;
    }
    lines.push_back(kind + same);
    for (const std::string& line : rope_arithmetic(old.spec, layer.spec, after.context)) lines.push_back("  " + line);
  }
  return lines;
}

void report(const formats::Source& source, const ExtendOptions& options, const FolderPlan& plan,
            const formats::RopeRewrite& rewrite, const ExtendWritten& written, const Io& io) {
  const formats::WantedRope &before = rewrite.before, &after = rewrite.after;
  const std::vector<std::string> lines = arithmetic(before, after);
  const std::optional<formats::TrainedRope> original =
      rewrite.one ? std::optional(rewrite.one->request.trained) : std::nullopt;
  Output output{.command = "extend", .source = source.spec.text, .warnings = written.warnings};
  const bool one = after.layers.size() == 1 && after.layers[0].layer_type.empty();
  Json layers = one ? Json(nullptr) : Json::object();
  for (const formats::WantedLayer& layer : after.layers)
    if (!one) layers[layer.layer_type] = rope_json(layer.spec, after.context);
  output.body = {{"rope", rope_json(after.layers[0].spec, after.context)},
                 {"layers", layers},
                 {"arithmetic", lines},
                 {"engines", engines_json(plan.verdicts)},
                 {"written", written.files},
                 {"weights", written.weights.empty() ? Json(nullptr) : Json(written.weights)},
                 {"plan", nullptr},
                 {"recommended", nullptr},
                 {"original", original ? trained_json(*original) : Json(nullptr)},
                 {"context", after.context},
                 {"kv_cache", nullptr},
                 {"output", options.output},
                 {"losses", Json::array()},
                 {"notes", plan.notes},
                 {"dry_run", options.writer.dry_run}};
  std::string text = options.output + (one ? ": a new rope" : ": a rope for each kind of layer") + ", context " +
                     std::to_string(after.context) +
                     (options.writer.dry_run ? " (dry run: nothing written)" : ", weights by " + written.weights);
  for (const std::string& line : lines) text += "\n  " + one_line(line);
  if (original) text += trained_text(*original);
  for (const std::string& note : plan.notes) text += "\n" + one_line(note);
  output.text(std::move(text));
  show_verdicts(output, plan.verdicts);
  if (!options.writer.dry_run) output.written = {options.output};
  emit(output, options.common, io);
}

/// nullopt: one rope, of a model that is taken apart.
std::optional<formats::RopeRewrite> layer_plan(const fs::path& path, const std::string& rope) {
  const std::string text = read_text_file(path, formats::JsonLimits{}.max_bytes);
  formats::PythonJson read = formats::parse_python_json(path.string(), text);
  if (!read.not_finite.empty() && read.json.is_object()) {
    formats::refuse_not_finite(path.string(), read);
    formats::read_rope_meaning(path.string(), read.text, read.json);  // a class without a rope is told before
    formats::parse_json(path.string(), text);                         // refuses: what is written is JSON
  }
  const Json config = std::move(read.json);
  if (!config.is_object()) return std::nullopt;  // what opens the folder says what is wrong with it
  if (formats::reads_architecture(config) && !formats::layer_ropes(config, rope)) return std::nullopt;
  formats::RopeRewrite plan = formats::rope_rewrite(path.string(), text, config, rope);
  if (plan.refused) throw *plan.refused;
  return plan;
}

/// The windows that stay, where they hide something of the new context.
void note_window(const std::string& path, const Json& config, int context, std::vector<std::string>& notes) {
  const Json& model = *formats::model_part(config).json;
  const auto sliding = formats::sliding_layers(path, model, formats::stated_layers(model));
  if (!sliding || sliding->window >= context) return;
  notes.push_back("config.json: sliding_window stays " + std::to_string(sliding->window) +
                  ": layers that have it see no further back");
}

}  // namespace

std::optional<int> run_extend_layers(const ExtendOptions& options, const std::string& rope, const Io& io) {
  formats::SourceSpec spec = formats::parse_source(options.source);
  if (spec.rope) return std::nullopt;  // open_source says what is wrong with both
  const std::optional<fs::path> path = folder_of(spec, io);
  if (!path) return std::nullopt;
  std::error_code ignored;
  const fs::path folder = fs::is_directory(*path, ignored) ? *path : path->parent_path();
  const std::optional<formats::RopeRewrite> asked = layer_plan(folder / "config.json", rope);
  if (!asked) return std::nullopt;
  const formats::WantedRope &before = asked->before, &after = asked->after;

  refuse_options(options);
  for (const std::string& warning : asked->warnings) warn(warning, options.common, io);
  formats::HfFiles files = formats::read_hf_files(*path);
  formats::Source source;
  spec.text += "+rope=" + rope;
  source.spec = std::move(spec);
  source.base_tensors = files.tensors;
  source.tokenizer_folder = files.hf.folder;
  source.hf = std::move(files.hf);
  check_output_name(options.output, OutputKind::folder);
  check_target(options.output, OutputKind::folder, source, options.common);

  FolderPlan plan = plan_folder(source, before, after, asked->emit(source.hf->config, parse_engines(options.engines)));
  note_window((folder / "config.json").string(), plan.config, after.context, plan.notes);
  describe_model(source, after);
  std::uint64_t bytes = 0;
  for (const fs::path& file : source.hf->weight_files) bytes += fs::file_size(file);
  announce({.targets = {{options.output, options.link ? 0 : bytes}},
            .what = "1 folder",
            .read_bytes = total_bytes(source.base_tensors)},
           options.common, io);
  ExtendWritten written;
  if (!options.writer.dry_run)
    written = write_extended_folder(source, plan, options, write_options(options.common, options.writer));
  written.warnings.insert(written.warnings.begin(), asked->warnings.begin(), asked->warnings.end());
  report(source, options, plan, *asked, written, io);
  return 0;
}

}  // namespace ropewalk::tools
