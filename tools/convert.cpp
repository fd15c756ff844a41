#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "formats/gguf_rewrite.h"
#include "formats/gguf_write.h"
#include "formats/hf_writer.h"
#include "lib/error.h"
#include "lib/nearest_word.h"
#include "lib/file.h"
#include "lib/recipes.h"
#include "lib/sha256.h"
#include "tools/commands.h"
#include "tools/common_options.h"
#include "tools/describe.h"
#include "tools/losses.h"
#include "tools/model_card.h"
#include "tools/output_plan.h"
#include "tools/units.h"
#include "verify/weights.h"

namespace ropewalk::tools {
namespace {

namespace fs = std::filesystem;

struct ConvertOptions {
  std::string source, output;
  std::optional<std::string> types;
  std::string model_name, rope_encoding = "auto";
  std::optional<std::string> metadata, compat;
  std::optional<std::uint64_t> split_max_size;
  std::optional<int> split_max_tensors;
  bool no_tensor_first_split = false, sha256 = false, rmse = false;
  std::vector<std::string> allowed_losses;
  SourceOptions modifiers;
  WriterOptions writer;
  CommonOptions common;
};

void declare(CommandLine& line, ConvertOptions& options) {
  line.positional(options.source, "SOURCE", "what to convert; adapters are merged and ropes applied on the way");
  line.option("-o,--output,--outfile", options.output, "OUT", "a file, a folder (DIR/), or a pattern such as '{name}-{type}.gguf'");
  line.option("--type,--outtype", options.types, "T[,T...]", "f32, f16, bf16, q8_0, auto, keep, hf:f16, hf:bf16 or hf:f32. Auto is the source's 16-bit type, keep leaves every encoding as it is, hf: writes a Hugging Face folder. "
              "Default: auto, and keep for a GGUF. Any number of outputs from one read");
  line.option("--model-name", options.model_name, "NAME", "general.name, and {name} in the pattern");
  line.option("--metadata", options.metadata, "FILE", "JSON with general.* keys that override what is found");
  line.option("--compat", options.compat, "ENGINE", "write what convert_hf_to_gguf.py of llama.cpp@0.5 writes, faults included");
  line.group("Splitting");
  line.bytes_option("--split-max-size", options.split_max_size, "SIZE", "most tensor data per file, e.g. 5G");
  line.option("--split-max-tensors", options.split_max_tensors, 1, 1'000'000, "N", "most tensors per file");
  line.flag("--no-tensor-first-split", options.no_tensor_first_split, "the first file holds only metadata");
  declare_losses(line, options.rope_encoding, options.allowed_losses);
  declare_modifiers(line, options.modifiers);
  declare_merge(line, options.modifiers);
  declare_writer(line, options.writer);
  line.flag("--sha256", options.sha256, "print the sha256 of each file written (reads them again)");
  line.flag("--rmse", options.rmse, "report each tensor's root mean square error (reads the GGUFs again)");
  declare_common(line, options.common);
  line.example("ropewalk convert base+adapter -o '{name}-{type}.gguf' --type f16,q8_0", "two GGUFs from one read, no file in between");
  line.example("ropewalk convert model -o model.gguf --type q8_0", "the same tensors as convert_hf_to_gguf.py and llama-quantize");
  line.example("ropewalk convert model.gguf -o out.gguf --rope yarn,factor=8", "keys changed, tensors as they are");
}

/// One thing to write.
struct Target {
  std::string type;  // as asked for: "f16", "keep", "hf:bf16"
  DType dtype = DType::f16;
  bool folder = false;  // a Hugging Face folder
  bool keep = false;    // tensor bytes as stored
  fs::path path = {};
  std::optional<formats::GgufPlan> plan = std::nullopt;  // of a GGUF
  formats::GgufWritten planned = {};
  std::vector<formats::Loss> losses = {};
  std::vector<std::string> notes = {};
};

Target parse_type(const std::string& type, const formats::Source& source) {
  Target target{.type = type};
  std::string name = type;
  if (name.starts_with("hf:")) target.folder = true, name = name.substr(3);
  if (name == "auto" && !target.folder && !source.gguf) name = info(formats::gguf_auto_type(source)).name;
  if (name == "auto") name = "keep";
  if (name == "keep") {
    target.keep = source.gguf.has_value() || target.folder;
    target.dtype = dominant_dtype(source.checkpoint.tensors);
    target.type = target.folder ? "hf:keep" : std::string(info(target.dtype).name);
    return target;
  }
  const auto dtype = dtype_from_name(name);
  const bool known = dtype && (*dtype == DType::f32 || *dtype == DType::f16 || *dtype == DType::bf16 || (*dtype == DType::q8_0 && !target.folder));
  if (!known && dtype)
    throw Error(ErrorKind::unsupported, {}, "--type " + type + " cannot be written yet", "use f32, f16, bf16, q8_0, keep, hf:f16, hf:bf16 or hf:f32");
  if (!known) {
    const auto near = nearest_word(type, {"f32", "f16", "bf16", "q8_0", "keep", "auto", "hf:f16", "hf:bf16", "hf:f32"});
    throw Error(ErrorKind::usage, {}, type.empty() ? "--type holds an empty name" : "unknown --type '" + type + "'", near ? "did you mean " + *near + "?" : "use f32, f16, bf16, q8_0, keep, auto, hf:f16, hf:bf16 or hf:f32");
  }
  target.dtype = *dtype;
  target.type = (target.folder ? "hf:" : "") + std::string(info(*dtype).name);
  return target;
}

void replace_all(std::string& text, const std::string& what, const std::string& with) {
  for (std::size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += with.size()) text.replace(at, what.size(), with);
}

std::string upper(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return text;
}

/// {name}: --model-name, else the source's own, adapters' names after it.
std::string output_name(const ConvertOptions& options, const formats::Source& source) {
  if (!options.model_name.empty()) {
    std::string name = options.model_name;
    std::replace(name.begin(), name.end(), '/', '-');
    return name;
  }
  std::string name = model_name(source);
  for (const auto& adapter : source.adapters) {
    const fs::path folder = fs::absolute(adapter.folder).lexically_normal();
    name += "-" + (folder.filename().empty() ? folder.parent_path() : folder).filename().string();
  }
  return name;
}

fs::path place(const ConvertOptions& options, const std::string& name, const Target& target, bool alone) {
  std::string pattern = options.output;
  std::error_code ignored;
  const bool slash = pattern.ends_with('/');
  if (slash || fs::is_directory(pattern, ignored)) {
    if (alone && target.folder && (!fs::exists(pattern, ignored) || options.common.overwrite)) return pattern;
    pattern = (fs::path(pattern) / "{name}-{type}.gguf").string();
  }
  std::string type = target.type;
  std::replace(type.begin(), type.end(), ':', '-');
  replace_all(pattern, "{name}", name);
  for (const char* spelling : {"{type}", "{ftype}", "{outtype}"}) replace_all(pattern, spelling, type);
  for (const char* spelling : {"{TYPE}", "{FTYPE}", "{OUTTYPE}"}) replace_all(pattern, spelling, upper(type));
  fs::path path = pattern;
  const std::string file = path.filename().string();
  if (const auto open = file.find('{'), close = file.find('}', std::min(open, file.size())); close != std::string::npos)
    throw Error(ErrorKind::usage, {.path = options.output}, "the pattern's " + file.substr(open, close + 1 - open) + " stands for nothing", "use {name}, {type} or {TYPE}");
  if (target.folder && path.extension() == ".gguf") path.replace_extension();
  return path;
}

std::vector<Target> parse_targets(const ConvertOptions& options, const formats::Source& source) {
  std::vector<Target> targets;
  for (const std::string& type : split_list(options.types.value_or("auto"))) targets.push_back(parse_type(type, source));
  const std::string name = output_name(options, source);
  std::set<fs::path> used;
  for (Target& target : targets) {
    target.path = place(options, name, target, targets.size() == 1);
    if (!used.insert(target.path.lexically_normal()).second)
      throw Error(ErrorKind::usage, {.path = target.path.string()}, "two outputs would have this name", "use a pattern such as -o '{name}-{type}.gguf', or -o DIR/");
    if (!target.folder && target.path.extension() != ".gguf")
      throw Error(ErrorKind::usage, {.path = target.path.string()}, "a GGUF's name ends in .gguf", "give -o NAME.gguf, -o DIR/, or --type hf:f16 for a Hugging Face folder");
  }
  return targets;
}

/// Plans of the GGUF targets; those of one source share their tensors.
void plan_ggufs(const ConvertOptions& options, const formats::Source& source, std::vector<Target>& targets) {
  const formats::RopeEncoding encoding = parse_rope_encoding(options.rope_encoding);
  if (source.gguf && (options.compat || options.metadata))
    throw Error(ErrorKind::usage, {}, std::string(options.compat ? "--compat" : "--metadata") + " is about Hugging Face sources, and this one is a GGUF", "leave it out");
  const Json metadata = options.metadata ? formats::read_json(*options.metadata) : Json(nullptr);
  std::vector<Target*> ggufs;
  std::vector<formats::GgufExportOptions> wanted;
  for (Target& target : targets) {
    if (target.folder) continue;
    ggufs.push_back(&target);
    wanted.push_back({.type = target.dtype, .compat = options.compat, .rope_encoding = encoding, .model_name = options.model_name, .metadata = metadata});
  }
  std::vector<formats::GgufExport> exports;
  if (source.hf) exports = formats::export_ggufs(source, wanted);
  for (const Target* target : ggufs)
    if (source.gguf) exports.push_back(formats::rewrite_gguf_source(source, target->keep ? std::nullopt : std::optional(target->dtype), encoding));
  for (std::size_t i = 0; i < ggufs.size(); ++i) {
    refuse_losses(exports[i].losses, options.allowed_losses, source.checkpoint);
    if (source.gguf && !options.model_name.empty())
      for (formats::GgufKey& key : exports[i].plan.keys)
        if (key.name == "general.name") key.value = formats::gguf_string(options.model_name);
    ggufs[i]->losses = std::move(exports[i].losses);
    ggufs[i]->notes = std::move(exports[i].notes);
    ggufs[i]->plan = std::move(exports[i].plan);
  }
}

/// What only a GGUF has is not asked for in vain.
void refuse_unused(const ConvertOptions& options, const std::vector<Target>& targets) {
  if (std::any_of(targets.begin(), targets.end(), [](const Target& target) { return !target.folder; })) return;
  const bool named = std::any_of(targets.begin(), targets.end(), [&](const Target& target) {  // {name} of the pattern
    return place(options, "a", target, targets.size() == 1) != place(options, "b", target, targets.size() == 1);
  });
  const char* unused = options.compat                                   ? "--compat"
                       : options.metadata                               ? "--metadata"
                       : !options.model_name.empty() && !named          ? "--model-name"
                       : options.split_max_tensors                      ? "--split-max-tensors"
                       : options.no_tensor_first_split                  ? "--no-tensor-first-split"
                                                                        : nullptr;
  if (unused) throw Error(ErrorKind::usage, {}, std::string(unused) + " is about GGUFs, and only Hugging Face folders are to be written", "leave it out, or add a GGUF --type");
}

formats::GgufSplit split_of(const ConvertOptions& options) {
  formats::GgufSplit split{.max_bytes = options.split_max_size, .max_tensors = std::nullopt, .no_tensor_first_split = options.no_tensor_first_split};
  if (options.split_max_tensors) split.max_tensors = static_cast<std::uint64_t>(*options.split_max_tensors);
  if (split.no_tensor_first_split && !split.max_bytes && !split.max_tensors)
    throw Error(ErrorKind::usage, {}, "--no-tensor-first-split without a split", "add --split-max-size or --split-max-tensors");
  return split;
}

/// The source with every float tensor in `dtype`, for a Hugging Face folder.
formats::Source as_dtype(const formats::Source& source, const Target& target, bool saturate) {
  formats::Source out = source;
  if (!target.keep)
    for (TensorPtr& tensor : out.checkpoint.tensors)
      if (is_float(tensor->dtype()) && tensor->dtype() != target.dtype) tensor = cast(tensor, target.dtype, saturate);
  return out;
}

std::uint64_t bytes_of(const Target& target, const formats::Source& source) {
  if (target.plan) return target.planned.bytes;
  if (target.keep) return total_bytes(source.checkpoint.tensors);
  return total_elements(source.checkpoint.tensors) * static_cast<std::uint64_t>(info(target.dtype).block_bytes);
}

std::vector<fs::path> paths_of(const Target& target) { return target.plan ? target.planned.files : std::vector<fs::path>{target.path}; }

/// The file to open: of a split the first shard.
const fs::path& first_file(const Target& target) { return target.plan ? target.planned.files.front() : target.path; }

/// For people: "out-00001-of-00003.gguf and 2 more".
std::string file_names(const Target& target) {
  const std::size_t n = target.plan ? target.planned.files.size() : 1;
  return first_file(target).string() + (n > 1 ? " and " + std::to_string(n - 1) + " more" : "");
}

/// What goes when the new files have come: shards of another split, or the unsplit file.
std::string replaced_note(const Target& target, bool dry_run) {
  std::string names;
  for (const fs::path& old : target.planned.replaced) names += (names.empty() ? "" : ", ") + old.filename().string();
  return target.path.string() + ": " + (dry_run ? "would remove " : "removed ") + plural(target.planned.replaced.size(), "older file") + " of that name: " + names;
}

std::string file_sha256(const fs::path& path) {
  const auto file = File::open(path);
  Sha256 hash;
  std::vector<std::byte> block(std::size_t{4} << 20);
  for (std::uint64_t at = 0; at < file->size(); at += block.size()) {
    const std::span part = std::span(block).first(std::min<std::uint64_t>(block.size(), file->size() - at));
    file->read(at, part);
    hash.update(part);
  }
  return hash.finish();
}

/// Errors of a written GGUF's tensors against the source, by GGUF name.
std::map<std::string, double> errors_of(const Target& target, const formats::Source& source, const CommonOptions& common) {
  const formats::GgufFile file = formats::read_gguf(target.planned.files.front());
  const Checkpoint written = formats::read_gguf_model(file, target.path.string());
  std::map<std::string, double> errors;
  for (const verify::WeightDifference& difference : verify::compare_weights(source.checkpoint, written, common.threads, {}))
    if (const auto name = formats::gguf_tensor_name(difference.name)) errors[*name] = difference.rmse;
  return errors;
}

Json output_json(const Target& target, std::uint64_t bytes, bool with_hash, const std::map<std::string, double>& errors) {
  Json files = Json::array(), tensors = Json::array();
  for (const fs::path& path : paths_of(target)) files.push_back({{"path", path.string()}, {"sha256", with_hash && target.plan ? Json(file_sha256(path)) : Json(nullptr)}});
  if (target.plan)
    for (const auto& tensor : target.plan->tensors)
      tensors.push_back({{"name", tensor.name}, {"type", info(tensor.dtype).name}, {"bytes", *byte_size(tensor.dtype, tensor.tensor->info().elements())}, {"rmse", errors.contains(tensor.name) ? Json(errors.at(tensor.name)) : Json(nullptr)}});
  return {{"path", first_file(target).string()}, {"type", target.type}, {"bytes", bytes}, {"sha256", files.size() == 1 ? files[0]["sha256"] : Json(nullptr)}, {"files", files}, {"tensors", tensors},
          {"losses", losses_json(target.losses)}, {"notes", target.notes}};
}

void write_targets(const std::vector<Target>& targets, const formats::Source& source, const formats::GgufSplit& split, const ConvertOptions& options, const Io& io) {
  const WriteOptions write = write_options(options.common, options.writer);
  std::vector<formats::GgufPlan> plans;
  std::vector<formats::GgufTarget> places;
  for (const Target& target : targets) {
    if (!target.plan) continue;
    plans.push_back(*target.plan);
    places.push_back({target.path, split});
  }
  const std::uint64_t passes = (targets.size() - plans.size()) + (plans.empty() ? 0 : 1);
  Progress progress(io, options.common.quiet, "converting", passes * total_bytes(source.checkpoint.tensors), Progress::Unit::bytes);
  if (!plans.empty()) formats::write_ggufs(std::move(plans), places, write, stream_options(options.common, progress));
  for (const Target& target : targets) {
    if (!target.folder) continue;
    const formats::Source typed = as_dtype(source, target, options.modifiers.saturate);
    formats::HfWriteOptions hf;
    hf.write = write;
    hf.stream = stream_options(options.common, progress);
    if (options.split_max_size) hf.max_shard_bytes = *options.split_max_size;
    const fs::path whole = fs::absolute(target.path).lexically_normal();
    hf.card = model_card(typed, (whole.filename().empty() ? whole.parent_path() : whole).filename().string(), "converted");
    formats::write_hf_folder(typed, typed.hf->config, target.path, hf);
  }
}

int run_convert(const ConvertOptions& options, Io& io) {
  check_reports(options.common);
  check_allowed_losses(options.allowed_losses);
  if (options.output.empty()) throw Error(ErrorKind::usage, {}, "no output given", "name it with -o FILE.gguf, -o DIR/ or -o '{name}-{type}.gguf'");
  const formats::GgufSplit split = split_of(options);
  const formats::Source source = open_source(options.source, options.modifiers, options.common, io);
  std::vector<Target> targets = parse_targets(options, source);
  for (const Target& target : targets)
    if (target.folder && !source.hf)
      throw Error(ErrorKind::unsupported, {.path = source.spec.model}, "a Hugging Face folder from a GGUF cannot be written yet", "convert the folder the GGUF was made from");
  refuse_unused(options, targets);
  plan_ggufs(options, source, targets);
  OutputPlan plan{.targets = {}, .what = "", .read_bytes = total_bytes(source.base_tensors)};
  std::vector<std::uint64_t> sizes;
  std::uint64_t n_replaced = 0;
  for (Target& target : targets) {
    if (target.plan) target.planned = formats::planned_files(*target.plan, {target.path, split});
    sizes.push_back(bytes_of(target, source));
    for (std::uint64_t rest = sizes.back(); const fs::path& path : paths_of(target)) {  // parts of one split share a folder: the first stands for all
      check_target(path, source, options.common.overwrite);
      plan.targets.push_back({path, std::exchange(rest, 0)});
    }
    for (const fs::path& old : target.planned.replaced) check_target(old, source, options.common.overwrite);
    n_replaced += target.planned.replaced.size();
    if (!target.planned.replaced.empty()) target.notes.push_back(replaced_note(target, options.writer.dry_run));
  }
  const auto folders = static_cast<std::uint64_t>(std::count_if(targets.begin(), targets.end(), [](const Target& t) { return t.folder; }));
  const std::uint64_t files = plan.targets.size() - folders;
  plan.what = (files ? plural(files, "file") : "") + (files && folders ? " and " : "") + (folders ? plural(folders, "folder") : "");
  if (n_replaced) plan.what += " in place of " + plural(n_replaced, "older file");
  announce(plan, options.common, io);
  if (!options.writer.dry_run) write_targets(targets, source, split, options, io);

  Output output{.command = "convert", .source = source.spec.text, .warnings = source.checkpoint.warnings};
  output.body = {{"outputs", Json::array()}, {"dry_run", options.writer.dry_run}};
  Table table{{{"output"}, {"type"}, {"bytes", true}, {"tensors", true}}, {}};
  std::set<std::string> notes;
  for (std::size_t i = 0; i < targets.size(); ++i) {
    const Target& target = targets[i];
    std::map<std::string, double> errors;
    if (options.rmse && target.plan && !options.writer.dry_run) errors = errors_of(target, source, options.common);
    output.body["outputs"].push_back(output_json(target, sizes[i], options.sha256 && !options.writer.dry_run, errors));
    const std::size_t n = target.plan ? target.plan->tensors.size() : source.checkpoint.tensors.size();
    table.rows.push_back({file_names(target), target.type, std::to_string(sizes[i]), std::to_string(n)});
    for (const std::string& note : target.notes) notes.insert("note: " + note);
    for (const formats::Loss& loss : target.losses) notes.insert(loss_line(loss));
  }
  if (options.writer.dry_run) output.text("dry run: nothing written");
  for (const std::string& note : notes) output.text(note);
  if (options.sha256 && !options.writer.dry_run)
    for (const Json& item : output.body["outputs"])
      for (const Json& file : item["files"])
        if (file["sha256"].is_string()) output.text(file["sha256"].get<std::string>() + "  " + file["path"].get<std::string>());
  output.table(std::move(table));
  emit(output, options.common, io);
  return 0;
}

}  // namespace

Command convert_command() { return make_command("convert", "to GGUF and other types: any number of outputs from one read", declare, run_convert); }

}  // namespace ropewalk::tools
