// adapter rerank and adapter rescale: an adapter made of another.
#include <charconv>
#include <cmath>

#include "formats/hub_cache.h"
#include "lib/error.h"
#include "lib/file.h"
#include "tools/adapter.h"

namespace ropewalk::tools {
namespace {

struct RemakeOptions {
  std::string adapter, output, dtype = "f32", scale;
  int rank = 0;
  WriterOptions writer;
  CommonOptions common;
};

void declare_remake(CommandLine& line, RemakeOptions& options) {
  line.positional(options.adapter, reads("ADAPTER"),
                  "a folder of PEFT, or org/name in the Hub cache; no base is needed");
  line.option("-o,--output,--outdir", options.output, writes("DIR"), "the new adapter's folder");
}

void declare_rerank(CommandLine& line, RemakeOptions& options) {
  declare_remake(line, options);
  line.option("--rank", options.rank, 1, 1 << 16, "R", "the new rank (needed); of a higher one the rest is zero");
  line.option("--dtype", options.dtype, "TYPE", "of the factors: f32 (default), f16, bf16");
  declare_writer(line, options.writer);
  declare_common(line, options.common);
  line.example("ropewalk adapter rerank lora-256 --rank 32 -o lora-32",
               "the best approximation of each delta, scale folded in, and what is left out");
}

void declare_rescale(CommandLine& line, RemakeOptions& options) {
  declare_remake(line, options);
  line.option("--scale", options.scale, "S", "the factor of the new deltas (needed); below 0 they are taken away");
  declare_writer(line, options.writer);
  declare_common(line, options.common);
  line.example("ropewalk adapter rescale lora --scale 0.7 -o softer", "alpha times 0.7; the tensors as they were");
}

struct Remade {
  AdapterRun run;
  formats::PeftAdapter adapter;
};
/// Reads the adapter, once the target is known to be free.
Remade open_adapter(const char* operation, const RemakeOptions& options, const Io& io) {
  const std::filesystem::path path = formats::path_or_hub(options.adapter, "adapter", io.hub_cache);
  Remade remade{{.operation = operation, .source = options.adapter, .output = options.output}, {}};
  remade.run.inputs = {path};
  check_adapter_folder(remade.run, options.common);
  if (path_kind(path) == PathKind::file)
    throw Error(ErrorKind::usage, {.path = path.string()}, "is a file, and a folder of PEFT is needed",
                "of a GGUF make one first: ropewalk adapter convert BASE+" + path.string() + " -o DIR");
  remade.adapter = formats::read_peft_adapter(path);
  return remade;
}

int run_rerank(const RemakeOptions& options, Io& io) {
  check_reports(options.common);
  if (options.rank == 0) throw Error(ErrorKind::usage, {}, "no rank given", "say how many: --rank 32");
  const DType dtype = adapter_dtype(options.dtype);
  Remade remade = open_adapter("rerank", options, io);
  remade.run.rank = options.rank;
  write_adapter_folder(remade.run, formats::rerank_adapter(remade.adapter, std::uint64_t(options.rank), dtype),
                       options.writer, options.common, io);
  return 0;
}

int run_rescale(const RemakeOptions& options, Io& io) {
  check_reports(options.common);
  double scale = 0;
  const char *begin = options.scale.data(), *end = begin + options.scale.size();
  const auto [stop, error] = std::from_chars(begin, end, scale);
  if (options.scale.empty()) throw Error(ErrorKind::usage, {}, "no scale given", "say how much: --scale 0.7");
  if (error != std::errc{} || stop != end || !std::isfinite(scale) || scale == 0)
    throw Error(ErrorKind::usage, {}, "--scale is '" + options.scale + "', expected a finite number other than 0",
                "give a number such as 0.7");
  Remade remade = open_adapter("rescale", options, io);
  remade.run.scale = scale;
  write_adapter_folder(remade.run, formats::rescale_adapter(remade.adapter, scale), options.writer, options.common, io);
  return 0;
}

}  // namespace

Command adapter_rerank_command() {
  return make_command("adapter rerank", "the same adapter at another rank, and what it leaves out", declare_rerank,
                      run_rerank);
}
Command adapter_rescale_command() {
  return make_command("adapter rescale", "the same adapter with its deltas times a number", declare_rescale,
                      run_rescale);
}

}  // namespace ropewalk::tools
