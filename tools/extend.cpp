#include "tools/extend.h"

#include <algorithm>

#include "formats/gguf_rewrite.h"
#include "formats/gguf_write.h"
#include "formats/rope_config.h"
#include "formats/rope_presets.h"
#include "formats/synthetic.h"
#include "lib/error.h"
#include "tools/commands.h"
#include "tools/describe.h"
#include "tools/losses.h"
#include "tools/one_line.h"
#include "tools/output_plan.h"
#include "tools/units.h"

namespace ropewalk::tools {
namespace {

namespace fs = std::filesystem;

std::string preset_names() {
  std::string names;
  for (const formats::RopePreset& preset : formats::rope_presets())
    names += (names.empty() ? "" : ", ") + std::string(preset.name);
  return names;
}

void declare(CommandLine& line, ExtendOptions& options) {
  line.positional(options.source, reads("SOURCE"), "a Hugging Face folder or a GGUF");
  line.option("-o,--output,--outfile", options.output, writes("OUT"), "the new folder or GGUF");
  line.option(
      "--rope", options.rope, "SPEC",
      "the new rope: METHOD[,key=value]..., e.g. yarn,factor=8 or yarn,to=64k, or the JSON object of a model card "
      "(of a model with a rope for each kind of layer: {\"full_attention\": {...}, ...}; a METHOD is for those); "
      "native: the rope as it is, without the remote code that computes it");
  line.option("--like", options.like, "NAME", "a published recipe: " + preset_names());
  declare_engines(line, options.engines);
  declare_sliding_window(line, options.sliding_window);
  line.flag("--plan", options.plan, "only compare the methods at the context given with -c");
  line.context_option("-c,--context,--ctx-size", options.context, "N", "target context of --plan and --like");
  line.context_option("--original", options.original, "L",
                      "the context before scaling, of --plan and --like, where the files say another");
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
  line.example("ropewalk extend base -o base-64k --like yarn-mistral -c 64k --engine vllm --engine transformers@4.57",
               "one config.json that both read alike");
  line.example("ropewalk extend Yarn-Mistral-7b-128k -o native --rope native", "a remote-code model without its code");
  line.example("ropewalk extend model.gguf -o model-8k.gguf --rope yarn,factor=2",
               "keys rewritten, tensors as they are");
}

ExtendWritten write_gguf(const formats::GgufPlan& plan, const ExtendOptions& options, const WriteOptions& write,
                         const Io& io) {
  ExtendWritten written{{}, "copy", {}};
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

/// The SPEC of --rope and --like together.
std::optional<std::string> asked_rope(const ExtendOptions& options) {
  if (!options.like) return options.rope;
  if (options.rope && options.rope->find('{') != std::string::npos)
    throw Error(ErrorKind::usage, {}, "--like is given beside a JSON object, which says everything itself",
                "leave one of them out");
  if (options.rope) return *options.rope + ",like=" + *options.like;
  const formats::RopePreset* preset = formats::find_rope_preset(*options.like);
  const std::string method = preset ? std::string(preset->method) : "yarn";  // the SPEC's parser names the recipes
  if (preset && !options.context)
    throw Error(ErrorKind::usage, {}, "--like " + *options.like + " has no context to extend to", "add -c 64k");
  return method + (options.context ? ",to=" + std::to_string(*options.context) : "") +
         (options.original ? ",original=" + std::to_string(*options.original) : "") + ",like=" + *options.like;
}

void check_options(const ExtendOptions& options) {
  check_reports(options.common, {.table = options.plan});
  check_allowed_losses(options.allowed_losses);
  if (formats::synthetic_config(formats::parse_source(options.source).model) && !options.plan)
    throw Error(ErrorKind::usage, {}, "'" + options.source + "' has no weights to go with a new rope",
                "give a folder or a GGUF; --plan takes synthetic: too");
  if (options.plan) return;
  if (options.original && !(options.like && !options.rope))
    throw Error(ErrorKind::usage, {}, "--original is for --plan and --like, which are not given",
                "say it in the rope: --rope yarn,to=64k,original=" + std::to_string(*options.original));
  if (options.context && !(options.like && !options.rope))
    throw Error(ErrorKind::usage, {}, "-c is the target of --plan and --like, which are not given",
                "say how far to extend in the rope: --rope yarn,to=" + std::to_string(*options.context));
  if (options.output.empty())
    throw Error(ErrorKind::usage, {}, "no output given", "name the new folder or GGUF with -o OUT");
  check_sliding_window(options.sliding_window);
}

/// Everything that is decided before the first byte.
struct ExtendPlan {
  NewRope rope;
  std::optional<formats::GgufPlan> gguf;
  FolderPlan folder;
  std::vector<std::string> notes, warnings;
  std::vector<formats::Loss> losses;
  std::vector<formats::EngineVerdict> verdicts;
};

void plan_gguf(const formats::Source& source, const ExtendOptions& options, ExtendPlan& plan) {
  check_gguf_engines(parse_engines(options.engines));
  if (options.link)
    throw Error(ErrorKind::usage, {}, "--link is given, and the keys of a GGUF are in the file of its weights",
                "leave it out: the tensors are copied");
  if (options.sliding_window)
    throw Error(ErrorKind::usage, {}, "--sliding-window is given, and a GGUF of arch llama has none", "leave it out");
  const formats::RopeEncoding encoding = parse_rope_encoding(options.rope_encoding);
  formats::GgufExport rewritten = formats::rewrite_gguf_rope(*source.gguf, source.checkpoint.config, encoding);
  refuse_losses(rewritten.losses, options.allowed_losses, source.checkpoint);
  plan.notes = rewritten.notes;
  plan.losses = rewritten.losses;
  plan.gguf = std::move(rewritten.plan);
}

void plan_hf(const formats::Source& source, const ExtendOptions& options, ExtendPlan& plan) {
  if (options.rope_encoding != "auto")
    throw Error(ErrorKind::usage, {}, "--rope-encoding is about GGUFs, and a Hugging Face folder is to be written",
                "leave it out");
  plan.folder = plan_folder(source, plan.rope, {options.engines, options.sliding_window, options.allowed_losses});
  plan.losses = plan.folder.losses;
  plan.notes = std::move(plan.folder.notes);
  plan.verdicts = std::move(plan.folder.verdicts);
}

ExtendPlan make_plan(const formats::Source& source, const ExtendOptions& options) {
  ExtendPlan plan;
  plan.rope = *new_rope(source);
  const int before = plan.rope.before.context, context = plan.rope.target.context;
  plan.warnings = source.checkpoint.warnings;
  if (context < before)
    plan.warnings.push_back("the context served shrinks from " + std::to_string(before) + " to " +
                            std::to_string(context) + " tokens");
  if (source.gguf) plan_gguf(source, options, plan);
  else plan_hf(source, options, plan);
  return plan;
}

/// llama.cpp's converter would lose the rope on the way, ropewalk's would not.
bool gguf_says_more(const ExtendPlan& plan, const ModelConfig& config) {
  for (const formats::EngineVerdict& verdict : plan.verdicts)
    if (verdict.reading.engine.engine == formats::Engine::llama_cpp && !verdict.right()) {
      const auto losses = formats::gguf_rope(plan.rope.target.spec, config.head_dim, plan.rope.target.context,
                                             formats::RopeEncoding::automatic)
                              .losses;
      return std::none_of(losses.begin(), losses.end(), [](const formats::Loss& loss) { return loss.changes_logits; });
    }
  return false;
}

void report(const formats::Source& source, const ExtendOptions& options, const ExtendPlan& plan,
            const ExtendWritten& written, const Io& io) {
  const std::vector<std::string> arithmetic =
      rope_arithmetic(plan.rope.before.rope, plan.rope.target.spec, plan.rope.target.context);
  Output output{.command = "extend", .source = source.spec.text, .warnings = plan.warnings};
  output.body = {{"rope", rope_json(plan.rope.target.spec, source.checkpoint.config.context)},
                 {"layers", nullptr},
                 {"arithmetic", arithmetic},
                 {"engines", engines_json(plan.verdicts)},
                 {"written", written.files},
                 {"weights", written.weights.empty() ? Json(nullptr) : Json(written.weights)},
                 {"plan", nullptr},
                 {"recommended", nullptr},
                 {"original", trained_json(plan.rope.trained)},
                 {"context", plan.rope.target.context},
                 {"kv_cache", nullptr},
                 {"output", options.output},
                 {"losses", losses_json(plan.losses)},
                 {"notes", plan.notes},
                 {"dry_run", options.writer.dry_run}};
  std::string text =
      options.output + ": " + describe(plan.rope.target.spec) + ", context " + std::to_string(plan.rope.target.context);
  text += options.writer.dry_run ? " (dry run: nothing written)" : ", weights by " + written.weights;
  for (const std::string& line : arithmetic) text += "\n  " + one_line(line);
  text += trained_text(plan.rope.trained);
  for (const std::string& note : plan.notes) text += "\n" + one_line(note);
  for (const formats::Loss& loss : plan.losses) text += "\n" + one_line(loss_line(loss));
  output.text(std::move(text));
  if (!plan.verdicts.empty()) show_verdicts(output, plan.verdicts);
  const bool all_right = std::all_of(plan.verdicts.begin(), plan.verdicts.end(),
                                     [](const formats::EngineVerdict& verdict) { return verdict.right(); });
  if (source.hf && options.engines.empty() && !all_right)
    output.text(
        "for an engine that says no: --engine NAME writes what it reads, where a config.json can say it;\n"
        "its command line: ropewalk rope " +
        options.output + " --flags");
  if (source.hf && gguf_says_more(plan, source.checkpoint.config))
    output.text(
        "ropewalk convert writes this rope into a GGUF that llama.cpp reads rightly; its own converter does not");
  if (plan.gguf) output.written = written.files;
  else if (!options.writer.dry_run) output.written = {options.output};
  emit(output, options.common, io);
}

int run_extend(const ExtendOptions& options, Io& io) {
  check_options(options);
  if (options.plan) return run_extend_plan(options, io);
  for (const formats::EngineVersion& engine : parse_engines(options.engines))  // before anything is read
    if (engine.notice.find("is newer than") != std::string::npos) warn(engine.notice, options.common, io);
  SourceOptions modifiers;
  modifiers.rope = asked_rope(options);
  if (modifiers.rope)
    if (const std::optional<int> done = run_extend_layers(options, *modifiers.rope, io)) return *done;
  const formats::Source source = open_source(options.source, modifiers, options.common, io);
  if (!source.spec.rope)
    throw Error(ErrorKind::usage, {}, "no rope given", "say how to extend: --rope yarn,to=64k (see --plan)");
  if (!source.adapters.empty())
    throw Error(ErrorKind::usage, {}, "'" + source.spec.text + "' has an adapter, which extend leaves alone",
                "merge it: ropewalk merge " + source.spec.text + " -o DIR");
  const OutputKind kind = source.gguf ? OutputKind::gguf : OutputKind::folder;
  check_output_name(options.output, kind);
  check_target(options.output, kind, source, options.common);
  parse_rope_encoding(options.rope_encoding);

  ExtendPlan plan = make_plan(source, options);
  for (std::size_t i = source.checkpoint.warnings.size(); i < plan.warnings.size(); ++i)
    warn(plan.warnings[i], options.common, io);
  const formats::GgufWritten planned =
      plan.gguf ? formats::planned_files(*plan.gguf, {options.output, {}}) : formats::GgufWritten{};
  for (const fs::path& old : planned.replaced) {  // shards of that name
    check_target(old, OutputKind::gguf, source, options.common);
    plan.notes.push_back((options.writer.dry_run ? "would remove " : "removed ") + old.string() +
                         ", an older shard of that name");
  }
  const std::uint64_t bytes = plan.gguf ? planned.bytes : weight_file_bytes(source);
  announce({.targets = {{options.output, options.link && !plan.gguf ? 0 : bytes}},
            .what = plan.gguf ? "1 file" : "1 folder",
            .read_bytes = total_bytes(source.base_tensors)},
           options.common, io);
  ExtendWritten written;
  if (!options.writer.dry_run) {
    const WriteOptions write = write_options(options.common, options.writer);
    written = plan.gguf ? write_gguf(*plan.gguf, options, write, io)
                        : write_extended_folder(source, plan.folder, options, write);
    if (plan.gguf)
      plan.verdicts = written_verdicts(written.files.front(), plan.rope.target, parse_engines(options.engines));
  }
  plan.warnings.insert(plan.warnings.end(), written.warnings.begin(), written.warnings.end());
  report(source, options, plan, written, io);
  return 0;
}

}  // namespace

Command extend_command() {
  return make_command("extend", "longer context by a new rope: rewritten config or GGUF keys, weights as they are",
                      declare, run_extend);
}

}  // namespace ropewalk::tools
