#include <algorithm>
#include <cmath>

#include "formats/gguf_rewrite.h"
#include "formats/gguf_write.h"
#include "formats/hf_folder.h"
#include "formats/hf_writer.h"
#include "lib/clone_file.h"
#include "lib/error.h"
#include "lib/rope_coverage.h"
#include "tools/commands.h"
#include "tools/common_options.h"
#include "tools/describe.h"
#include "tools/losses.h"
#include "tools/model_card.h"
#include "tools/output_plan.h"
#include "tools/units.h"

namespace ropewalk::tools {
namespace {

namespace fs = std::filesystem;

struct ExtendOptions {
  std::string source, output;
  std::optional<std::string> rope;
  std::optional<int> context;
  bool plan = false, link = false;
  std::string rope_encoding = "auto";
  std::vector<std::string> allowed_losses;
  WriterOptions writer;
  CommonOptions common;
};

void declare(CommandLine& line, ExtendOptions& options) {
  line.positional(options.source, "SOURCE", "a Hugging Face folder or a GGUF");
  line.option("-o,--output,--outfile", options.output, "OUT", "the new folder or GGUF");
  line.option(
      "--rope", options.rope, "SPEC",
      "the new rope: METHOD[,key=value]..., e.g. yarn,factor=8 or yarn,to=64k, or the JSON object of a model card");
  line.flag("--plan", options.plan, "only compare the methods at the context given with -c");
  line.context_option("-c,--context,--ctx-size", options.context, "N", "target context of --plan");
  line.flag("--link", options.link, "hard links to the weights instead of copies. Both folders then share one file");
  line.refused_option("-a,--adapter,--lora", [](const std::string& value) {
    return std::pair("extend leaves the weights as they are, and an adapter changes them",
                     "merge it, with the rope if you like: ropewalk merge SOURCE+" + value + "+rope=SPEC -o DIR");
  });
  declare_losses(line, options.rope_encoding, options.allowed_losses);
  declare_writer(line, options.writer);
  declare_common(line, options.common);
  line.example("ropewalk extend base --plan -c 64k", "what each method would do to the angles");
  line.example("ropewalk extend base -o base-64k --rope yarn,to=64k", "config rewritten, weights shared or copied");
  line.example("ropewalk extend model.gguf -o model-8k.gguf --rope yarn,factor=2",
               "keys rewritten, tensors as they are");
}

/// The methods worth comparing when `base` grows to `context` tokens.
std::vector<std::pair<std::string, RopeSpec>> candidates(const RopeSpec& base, int original, int context) {
  const double factor = std::max(1.0, static_cast<double>(context) / original);
  std::vector<std::pair<std::string, RopeSpec>> all;
  const auto add = [&](const char* name, RopeScaling scaling) {
    RopeSpec spec = base;
    spec.scaling = std::move(scaling);
    spec.attention_factor = std::nullopt;
    spec.context = context;
    all.emplace_back(name, std::move(spec));
  };
  add("none", RopeUnscaled{});
  add("linear (PI)", RopeLinear{factor});
  add("NTK-aware", RopeNtk{factor});
  add("dynamic NTK", RopeDynamic{factor, original});
  add("YaRN", RopeYarn{factor, original});
  return all;
}

std::string request_text(const std::string& method, double factor) {
  if (method == "linear (PI)") return "linear,factor=" + number_text(factor, 6);
  if (method == "NTK-aware") return "ntk,alpha=" + number_text(factor, 6);
  if (method == "dynamic NTK") return "dynamic,factor=" + number_text(factor, 6);
  if (method == "YaRN") return "yarn,factor=" + number_text(factor, 6);
  return "";
}

int run_plan(const ExtendOptions& options, const Io& io) {
  if (!options.context)
    throw Error(ErrorKind::usage, {}, "--plan has no target context", "give it with -c, for example -c 64k");
  const formats::Source source = open_source(options.source, {}, options.common, io);
  const ModelConfig& config = source.checkpoint.config;
  const int original = rope_original_context(config.rope).value_or(config.context);
  RopeSpec trained = config.rope;
  trained.scaling = RopeUnscaled{};
  trained.attention_factor = std::nullopt;
  const double factor = std::max(1.0, static_cast<double>(*options.context) / original);

  Output output{.command = "extend", .source = source.spec.text, .warnings = source.checkpoint.warnings};
  output.body = {{"rope", rope_json(config.rope, config.context)},
                 {"context", config.context},
                 {"written", Json::array()},
                 {"weights", nullptr},
                 {"output", nullptr},
                 {"losses", Json::array()},
                 {"notes", Json::array()},
                 {"plan", Json::array()},
                 {"dry_run", true}};
  Table table{{{"method"},
               {"unseen-angle ratio", true},
               {"high-frequency damage", true},
               {"attention factor", true},
               {"--rope"}},
              {}};
  for (const auto& [method, spec] : candidates(trained, original, *options.context)) {
    const RopeCoverage coverage = rope_coverage(trained, original, spec, *options.context);
    table.rows.push_back({method, fixed_text(coverage.unseen_angle_ratio, 2),
                          number_text(100 * coverage.high_frequency_damage, 3) + " %",
                          fixed_text(coverage.attention_factor, 4), request_text(method, factor)});
    output.body["plan"].push_back({{"method", method},
                                   {"factor", method == "none" ? Json(nullptr) : Json(factor)},
                                   {"context", *options.context},
                                   {"unseen_angle_ratio", coverage.unseen_angle_ratio},
                                   {"high_frequency_damage", coverage.high_frequency_damage},
                                   {"attention_factor", coverage.attention_factor},
                                   {"spec", request_text(method, factor)}});
  }
  output.text(source.spec.text + ": " + describe(config.rope) + "; from " + std::to_string(original) + " to " +
              std::to_string(*options.context) + " tokens");
  output.table(std::move(table));
  output.text(
      "unseen-angle ratio: largest angle at the target over the largest one seen in training, pairs that never "
      "completed a turn (1 or less is safe)\n"
      "high-frequency damage: slow-down of the pairs that tell neighbours apart (0 % is best)");
  emit(output, options.common, io);
  return 0;
}

struct Written {
  std::vector<std::string> files;
  std::string weights;
  std::vector<std::string> notes, warnings;
};

void write_text(const fs::path& path, const std::string& text, bool sync) {
  PendingFile file(path, text.size(), {.overwrite = false, .sync = sync});
  file.write(0, std::as_bytes(std::span(text)));
  file.finish();
}

/// tokenizer_config.json, if its model_max_length would cap the new context in engines that take the smaller of the
/// two.
std::optional<std::string> raised_tokenizer_config(const fs::path& path, int context) {
  std::error_code ignored;
  if (!fs::is_regular_file(path, ignored)) return std::nullopt;
  Json json = formats::read_json(path);
  if (!json.is_object() || !json.contains("model_max_length") || !json["model_max_length"].is_number_integer() ||
      json["model_max_length"] >= context)
    return std::nullopt;
  json["model_max_length"] = context;
  return json_text(json);
}

Written write_folder(const formats::Source& source, const ExtendOptions& options, const WriteOptions& write) {
  const formats::HfFolder& hf = *source.hf;
  Written written;
  PendingFolder folder(options.output, write);
  const fs::path& building = folder.building();
  const fs::path target = fs::absolute(folder.target()).lexically_normal();
  const auto text_file = [&](const std::string& name, const std::string& text) {
    write_text(building / name, text, write.sync);
    written.files.push_back(name);
  };
  text_file("config.json", json_text(hf.config));
  text_file(
      "README.md",
      model_card(source, (target.filename().empty() ? target.parent_path() : target).filename().string(), "extended"));
  CloneMethod method = CloneMethod::reflink;
  const auto clone = [&](const fs::path& from, const std::string& name, bool allow_link) {
    const CloneMethod used = clone_file(from, building / name, allow_link, write.sync);
    written.files.push_back(name);
    return used;
  };
  std::error_code ignored;
  const std::optional<fs::path> index =
      formats::weight_index(fs::exists(source.spec.model, ignored) ? fs::path(source.spec.model) : hf.folder);
  if (index) clone(*index, "model.safetensors.index.json", false);
  for (const fs::path& weights : hf.weight_files) {  // a file that no index lists is found under one name alone
    const CloneMethod used = clone(weights, index ? weights.filename().string() : "model.safetensors", options.link);
    if (used != CloneMethod::reflink) method = used;
  }
  for (const std::string& name : hf.carried_files) {
    if (name == "README.md") continue;
    if (name == "tokenizer_config.json") {
      if (const auto raised = raised_tokenizer_config(hf.folder / name, source.checkpoint.config.context)) {
        text_file(name, *raised);
        written.notes.push_back("tokenizer_config.json: model_max_length raised to " +
                                std::to_string(source.checkpoint.config.context));
        continue;
      }
    }
    clone(hf.folder / name, name, false);
  }
  folder.finish();
  std::sort(written.files.begin(), written.files.end());
  written.weights = clone_method_name(method);
  return written;
}

Written write_gguf(const formats::GgufPlan& plan, const ExtendOptions& options, const WriteOptions& write,
                   const Io& io) {
  Written written{{}, "copy", {}, {}};
  formats::GgufOutputs outputs({plan}, {{options.output, {}}}, write);
  StreamPlan pass;
  outputs.append_items(pass);
  written.warnings = stream_pass(pass, "writing", options.common, io);
  for (const formats::GgufWritten& output : outputs.finish())
    for (const fs::path& path : output.files) written.files.push_back(path.string());
  return written;
}

std::uint64_t weight_file_bytes(const formats::Source& source) {
  std::uint64_t bytes = 0;
  for (const fs::path& file : source.hf->weight_files) bytes += fs::file_size(file);
  return bytes;
}

int run_extend(const ExtendOptions& options, Io& io) {
  check_reports(options.common, options.plan);
  check_allowed_losses(options.allowed_losses);
  if (options.plan) {
    if (!options.output.empty())
      throw Error(ErrorKind::usage, {}, "--plan writes nothing, and -o is given", "leave one of them out");
    return run_plan(options, io);
  }
  if (options.context)
    throw Error(ErrorKind::usage, {}, "-c is the target of --plan, which is not given",
                "say how far to extend in the rope: --rope yarn,to=" + std::to_string(*options.context));
  if (options.output.empty())
    throw Error(ErrorKind::usage, {}, "no output given", "name the new folder or GGUF with -o OUT");
  const formats::RopeEncoding encoding = parse_rope_encoding(options.rope_encoding);
  SourceOptions modifiers;
  modifiers.rope = options.rope;
  const formats::Source source = open_source(options.source, modifiers, options.common, io);
  if (!source.spec.rope)
    throw Error(ErrorKind::usage, {}, "no rope given", "say how to extend: --rope yarn,to=64k (see --plan)");
  if (!source.adapters.empty())
    throw Error(ErrorKind::usage, {}, "'" + source.spec.text + "' has an adapter, which extend leaves alone",
                "merge it: ropewalk merge " + source.spec.text + " -o DIR");
  check_target(options.output, source, options.common.overwrite);

  std::optional<formats::GgufPlan> gguf;
  std::vector<std::string> notes;
  std::vector<formats::Loss> losses;
  if (source.gguf) {
    formats::GgufExport rewritten = formats::rewrite_gguf_rope(*source.gguf, source.checkpoint.config, encoding);
    refuse_losses(rewritten.losses, options.allowed_losses, source.checkpoint);
    notes = rewritten.notes;
    losses = rewritten.losses;
    gguf = std::move(rewritten.plan);
  }
  const formats::GgufWritten planned =
      gguf ? formats::planned_files(*gguf, {options.output, {}}) : formats::GgufWritten{};
  for (const fs::path& old : planned.replaced) {  // shards of that name
    check_target(old, source, options.common.overwrite);
    notes.push_back((options.writer.dry_run ? "would remove " : "removed ") + old.string() +
                    ", an older shard of that name");
  }
  const std::uint64_t bytes = gguf ? planned.bytes : weight_file_bytes(source);
  announce({.targets = {{options.output, options.link && !gguf ? 0 : bytes}},
            .what = gguf ? "1 file" : "1 folder",
            .read_bytes = total_bytes(source.base_tensors)},
           options.common, io);
  Written written;
  if (!options.writer.dry_run) {
    const WriteOptions write = write_options(options.common, options.writer);
    written = gguf ? write_gguf(*gguf, options, write, io) : write_folder(source, options, write);
  }
  notes.insert(notes.end(), written.notes.begin(), written.notes.end());
  std::vector<std::string> warnings = source.checkpoint.warnings;
  warnings.insert(warnings.end(), written.warnings.begin(), written.warnings.end());

  Output output{.command = "extend", .source = source.spec.text, .warnings = std::move(warnings)};
  output.body = {{"rope", rope_json(source.checkpoint.config.rope, source.checkpoint.config.context)},
                 {"written", written.files},
                 {"weights", written.weights.empty() ? Json(nullptr) : Json(written.weights)},
                 {"plan", nullptr},
                 {"context", source.checkpoint.config.context},
                 {"output", options.output},
                 {"losses", losses_json(losses)},
                 {"notes", notes},
                 {"dry_run", options.writer.dry_run}};
  std::string text = options.output + ": " + describe(source.checkpoint.config.rope) + ", context " +
                     std::to_string(source.checkpoint.config.context);
  text += options.writer.dry_run ? " (dry run: nothing written)" : ", weights by " + written.weights;
  for (const std::string& note : notes) text += "\n" + note;
  for (const formats::Loss& loss : losses) text += "\n" + loss_line(loss);
  output.text(std::move(text));
  emit(output, options.common, io);
  return 0;
}

}  // namespace

Command extend_command() {
  return make_command("extend", "longer context by a new rope: rewritten config or GGUF keys, weights as they are",
                      declare, run_extend);
}

}  // namespace ropewalk::tools
