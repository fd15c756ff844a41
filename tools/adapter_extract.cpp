#include "lib/error.h"
#include "tools/adapter.h"

namespace ropewalk::tools {
namespace {

struct ExtractOptions {
  std::string tuned, base, output, dtype = "f32", embeddings = "saved";
  int rank = 0;
  WriterOptions writer;
  CommonOptions common;
};

void declare(CommandLine& line, ExtractOptions& options) {
  line.positional(options.tuned, reads("TUNED"),
                  "a SOURCE of any kind, a folder of any architecture: the model that was tuned");
  line.positional(options.base, reads("BASE"), "the SOURCE it was tuned from; the adapter names it as its base");
  line.option("-o,--output,--outdir", options.output, writes("DIR"), "the new adapter's folder, as PEFT saves one");
  line.option("--rank", options.rank, 1, 1 << 16, "R", "of each product (needed)");
  line.option("--dtype", options.dtype, "TYPE", "of the factors: f32 (default), f16, bf16");
  line.option("--embeddings", options.embeddings, "saved|lora",
              "embedding and head that differ: whole (default), or as products of the rank too");
  declare_no_modifiers(line);
  declare_writer(line, options.writer);
  declare_common(line, options.common);
  line.example("ropewalk adapter extract tuned base --rank 64 -o lora",
               "the best approximation of each linear layer's difference; norms that differ whole; what is left out");
  line.example("ropewalk merge base+lora -o again", "the tuned model, as far as the rank reaches");
}

std::vector<std::filesystem::path> inputs_of(const formats::Source& source) {
  std::vector<std::filesystem::path> paths;
  if (source.hf) paths.push_back(source.hf->folder);
  if (source.gguf)
    for (const auto& file : source.gguf->files) paths.emplace_back(file->path());
  for (const auto& adapter : source.adapters) paths.push_back(adapter.folder);
  return paths;
}

int run_extract(const ExtractOptions& options, Io& io) {
  check_reports(options.common);
  if (options.rank == 0) throw Error(ErrorKind::usage, {}, "no rank given", "say how many: --rank 64");
  if (options.embeddings != "saved" && options.embeddings != "lora")
    throw Error(ErrorKind::usage, {}, "--embeddings is '" + options.embeddings + "'", "give saved or lora");
  formats::ExtractOptions extract{.rank = std::uint64_t(options.rank),
                                  .dtype = adapter_dtype(options.dtype),
                                  .embeddings = options.embeddings == "lora" ? formats::ChangedEmbeddings::lora
                                                                             : formats::ChangedEmbeddings::saved};
  SourceOptions weights;
  weights.tokenizer_use = formats::TokenizerUse::described;
  weights.model_use = formats::ModelUse::merging;
  const formats::Source tuned = open_source(options.tuned, weights, options.common, io),
                        base = open_source(options.base, weights, options.common, io);
  AdapterRun run{.operation = "extract", .source = tuned.spec.text, .output = options.output};
  run.base = base.spec.text;
  run.rank = options.rank;
  run.inputs = inputs_of(tuned);
  for (auto& path : inputs_of(base)) run.inputs.push_back(std::move(path));
  run.warnings = tuned.checkpoint.warnings;
  run.warnings.insert(run.warnings.end(), base.checkpoint.warnings.begin(), base.checkpoint.warnings.end());
  check_adapter_folder(run, options.common);
  write_adapter_folder(run, formats::extract_adapter(tuned, base, extract), options.writer, options.common, io);
  return 0;
}

}  // namespace

Command adapter_extract_command() {
  return make_command("adapter extract", "a LoRA that comes nearest to a tuned model, and what it leaves out", declare,
                      run_extract);
}

}  // namespace ropewalk::tools
