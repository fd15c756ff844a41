#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "formats/gguf_rewrite.h"
#include "formats/hf_writer.h"
#include "lib/error.h"
#include "lib/file_sha256.h"
#include "lib/recipes.h"
#include "tools/auto_mix.h"
#include "tools/commands.h"
#include "tools/convert_targets.h"
#include "tools/describe.h"
#include "tools/describe_tokenizer.h"
#include "tools/losses.h"
#include "tools/model_card.h"
#include "tools/observed_merge.h"
#include "tools/one_line.h"
#include "tools/output_plan.h"
#include "tools/tensor_errors.h"
#include "tools/units.h"

namespace ropewalk::tools {
namespace {

namespace fs = std::filesystem;

void declare(CommandLine& line, ConvertOptions& options) {
  line.positional(options.source, reads("SOURCE"), "what to convert; adapters are merged and ropes applied on the way");
  line.option("-o,--output,--outfile", options.output, {"OUT", Role::place},
              "a file, a folder (DIR/), or a pattern such as '{name}-{type}.gguf'");
  line.option("--type,--outtype", options.types, "T[,T...]",
              "f32, f16, bf16, q8_0, auto, keep, hf:f16, hf:bf16, hf:f32 or a mix of llama-quantize's such as q4_k_m. "
              "Auto is the source's 16-bit type, or with --bpw, --size or --plan types by measured error; keep leaves "
              "every encoding as it is, hf: writes a Hugging Face folder, "
              "a mix has the bytes of llama-quantize on the lossless GGUF. "
              "Default: auto, and keep for a GGUF. Any number of outputs from one read");
  line.option("--model-name", options.model_name, "NAME", "general.name, and {name} in the pattern");
  line.option("--metadata", options.metadata, reads("FILE"), "JSON with general.* keys that override what is found");
  line.option("--compat", options.compat, "ENGINE",
              "write what convert_hf_to_gguf.py of llama.cpp@0.5 writes, faults included");
  line.group("Splitting");
  line.bytes_option("--split-max-size", options.split_max_size, "SIZE", "most tensor data per file, e.g. 5G");
  line.option("--split-max-tensors", options.split_max_tensors, 1, 1'000'000, "N", "most tensors per file");
  line.flag("--no-tensor-first-split", options.no_tensor_first_split, "the first file holds only metadata");
  declare_mix(line, options.mix);
  line.option("--intermediate", options.intermediate, "T",
              "what a mix starts from: f16, bf16 or f32 (default: the matrices' own, f32 where they differ)");
  line.group("Model");
  declare_losses(line, options.rope_encoding, options.rope.allowed_losses);
  declare_modifiers(line, options.modifiers);
  declare_engines(line, options.rope.engines);
  declare_sliding_window(line, options.rope.sliding_window);
  declare_merge(line, options.modifiers);
  declare_writer(line, options.writer);
  line.flag("--sha256", options.sha256, "print the sha256 of each file written (reads them again)");
  line.flag("--rmse", options.rmse,
            "report what each tensor's encoding has lost, measured as it is written; --report does too");
  declare_common(line, options.common);
  line.example("ropewalk convert base+adapter -o '{name}-{type}.gguf' --type f16,q8_0",
               "two GGUFs from one read, no file in between");
  line.example("ropewalk convert model -o model.gguf --type q8_0",
               "the same tensors as convert_hf_to_gguf.py and llama-quantize");
  line.example("ropewalk convert model.gguf -o out.gguf --rope yarn,factor=8", "keys changed, tensors as they are");
}

/// The plan of a GGUF that is never written becomes that of its mix.
void quantize(Target& target, formats::QuantizeOptions mix, const ConvertOptions& options,
              const std::optional<formats::Imatrix>& importances, const std::string& label, const Io& io) {
  const MixChoice& choice = options.mix;
  mix.mix.type = *target.mix;
  mix.saturate = options.modifiers.saturate;
  if (importances) mix.imatrix = &*importances;
  AutoMix chosen;
  if (target.automatic) chosen = auto_mix(*target.plan, label, mix, choice, options.common, options.writer.dry_run, io);
  else chosen.plan = formats::quantize_plan(*target.plan, label, mix);
  formats::QuantizePlan& mixed = chosen.plan;
  const Coverage coverage = coverage_of(mixed);
  check_coverage(coverage, choice);
  if (!target.automatic)
    target.notes.push_back("types by the mix of " + std::string(formats::kMixVersion) + ", from " +
                           std::string(info(target.dtype).name));
  target.notes.insert(target.notes.end(), chosen.notes.begin(), chosen.notes.end());
  if (importances) target.notes.push_back(target.type + ": " + coverage_text(coverage));
  for (const std::string& note : fallback_notes(mixed)) target.notes.push_back(target.type + ": " + note);
  for (const std::string& note : idle_rule_notes(mix, mixed)) target.notes.push_back(target.type + ": " + note);
  target.plan = std::move(mixed.plan);
}

/// Plans of the GGUF targets; those of one source share their tensors.
void plan_ggufs(const ConvertOptions& options, const formats::Source& source, std::vector<Target>& targets,
                const Io& io) {
  const formats::RopeEncoding encoding = parse_rope_encoding(options.rope_encoding);
  if (source.gguf && (options.compat || options.metadata))
    throw Error(ErrorKind::usage, {},
                std::string(options.compat ? "--compat" : "--metadata") +
                    " is about Hugging Face sources, and this one is a GGUF",
                "leave it out");
  const Json metadata = options.metadata ? formats::read_json(*options.metadata) : Json(nullptr);
  std::vector<Target*> ggufs;
  std::vector<formats::GgufExportOptions> wanted;
  for (Target& target : targets) {
    if (target.folder) continue;
    ggufs.push_back(&target);
    wanted.push_back({.type = target.dtype,
                      .compat = options.compat,
                      .rope_encoding = encoding,
                      .model_name = options.model_name.value_or(""),
                      .metadata = metadata,
                      .saturate = options.modifiers.saturate});
  }
  const formats::QuantizeOptions mix = parse_mix(options.mix);
  if (std::ranges::any_of(targets, &Target::automatic)) check_auto(options.mix);
  else if (chooses_types(options.mix) || options.mix.save_plan || options.mix.candidates)
    throw Error(ErrorKind::usage, {}, "types are to be chosen, and no --type is auto", "give --type auto");
  const std::optional<formats::Imatrix> importances = read_importances(options.mix);
  std::vector<formats::GgufExport> exports;
  if (source.hf) exports = formats::export_ggufs(source, wanted);
  for (const Target* target : ggufs)
    if (source.gguf)
      exports.push_back(formats::rewrite_gguf_source(
          source, target->keep || (target->mix && !options.intermediate) ? std::nullopt : std::optional(target->dtype),
          encoding, options.modifiers.saturate,
          target->mix ? formats::ChangedBlocks::unrounded : formats::ChangedBlocks::encode_again));
  for (std::size_t i = 0; i < ggufs.size(); ++i) {
    if (!options.compat) refuse_losses(exports[i].losses, options.rope.allowed_losses, source.checkpoint);
    if (source.gguf && options.model_name)
      for (formats::GgufKey& key : exports[i].plan.keys)
        if (key.name == "general.name") key.value = formats::gguf_string(*options.model_name);
    ggufs[i]->losses = std::move(exports[i].losses);
    ggufs[i]->notes = std::move(exports[i].notes);
    ggufs[i]->plan = std::move(exports[i].plan);
    if (ggufs[i]->mix) quantize(*ggufs[i], mix, options, importances, source.checkpoint.label, io);
  }
}

std::uint64_t bytes_of(const Target& target, const formats::Source& source) {
  if (target.plan) return target.planned.bytes;
  if (target.keep) return total_bytes(source.checkpoint.tensors);
  return total_elements(source.checkpoint.tensors) * static_cast<std::uint64_t>(info(target.dtype).block_bytes);
}

std::vector<fs::path> paths_of(const Target& target) {
  return target.plan ? target.planned.files : std::vector<fs::path>{target.path};
}

/// The files a target has become: those in a folder by name.
std::vector<fs::path> written_files(const Target& target) {
  if (target.plan) return target.planned.files;
  std::vector<fs::path> files;
  for (const fs::directory_entry& entry : fs::directory_iterator(target.path)) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

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
  return target.path.string() + ": " + (dry_run ? "would remove " : "removed ") +
         plural(target.planned.replaced.size(), "older file") + " of that name: " + names;
}

MeasuredOutput measured_of(const Target& target) {
  return {first_file(target).filename().string(), target.plan ? &*target.plan : nullptr, target.errors};
}

Json output_json(const Target& target, bool with_hash, const MeasuredOutput& measured) {
  Json files = Json::array(), tensors = Json::array();
  for (const fs::path& path : with_hash ? written_files(target) : paths_of(target))
    files.push_back({{"path", path.string()}, {"sha256", with_hash ? Json(file_sha256(path)) : Json(nullptr)}});
  for (std::size_t i = 0; target.plan && i < target.plan->tensors.size(); ++i) {
    const formats::GgufTensorPlan& tensor = target.plan->tensors[i];
    tensors.push_back({{"name", tensor.name},
                       {"type", info(tensor.dtype).name},
                       {"bytes", *byte_size(tensor.dtype, tensor.tensor->info().elements())}});
    put_errors(tensors.back(), measured, i);
  }
  return {{"path", first_file(target).string()},
          {"type", target.type},
          {"bytes", target.bytes},
          {"sha256", files.size() == 1 && !target.folder ? files[0]["sha256"] : Json(nullptr)},
          {"files", files},
          {"tensors", tensors},
          {"losses", losses_json(target.losses)},
          {"notes", target.notes},
          {"engines", engines_json(target.verdicts)}};
}

/// The source with every float tensor in the target's type: what its card describes.
formats::Source as_written(const formats::Source& source, const Target& target) {
  formats::Source out = source;
  if (!target.keep)
    for (TensorPtr& tensor : out.checkpoint.tensors)
      if (is_float(tensor->dtype())) tensor = cast(tensor, target.dtype);
  return out;
}

formats::HfOutput hf_output(const Target& target, const formats::Source& source, const std::optional<FolderPlan>& rope,
                            const ConvertOptions& options, const WriteOptions& write) {
  formats::HfWriteOptions hf;
  hf.write = write;
  hf.saturate = options.modifiers.saturate;
  if (!target.keep) hf.dtype = target.dtype;
  if (options.split_max_size) hf.max_shard_bytes = *options.split_max_size;
  hf.card = model_card(as_written(source, target), last_part(target.path), "converted");
  if (rope) hf.changes = rope->changes;
  return formats::HfOutput(source, rope ? rope->config : source.hf->config, target.path, hf);
}

/// Whether its encoding is lossier than a rounding.
bool quantizes(const Target& target) {
  return target.mix || target.automatic || (!target.keep && is_block_type(target.dtype));
}

/// One pass over the weights for all targets, GGUFs and folders; none takes its name before all of them are whole and
/// on disk. Returns what the pass has to say; sets what encodings have lost if that was asked for.
std::vector<std::string> write_targets(std::vector<Target>& targets, const formats::Source& source,
                                       const std::optional<FolderPlan>& rope, const formats::GgufSplit& split,
                                       const ConvertOptions& options, const Io& io) {
  const WriteOptions write = write_options(options.common, options.writer);
  std::vector<formats::GgufPlan> plans;
  std::vector<formats::GgufTarget> places;
  for (const Target& target : targets) {
    if (!target.plan) continue;
    plans.push_back(*target.plan);
    places.push_back({target.path, split});
  }
  formats::GgufOutputs ggufs(std::move(plans), places, write);
  std::vector<formats::HfOutput> folders;
  for (const Target& target : targets)
    if (target.folder) folders.push_back(hf_output(target, source, rope, options, write));

  StreamPlan pass;
  const bool measure = measures_errors(options.rmse, options.common);
  ggufs.append_items(pass, measure);
  for (const formats::HfOutput& folder : folders) folder.append_items(pass);
  std::vector<std::string> warnings =
      stream_pass(pass, "converting", options.common, io,
                  std::ranges::any_of(targets, quantizes) ? NotFinite::refuse : NotFinite::pass_on);

  PendingSet outputs;
  for (formats::HfOutput& folder : folders) folder.seal(), folder.append_pending(outputs);
  ggufs.append_pending(outputs);
  finish_together(outputs);
  for (std::size_t i = 0; Target & target : targets)
    if (target.plan) target.errors = ggufs.errors(i++);
  return warnings;
}

/// Sizes and files of every target; Error(io) where one cannot be written. Sets the note on older files that go.
OutputPlan plan_outputs(std::vector<Target>& targets, const formats::Source& source, const formats::GgufSplit& split,
                        const ConvertOptions& options) {
  OutputPlan plan{.targets = {}, .what = "", .read_bytes = total_bytes(source.base_tensors)};
  std::uint64_t files = 0, folders = 0, replaced = 0;
  for (Target& target : targets) {
    if (target.plan) target.planned = formats::planned_files(*target.plan, {target.path, split});
    target.bytes = bytes_of(target, source);
    // parts of one split share a folder: the first stands for all
    for (std::uint64_t rest = target.bytes; const fs::path& path : paths_of(target)) {
      check_target(path, target.folder ? OutputKind::folder : OutputKind::gguf, source, options.common);
      plan.targets.push_back({path, std::exchange(rest, 0)});
      ++(target.folder ? folders : files);
    }
    for (const fs::path& old : target.planned.replaced) check_target(old, OutputKind::gguf, source, options.common);
    replaced += target.planned.replaced.size();
    if (!target.planned.replaced.empty()) target.notes.push_back(replaced_note(target, options.writer.dry_run));
  }
  plan.what = (files ? plural(files, "file") : "") + (files && folders ? " and " : "") +
              (folders ? plural(folders, "folder") : "");
  if (replaced) plan.what += " in place of " + plural(replaced, "older file");
  return plan;
}

const Target* first_of_kind(const std::vector<Target>& targets, bool folder) {
  const auto found = std::find_if(targets.begin(), targets.end(), [&](const Target& t) { return t.folder == folder; });
  return found == targets.end() ? nullptr : &*found;
}

/// A new rope, and how folders say it; of a GGUF also without one: its folder is made anew.
struct ConvertedRope {
  std::optional<NewRope> wanted;
  std::optional<FolderPlan> folder;
};
ConvertedRope plan_rope(const ConvertOptions& options, const formats::Source& source, std::vector<Target>& targets) {
  const std::vector<formats::EngineVersion> engines = parse_engines(options.rope.engines);
  const bool folders = first_of_kind(targets, true) != nullptr;
  if (!folders) check_gguf_engines(engines);
  ConvertedRope rope{new_rope(source), std::nullopt};
  if (!folders || (!rope.wanted && source.hf)) return rope;
  rope.folder = source.gguf ? plan_gguf_folder(source, rope.wanted, options.rope)
                            : plan_folder(source, *rope.wanted, options.rope);
  for (Target& target : targets)
    if (target.folder) {
      target.verdicts = rope.folder->verdicts;
      target.losses = rope.folder->losses;
      target.notes.insert(target.notes.end(), rope.folder->notes.begin(), rope.folder->notes.end());
    }
  return rope;
}

/// What llama.cpp makes of the GGUFs that were written with a new rope.
void read_back(const NewRope& rope, const ConvertOptions& options, std::vector<Target>& targets) {
  for (Target& target : targets)
    if (target.plan)
      target.verdicts = written_verdicts(first_file(target).string(), rope.target, parse_engines(options.rope.engines));
}

/// What was written, for people and programs.
Output describe_outputs(const std::vector<Target>& targets, const formats::Source& source,
                        const ConvertOptions& options) {
  const bool dry_run = options.writer.dry_run;
  Output output{.command = "convert", .source = source.spec.text};
  output.body = {{"outputs", Json::array()}, {"dry_run", dry_run}};
  Table table{{{"output"}, {"type"}, {"bytes", true}, {"tensors", true}}, {}};
  std::set<std::string> notes;
  for (const Target& target : targets) {
    output.body["outputs"].push_back(output_json(target, options.sha256 && !dry_run, measured_of(target)));
    const std::size_t n = target.plan ? target.plan->tensors.size() : source.checkpoint.tensors.size();
    table.rows.push_back({file_names(target), target.type, std::to_string(target.bytes), std::to_string(n)});
    for (const std::string& note : target.notes) notes.insert("note: " + one_line(note));
    for (const formats::Loss& loss : target.losses) notes.insert(loss_line(loss));
  }
  if (dry_run) output.text("dry run: nothing written");
  if (source.tokenizer_origin != "base" && source.tokenizer_origin != "none")
    output.text("tokenizer from " + tokenizer_text(source));
  for (const std::string& note : notes) output.text(note);
  for (const Json& item : output.body["outputs"])
    for (const Json& file : item["files"])
      if (file["sha256"].is_string())
        output.text(file["sha256"].get<std::string>() + "  " + file["path"].get<std::string>());
  output.table(std::move(table));
  for (const Target& target : targets)  // targets of a kind say the same
    if (!target.verdicts.empty() && &target == first_of_kind(targets, target.folder))
      show_verdicts(output, target.verdicts);
  return output;
}

int run_convert(const ConvertOptions& options, Io& io) {
  check_reports(options.common);
  check_allowed_losses(options.rope.allowed_losses);
  check_sliding_window(options.rope.sliding_window);
  if (options.output.empty())
    throw Error(ErrorKind::usage, {}, "no output given",
                "name it with -o FILE.gguf, -o DIR/ or -o '{name}-{type}.gguf'");
  if (options.model_name && options.model_name->find_first_not_of(" \t") == std::string::npos)
    throw Error(ErrorKind::usage, {}, "--model-name is empty", "give the model's name, or leave it out");
  const formats::GgufSplit split = split_of(options);
  SourceOptions modifiers = options.modifiers;
  modifiers.blocks = type_of_blocks(options.types);
  if (wants_gguf(options)) modifiers.tokenizer_use = formats::TokenizerUse::rewritten;
  formats::Source source = open_source(options.source, modifiers, options.common, io);
  refuse_without_rope(options.rope, source);
  std::vector<std::string> warnings = source.checkpoint.warnings;
  warn_of_vocabulary(source, options.common, io, warnings);

  std::vector<Target> targets = parse_targets(options, source);
  if (first_of_kind(targets, true)) warn_of_config_ids(source, options.common, io, warnings);
  // a GGUF's query sees everything: with the window lifted nothing is lost
  source.checkpoint.config.sliding_window = asked_sliding_window(options.rope.sliding_window, source.checkpoint.config);
  const Observed merged = observe_targets(source, targets, options.modifiers.saturate);
  plan_ggufs(options, source, targets, io);
  const ConvertedRope rope = plan_rope(options, source, targets);
  announce(plan_outputs(targets, source, split, options), options.common, io);
  if (!options.writer.dry_run)
    for (std::string& warning : write_targets(targets, source, rope.folder, split, options, io))
      warnings.push_back(std::move(warning));
  for (const std::string& line : {eaten_by_rounding(merged), encoded_again(merged)})
    if (!line.empty()) warnings.push_back(line), warn(line, options.common, io);

  if (rope.wanted && !options.writer.dry_run) read_back(*rope.wanted, options, targets);
  Output output = describe_outputs(targets, source, options);
  output.warnings = std::move(warnings);
  if (!options.writer.dry_run)
    for (const Target& target : targets)
      for (const fs::path& path : paths_of(target)) output.written.push_back(path.string());
  std::vector<MeasuredOutput> measured;
  for (const Target& target : targets) measured.push_back(measured_of(target));
  emit_measured(std::move(output), measured, options.rmse, options.common, io);
  return 0;
}

}  // namespace

Command convert_command() {
  return make_command("convert", "to GGUF and other types: any number of outputs from one read", declare, run_convert);
}

}  // namespace ropewalk::tools
