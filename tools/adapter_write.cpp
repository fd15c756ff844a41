// What the parts of `adapter` share: the folder, and the words about it.
#include <algorithm>
#include <cmath>
#include <map>

#include "lib/error.h"
#include "lib/file.h"
#include "tools/adapter.h"
#include "tools/output_plan.h"
#include "tools/units.h"

namespace ropewalk::tools {
namespace {

namespace fs = std::filesystem;

std::string leaf_of(const std::string& target) {
  const std::string module = target.substr(0, target.rfind('.'));
  return module.substr(module.rfind('.') + 1);
}

/// One row per kind of projection: |error| / |delta| of all its layers together, and of the worst.
Table error_table(const std::vector<formats::MadeModule>& modules) {
  struct Sums {
    std::uint64_t n = 0;
    double delta = 0, error = 0, worst = 0;  // squares, squares, a ratio
  };
  std::map<std::string, Sums> by_leaf;
  for (const formats::MadeModule& module : modules) {
    if (!module.norms || !*module.norms) continue;
    const CutNorms& norms = **module.norms;
    Sums& sums = by_leaf[leaf_of(module.target)];
    ++sums.n;
    sums.delta += norms.delta * norms.delta;
    sums.error += norms.error * norms.error;
    if (norms.delta > 0) sums.worst = std::max(sums.worst, norms.error / norms.delta);
  }
  Table table{{{"module"}, {"weights", true}, {"error / delta", true}, {"of the worst", true}}, {}};
  for (const auto& [leaf, sums] : by_leaf)
    table.rows.push_back(
        {leaf, std::to_string(sums.n), number_text(std::sqrt(sums.error / sums.delta), 3), number_text(sums.worst, 3)});
  return table;
}

std::string counts(const std::vector<formats::MadeModule>& modules) {
  const auto of_kind = [&](const char* kind) {
    return std::uint64_t(std::ranges::count(modules, kind, &formats::MadeModule::kind));
  };
  std::string text;
  const auto add = [&](std::uint64_t n, const std::string& words) {
    if (n > 0) text += (text.empty() ? "" : ", ") + words;
  };
  add(of_kind("lora"), plural(of_kind("lora"), "module"));
  add(of_kind("saved"), plural(of_kind("saved"), "whole tensor"));
  add(of_kind("carried"), plural(of_kind("carried"), "change") + " carried over");
  return text;
}

}  // namespace

DType adapter_dtype(const std::string& text) {
  const auto dtype = dtype_from_name(text);
  if (dtype && (*dtype == DType::f32 || *dtype == DType::f16 || *dtype == DType::bf16)) return *dtype;
  throw Error(ErrorKind::usage, {}, "--dtype '" + text + "' is no type of an adapter", "give f32, f16 or bf16");
}

void check_adapter_folder(const AdapterRun& run, const CommonOptions& common) {
  if (run.output.empty()) throw Error(ErrorKind::usage, {}, "no output given", "name the adapter's folder with -o DIR");
  check_output_name(run.output, OutputKind::folder);
  formats::Source inputs;  // of which only the places matter
  for (const fs::path& path : run.inputs) inputs.adapters.emplace_back().folder = path;
  check_target(run.output, OutputKind::folder, inputs, common);
}

Json adapter_body(const AdapterRun& run, const std::vector<formats::MadeModule>& modules,
                  const std::vector<std::string>& written, const std::vector<std::string>& notes, bool dry_run) {
  Json list = Json::array();
  for (const formats::MadeModule& module : modules) {
    const bool known = module.norms && *module.norms;
    list.push_back({{"name", module.target},
                    {"kind", module.kind},
                    {"delta_norm", known ? Json((*module.norms)->delta) : Json(nullptr)},
                    {"error_norm", known ? Json((*module.norms)->error) : Json(nullptr)}});
  }
  return {{"operation", run.operation}, {"base", run.base}, {"rank", run.rank},
          {"scale", run.scale},         {"modules", list},  {"output", run.output},
          {"written", written},         {"notes", notes},   {"dry_run", dry_run}};
}

void write_adapter_folder(const AdapterRun& run, const formats::MadeAdapter& made, const WriterOptions& writer,
                          const CommonOptions& common, const Io& io) {
  Output output{.command = "adapter", .source = run.source, .warnings = run.warnings};
  std::uint64_t bytes = 0;
  for (const TensorPtr& tensor : made.tensors) bytes += tensor->info().bytes();
  announce({.targets = {{run.output, bytes}}, .what = "1 folder", .read_bytes = bytes}, common, io);
  std::vector<std::string> files;
  if (!writer.dry_run) {
    formats::FolderWriter folder(run.output, write_options(common, writer));
    formats::add_adapter(folder, made);
    folder.pending().refuse_to_lose(folder.files());
    StreamPlan pass;
    folder.append_items(pass);
    for (std::string& warning : stream_pass(pass, run.operation, common, io))
      output.warnings.push_back(std::move(warning));
    folder.close_files();
    folder.pending().finish();
    files = folder.files();
    output.written = {run.output};
  }
  output.body = adapter_body(run, made.modules, files, made.notes, writer.dry_run);
  output.text((writer.dry_run ? "dry run: nothing written; " : run.output + ": ") + counts(made.modules) +
              (run.rank.is_null() ? "" : ", rank " + run.rank.dump()) + ", " + bytes_text(bytes));
  for (const std::string& note : made.notes) output.text(note);
  if (Table table = error_table(made.modules); !table.rows.empty()) output.table(std::move(table));
  emit(output, common, io);
}

}  // namespace ropewalk::tools
