#include <algorithm>

#include "formats/adapters/gguf_adapter.h"
#include "formats/gguf_write.h"
#include "formats/tied_head.h"
#include "lib/error.h"
#include "tools/adapter.h"
#include "tools/describe.h"
#include "tools/output_plan.h"
#include "tools/units.h"

namespace ropewalk::tools {
namespace {

struct ConvertOptions {
  std::string source, output, type = "f32", name;
  WriterOptions writer;
  CommonOptions common;
};

void declare(CommandLine& line, ConvertOptions& options) {
  line.positional(options.source, reads("[BASE+]ADAPTER[:SCALE]"),
                  "a folder of PEFT, whose base is found, or one after its BASE; a GGUF adapter after its BASE. "
                  "synthetic:CONFIG.json is base enough");
  line.option("-o,--output,--outfile", options.output, writes("FILE.gguf|DIR"),
              "the GGUF adapter, or a folder as PEFT saves one");
  line.option("--type,--outtype", options.type, "TYPE", "of a GGUF's factors: f32 (default), f16, bf16, q8_0");
  line.option("--model-name", options.name, "NAME", "general.name of a GGUF (default: found in the folder's name)");
  declare_no_modifiers(line);
  declare_writer(line, options.writer);
  declare_common(line, options.common);
  line.example("ropewalk adapter convert base+lora -o lora.gguf",
               "for llama.cpp's --lora; rsLoRA and alpha patterns come out right");
  line.example("ropewalk adapter convert base+lora.gguf -o lora", "a folder that PEFT loads");
}

DType gguf_type(const std::string& text) {
  const auto dtype = dtype_from_name(text);
  for (const DType known : {DType::f32, DType::f16, DType::bf16, DType::q8_0})
    if (dtype == known) return known;
  throw Error(ErrorKind::usage, {}, "--type '" + text + "' is no type of a GGUF adapter",
              "give f32, f16, bf16 or q8_0");
}

AdapterRun run_of(const formats::Source& source, const std::string& output) {
  AdapterRun run{.operation = "convert", .source = source.spec.text, .output = output};
  run.base = source.spec.adapters.empty() ? source.adapters.front().base_model : source.spec.model;
  run.scale = adapter_scale(source, 0);
  run.warnings = source.checkpoint.warnings;
  return run;
}

/// The configuration of the base as it is: an adapter that is applied may have taken its head from its embedding.
ModelConfig base_config(const formats::Source& source, const Io& io) {
  ModelConfig config = source.checkpoint.config;
  const auto of_head = [](const formats::AdapterModule& module) { return module.target == formats::kHeadWeight; };
  if (std::ranges::none_of(source.adapters.front().modules, of_head)) return config;
  const bool named = !source.spec.adapters.empty();  // else the base was found
  const std::string base = named         ? source.spec.model
                           : source.gguf ? source.gguf->files.front()->path()
                                         : source.hf->folder.string();
  formats::OpenOptions options;
  options.tokenizer_use = formats::TokenizerUse::described;
  config.tied_head =
      formats::open_source(formats::parse_source(base), options, io.hub_cache).checkpoint.config.tied_head;
  return config;
}

void write_gguf(const formats::Source& source, const formats::GgufPlan& plan, const std::vector<std::string>& notes,
                const ConvertOptions& options, const Io& io) {
  AdapterRun run = run_of(source, options.output);
  const formats::GgufWritten planned = formats::planned_files(plan, {options.output, {}});
  announce({.targets = {{options.output, planned.bytes}}, .what = "1 file", .read_bytes = planned.bytes},
           options.common, io);
  Output output{.command = "adapter", .source = source.spec.text, .warnings = run.warnings};
  if (!options.writer.dry_run) {
    formats::GgufOutputs outputs({plan}, {{options.output, {}}}, write_options(options.common, options.writer));
    StreamPlan pass;
    outputs.append_items(pass);
    for (std::string& warning : stream_pass(pass, "convert", options.common, io))
      output.warnings.push_back(std::move(warning));
    outputs.finish();
    output.written = {options.output};
  }
  std::vector<formats::MadeModule> modules;
  for (const formats::AdapterModule& module : source.adapters.front().modules)
    modules.push_back({module.target, "lora"});
  output.body = adapter_body(run, modules, output.written, notes, options.writer.dry_run);
  output.text((options.writer.dry_run ? "dry run: nothing written; " : options.output + ": ") +
              plural(modules.size(), "module") + ", " + bytes_text(planned.bytes));
  for (const std::string& note : notes) output.text(note);
  emit(output, options.common, io);
}

int run_convert(const ConvertOptions& options, Io& io) {
  check_reports(options.common);
  if (options.output.empty())
    throw Error(ErrorKind::usage, {}, "no output given", "name it with -o FILE.gguf, or -o DIR for a folder of PEFT");
  const bool to_gguf = std::filesystem::path(options.output).extension() == ".gguf";
  const DType type = gguf_type(options.type);
  SourceOptions modifiers;
  modifiers.tokenizer_use = formats::TokenizerUse::described;
  modifiers.dtype = "f32";  // nothing is merged: so that no base is refused
  const formats::Source source = open_source(options.source, modifiers, options.common, io);
  if (source.adapters.size() != 1)
    throw Error(
        ErrorKind::usage, {},
        "'" + source.spec.text + "' has " + plural(source.adapters.size(), "adapter") + ", and one is converted",
        "give [BASE+]ADAPTER");
  const formats::PeftAdapter& adapter = source.adapters.front();
  const OutputKind kind = to_gguf ? OutputKind::gguf : OutputKind::folder;
  check_output_name(options.output, kind);
  check_target(options.output, kind, source, options.common);
  const ModelConfig config = base_config(source, io);
  if (to_gguf) {
    std::vector<std::string> notes;
    formats::GgufAdapterOptions gguf{.type = type, .name = options.name, .scale = adapter_scale(source, 0)};
    if (!source.synthetic) gguf.base = source.base_tensors;
    if (source.hf) gguf.base_config = source.hf->config;
    const formats::GgufPlan plan = formats::plan_gguf_adapter(adapter, config, gguf, notes);
    write_gguf(source, plan, notes, options, io);
    return 0;
  }
  if (!adapter.config.empty())
    throw Error(ErrorKind::usage, {}, "'" + adapter.folder.string() + "' is a folder of PEFT already",
                "give -o FILE.gguf, or another rank or scale: ropewalk adapter rerank, adapter rescale");
  if (options.type != "f32" || !options.name.empty())
    throw Error(ErrorKind::usage, {}, "--type and --model-name are about a GGUF, and a folder is to be written",
                "leave them out: tensors keep their types");
  formats::MadeAdapter made = formats::peft_of_gguf(adapter, config, adapter_scale(source, 0));
  made.config["base_model_name_or_path"] = source.spec.model;
  write_adapter_folder(run_of(source, options.output), made, options.writer, options.common, io);
  return 0;
}

}  // namespace

Command adapter_convert_command() {
  return make_command("adapter convert", "an adapter of PEFT to a GGUF adapter, and back", declare, run_convert);
}

}  // namespace ropewalk::tools
